/**
 * Memory of each service of one host: the agent with its control plane in a network namespace of its own, idle or with
 * endpoints.
 *
 *     iso deno run -A tests/bench/control/memory.ts [--endpoints 0] [--settle-s 40]
 *
 * Columns in MiB, from /proc/PID/smaps_rollup: RSS; what is this process's alone (anonymous pages); pages of files (the Deno
 * binary), which all processes share, whoever else runs it; PSS, which depends on how many others do. "A node alone" is
 * what is each service's own, and the largest share of the files once: its PSS on a machine with nothing else of Deno.
 * @module
 */
import { parseArgs } from "node:util";
import { Endpoint } from "@weir/proto/endpoint";
import { cgroupRootHere } from "../../cgroup_root.ts";
import { BenchHost } from "./bench_host.ts";

const { values } = parseArgs({
  options: {
    endpoints: { type: "string", default: "0" },
    "settle-s": { type: "string", default: "40" },
  },
});
const endpointsCount = Number(values.endpoints), settleS = Number(values["settle-s"]);
/** Endpoints with addresses come from the node's pod CIDR, a /24; those beyond it are cgroups. */
const NAMESPACES_MAX = 200;
const NODE_SERVICES = ["datapath", "endpoint-manager", "flow-exporter"];

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Memory of a process in MiB. */
interface Memory {
  rss: number;
  pss: number;
  own: number;
  files: number;
}

function memoryOf(pid: number): Memory {
  const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  const field = (name: string) => Number(text.match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))![1]) / 1024;
  const rss = field("Rss"), own = field("Anonymous");
  return { rss, pss: field("Pss"), own, files: rss - own };
}

/** Adds the endpoints and waits until each is ready. */
async function addEndpoints(host: BenchHost, cgroups: string): Promise<void> {
  const client = host.client("endpoint-manager");
  const endpoints = client.collection("endpoints", Endpoint);
  for (let i = 0; i < endpointsCount; i++) {
    const labels = [`app=a${i % 50}`];
    if (i < NAMESPACES_MAX) {
      const name = await host.addNamespace(String(i));
      await endpoints.put(`e${i}`, { name: `e${i}`, netns: `/run/netns/${name}`, labels });
    } else {
      await Deno.mkdir(`${cgroups}/${i}`, { recursive: true });
      await endpoints.put(`e${i}`, { name: `e${i}`, cgroup: `${cgroups}/${i}`, labels });
    }
  }
  for (let last = -1;;) {
    const { items } = await endpoints.list();
    const ready = items.filter(({ status }) => status?.state === "READY").length;
    if (ready === endpointsCount) break;
    if (ready !== last) console.error(`${ready} of ${endpointsCount} endpoints are ready`);
    last = ready;
    await pause(2000);
  }
  client.close();
}

const host = new BenchHost();
const cgroups = `${cgroupRootHere()}/${host.tag}`;
try {
  await host.start();
  if (endpointsCount > 0) await addEndpoints(host, cgroups);
  await pause(settleS * 1000);
  const rows = Array.from(await host.pids(), ([name, pid]) => ({ name, memory: memoryOf(pid) }));
  console.log(`${endpointsCount} endpoints, ${settleS} s after; load ${Deno.loadavg()[0].toFixed(1)}`);
  const print = (name: string, cells: (string | number)[]) =>
    console.log(
      `${name.padEnd(22)}${
        cells.map((cell) => (typeof cell === "number" ? cell.toFixed(1) : cell).padStart(8)).join("")
      }`,
    );
  print("MiB", ["RSS", "own", "files", "PSS"]);
  for (const { name, memory: { rss, own, files, pss } } of rows) print(name, [rss, own, files, pss]);
  const alone = (names: string[]) => {
    const some = rows.filter(({ name }) => names.includes(name)).map(({ memory }) => memory);
    return some.reduce((sum, { own }) => sum + own, 0) + Math.max(...some.map(({ files }) => files));
  };
  print("a node alone", [alone(NODE_SERVICES)]);
  print("the same with agent", [alone(["agent", ...NODE_SERVICES])]);
} finally {
  await host[Symbol.asyncDispose]();
  await host.run("find", cgroups, "-depth", "-type", "d", "-delete").catch(() => {});
}
