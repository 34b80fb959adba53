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
import { WeirClient } from "@weir/client";
import { Process } from "@weir/proto/agent";
import { Endpoint } from "@weir/proto/endpoint";
import { cgroupRootHere } from "../../cgroup_root.ts";

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

const root = new URL("../../../", import.meta.url).pathname;
const tag = `wb-${Deno.pid}`, instance = `b${Deno.pid}`, server = `${tag}-server`, directory = `/run/${tag}`;
const cgroups = `${cgroupRootHere()}/${tag}`;
const env = { WEIR_RUN_DIR: directory, WEIR_STATE_DIR: `${directory}/state`, WEIR_INSTANCE: instance };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function run(...words: string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(words[0], { args: words.slice(1), env, stdout: "null" })
    .output();
  if (code !== 0) throw new Error(`${words.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

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

async function startAgent(): Promise<Deno.ChildProcess> {
  const words = [`--net=/run/netns/${server}`, "--", `${root}scripts/weir`, "agent", "--control-plane"];
  const agent = new Deno.Command("nsenter", {
    args: [...words, "--node-name", "server", "--ipv4", "192.0.2.1"],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = agent.stdout.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; !text.includes("Weir is ready");) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`The agent ended: ${text}`);
    text += value;
  }
  (async () => {
    while (!(await reader.read()).done);
  })();
  return agent;
}

/** Adds the endpoints and waits until each is ready. */
async function addEndpoints(client: WeirClient, spaces: string[]): Promise<void> {
  const endpoints = client.collection("endpoints", Endpoint);
  for (let i = 0; i < endpointsCount; i++) {
    const labels = [`app=a${i % 50}`];
    if (i < NAMESPACES_MAX) {
      const name = `${tag}-${i}`;
      await run("ip", "netns", "add", name);
      spaces.push(name);
      await endpoints.put(`e${i}`, { name: `e${i}`, netns: `/run/netns/${name}`, labels });
    } else {
      await Deno.mkdir(`${cgroups}/${i}`, { recursive: true });
      await endpoints.put(`e${i}`, { name: `e${i}`, cgroup: `${cgroups}/${i}`, labels });
    }
  }
  for (let last = -1;;) {
    const { items } = await endpoints.list();
    const ready = items.filter(({ status }) => status?.state === "READY").length;
    if (ready === endpointsCount) return;
    if (ready !== last) console.error(`${ready} of ${endpointsCount} endpoints are ready`);
    last = ready;
    await pause(2000);
  }
}

const spaces = [server];
let agent: Deno.ChildProcess | undefined;
try {
  await run("ip", "netns", "add", server);
  await run("ip", "-n", server, "link", "set", "lo", "up");
  await run("ip", "-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "far0");
  for (const device of ["eth0", "far0"]) await run("ip", "-n", server, "link", "set", device, "up");
  await run("ip", "-n", server, "address", "add", "192.0.2.1/24", "dev", "eth0");
  agent = await startAgent();
  const manager = new WeirClient(`unix:${directory}/${instance}/endpoint-manager.sock`);
  if (endpointsCount > 0) await addEndpoints(manager, spaces);
  manager.close();
  await pause(settleS * 1000);
  const supervisor = new WeirClient(`unix:${directory}/${instance}/agent.sock`);
  const { items: processes } = await supervisor.collection("processes", Process).list();
  supervisor.close();
  const rows = [
    { name: "agent", memory: memoryOf(agent.pid) },
    ...processes.map(({ name, pid }) => ({ name, memory: memoryOf(pid) })),
  ];
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
  agent?.kill("SIGTERM");
  await agent?.status;
  await run(`${root}scripts/weir`, "uninstall", "--instance", instance).catch(() => {});
  for (const name of spaces) await run("ip", "netns", "delete", name).catch(() => {});
  await run("find", cgroups, "-depth", "-type", "d", "-delete").catch(() => {});
  await Deno.remove(directory, { recursive: true }).catch(() => {});
}
