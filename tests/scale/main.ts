/**
 * A simulated cluster against the real services of a control plane, see README.md.
 *
 *     deno run -A tests/scale/main.ts [--nodes 200] [--pods 2000] [--seed 1] [--policies 20]
 *
 * Exit code 1 when the nodes do not converge or do not acknowledge, or a call fails that no restart explains.
 * @module
 */
import { parseArgs } from "node:util";
import { SERVICES } from "./processes.ts";
import { SimulatedCluster } from "./simulated_cluster.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "200" },
    pods: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
    policies: { type: "string", default: "20" },
    workers: { type: "string", default: "2" },
    mirrors: { type: "string", default: "4" },
    "at-once": { type: "string", default: "16" },
    /** Nodes that register and announce the pods, default all; the others only watch and acknowledge. */
    announcing: { type: "string" },
    "heartbeat-s": { type: "string", default: "10" },
    apart: { type: "boolean", default: false },
    "shared-identities": { type: "boolean", default: false },
    /** A service that is killed and started again halfway, and once more when all have converged. */
    restart: { type: "string" },
    "converge-only": { type: "boolean", default: false },
    timeout: { type: "string", default: "600" },
    services: { type: "string", default: new URL("../../", import.meta.url).pathname },
    profile: { type: "string" },
    /** Where sockets and databases are; default: the system's directory for temporary files. */
    directory: { type: "string" },
  },
});
const [nodes, pods, seed, policies, workers, mirrors, atOnce, timeoutS] = [
  values.nodes,
  values.pods,
  values.seed,
  values.policies,
  values.workers,
  values.mirrors,
  values["at-once"],
  values.timeout,
].map(Number);
const announcing = Math.min(nodes, Number(values.announcing ?? nodes));
const restarted = SERVICES.find((name) => name === values.restart);
if (values.restart !== undefined && restarted === undefined) {
  console.error(`--restart: ${values.restart} is none of ${SERVICES.join(", ")}`);
  Deno.exit(2);
}
const directory = await Deno.makeTempDir({ prefix: "weir-scale-", dir: values.directory });
const cluster = new SimulatedCluster({
  nodes,
  announcing,
  pods,
  seed,
  workers,
  mirrors,
  atOnce,
  isJoint: !values.apart,
  allocatesEach: !values["shared-identities"],
  heartbeatMs: Number(values["heartbeat-s"]) * 1000,
  directory,
  root: values.services,
  profile: values.profile,
  timeoutS,
});
const { processes } = cluster;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const print = (what: string, ...cells: string[]) => console.log(`${what.padEnd(34)} ${cells.join("  ")}`);
const inSeconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const load = () => `load ${Deno.loadavg()[0].toFixed(1)}`;

type Moment = ReturnType<typeof moment>;
/** What the services have used up to now. */
function moment() {
  const { acknowledgements } = cluster.state;
  return { usage: processes.usage(), acknowledgements, atMs: performance.now() };
}

/** CPU of the services at rest, ms in each second. */
let rest: number[] = SERVICES.map(() => 0);

/** CPU since `before`, and of it what is more than they take at rest in the same time. */
function printCpu(what: string, before: Moment, per: number): void {
  const now = moment();
  const cells = SERVICES.map((name, i) => {
    const ms = now.usage[i].cpuMs - before.usage[i].cpuMs;
    const moreMs = Math.max(0, ms - rest[i] * (now.atMs - before.atMs) / 1000);
    return `${name} ${(moreMs / per).toFixed(1)} of ${(ms / per).toFixed(1)} ms`;
  });
  print(what, ...cells);
}

function printMemory(idle: Moment): void {
  processes.usage().forEach(({ rssMib, ownMib }, i) => {
    const before = idle.usage[i], perNode = (ownMib - before.ownMib) * 1024 / nodes;
    print(
      `memory ${SERVICES[i]}`,
      `RSS ${rssMib.toFixed(0)} MiB (idle ${before.rssMib.toFixed(0)}), its own ${ownMib.toFixed(0)} (${
        before.ownMib.toFixed(0)
      }), ${perNode.toFixed(1)} KiB per node`,
    );
  });
  const all = processes.workersUsage();
  const sum = (of: "rssMib" | "cpuMs") => all.reduce((sum, one) => sum + one[of], 0);
  print("the simulator's own", `${sum("rssMib").toFixed(0)} MiB RSS, ${inSeconds(sum("cpuMs"))} of CPU`);
}

async function converge(idle: Moment): Promise<void> {
  const startMs = performance.now(), sinceStart = () => inSeconds(performance.now() - startMs);
  let toldMs = startMs;
  const isTime = () => performance.now() - toldMs > 10_000 && (toldMs = performance.now()) > 0;
  const begun = (count: number) =>
    cluster.until(`${count} nodes have begun`, () => {
      const { begun, bytes } = cluster.state;
      if (isTime()) {
        const [{ rssMib, cpuMs }] = processes.usage();
        console.error(
          `${sinceStart()}: ${begun} nodes, ${(bytes / 2 ** 20).toFixed(0)} MiB read; ` +
            `allocator ${inSeconds(cpuMs)}, ${rssMib.toFixed(0)} MiB`,
        );
      }
      return begun >= count;
    });
  cluster.begin();
  if (restarted !== undefined) {
    await begun(nodes / 2);
    const ms = performance.now();
    await processes.restart(restarted);
    print(`${restarted} killed halfway`, `ready again after ${inSeconds(performance.now() - ms)}`);
  }
  await begun(nodes);
  print("every node registered, announced", sinceStart());
  await cluster.converged((count) => isTime() && console.error(`${sinceStart()}: ${count} nodes have all`));
  print("from nothing to all pods", sinceStart(), load());
  print(
    "  CPU",
    ...processes.usage().map(({ cpuMs }, i) => `${SERVICES[i]} ${inSeconds(cpuMs - idle.usage[i].cpuMs)}`),
    `simulator ${inSeconds(processes.workersUsage().reduce((sum, { cpuMs }) => sum + cpuMs, 0))}`,
  );
  const { bytes, reads, reopened } = cluster.state;
  print(
    "  read by the counting nodes",
    `${(bytes / 2 ** 20).toFixed(0)} MiB in ${reads} reads; ${reopened} streams were opened again`,
  );
  const acknowledgedMs = await cluster.acknowledged();
  print("  acknowledged by all", `${inSeconds(acknowledgedMs)} later`);
}

/** The service is killed when all is quiet: until every node has heard of the change after it. */
async function disturb(service: typeof SERVICES[number]): Promise<void> {
  const before = moment(), { reopened } = cluster.state;
  await processes.restart(service);
  const readyMs = performance.now() - before.atMs;
  await cluster.change("after-restart");
  await cluster.heard("the change after the restart");
  const heardMs = performance.now() - before.atMs;
  await cluster.applyPolicy(policies);
  print(
    `${service} killed`,
    `ready after ${inSeconds(readyMs)}, a change heard by all after ${
      inSeconds(heardMs)
    }, a policy acknowledged by all`,
    `after ${inSeconds(performance.now() - before.atMs)}; ${
      cluster.state.reopened - reopened
    } streams were opened again`,
  );
  printCpu("  CPU of it", before, 1);
}

async function measureChanges(): Promise<void> {
  await pause(2000);
  let before = moment();
  await pause(20_000);
  const after = moment(), restS = (after.atMs - before.atMs) / 1000;
  rest = before.usage.map(({ cpuMs }, i) => (after.usage[i].cpuMs - cpuMs) / restS);
  print(
    "CPU of a second at rest",
    ...SERVICES.map((name, i) => `${name} ${rest[i].toFixed(1)} ms`),
    `${((after.acknowledgements - before.acknowledgements) / restS).toFixed(0)} acknowledgements; ${load()}`,
  );
  console.log("CPU beyond rest, of all CPU:");

  const changes = 50;
  before = moment();
  for (let i = 0; i < changes; i++) {
    await cluster.change(`p-${seed}-${i}`);
    await pause(20);
  }
  let lateMs = await cluster.heard("the changes");
  printCpu(`CPU per ipcache change, ${changes}`, before, changes);
  print("  the last heard by all", `within ${inSeconds(lateMs + 500)}`);

  const single = 5;
  before = moment();
  for (let i = 0; i < single; i++) {
    await cluster.change(`s-${seed}-${i}`);
    await cluster.heard("the change");
    await pause(1000);
  }
  printCpu(`CPU per lone ipcache change, ${single}`, before, single);

  const burst = 1000;
  before = moment();
  await Promise.all(Array.from({ length: 8 }, async (_, lane) => {
    for (let i = lane; i < burst; i += 8) await cluster.change(`b-${seed}-${i}`);
  }));
  lateMs = await cluster.heard("the burst");
  printCpu(`CPU per ipcache change of ${burst}`, before, burst);
  print("  the last heard by all", `within ${inSeconds(lateMs + 500)}`);
}

async function measurePolicies(): Promise<void> {
  if (policies === 0) return;
  const before = moment(), times: number[] = [];
  for (let i = 0; i < policies; i++) times.push(await cluster.applyPolicy(i));
  printCpu("CPU per policy change", before, policies);
  times.sort((a, b) => a - b);
  const told = cluster.state.acknowledgements - before.acknowledgements;
  print(
    "policy acknowledged by all",
    `median ${inSeconds(times[times.length >> 1])}, longest ${inSeconds(times.at(-1)!)};`,
    `${(told / policies / nodes).toFixed(2)} acknowledgements per node and policy`,
  );
}

async function run(): Promise<void> {
  await processes.startServices();
  const idle = moment();
  console.log(
    `${nodes} nodes (${announcing} of them announce), ${pods} pods, seed ${seed}; ${
      values.apart ? "4 streams" : "2 joint streams"
    } each; ${
      values["shared-identities"] ? "identities asked for once; " : ""
    }${mirrors} whole mirrors; ${load()}`,
  );
  await converge(idle);
  if (restarted !== undefined) await disturb(restarted);
  if (!values["converge-only"]) {
    await measureChanges();
    await measurePolicies();
  }
  printMemory(idle);
}

let failed = false;
try {
  await run();
} catch (error) {
  failed = true;
  console.log(`failure: ${(error as Error).message}`);
} finally {
  await cluster.stop();
  await Deno.remove(directory, { recursive: true });
}
for (const [why, count] of cluster.cuts) console.log(`cut and opened again: ${why} x ${count}`);
for (const [what, count] of cluster.failures) console.log(`failed and tried again: ${what} x ${count}`);
if (restarted === undefined && cluster.failures.size > 0) failed = true;
Deno.exit(failed ? 1 : 0);
