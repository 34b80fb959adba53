/**
 * A simulated cluster against the real services of a control plane, see README.md.
 *
 *     deno run -A tests/scale/main.ts [--nodes 200] [--pods 2000] [--seed 1] [--policies 20]
 *
 * Exit code 1 when the nodes do not converge, do not acknowledge, or a call or stream fails.
 * @module
 */
import { parseArgs } from "node:util";
import { WeirClient } from "@weir/client";
import { CollectionWatch, JointWatchRequest } from "@weir/proto/common";
import { IpcacheEntry } from "@weir/proto/identity";
import { NodePolicy } from "@weir/proto/policy";
import { type Counted, CountedStream } from "./counted_stream.ts";
import { Processes, SERVICES } from "./processes.ts";
import type { WorkerLoad, WorkerState } from "./node_worker.ts";

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
    timeout: { type: "string", default: "600" },
    services: { type: "string", default: new URL("../../", import.meta.url).pathname },
    profile: { type: "string" },
    /** Where sockets and databases are; default: the system's directory for temporary files. */
    directory: { type: "string" },
  },
});
const [nodesCount, pods, seed, policies, workers, mirrors, atOnce, timeoutS] = [
  values.nodes,
  values.pods,
  values.seed,
  values.policies,
  values.workers,
  values.mirrors,
  values["at-once"],
  values.timeout,
].map(Number);
const announcing = Math.min(nodesCount, Number(values.announcing ?? nodesCount));
const directory = await Deno.makeTempDir({ prefix: "weir-scale-", dir: values.directory });
const processes = new Processes({ directory, root: values.services, profile: values.profile });
const failures = new Map<string, number>();
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const fail = (what: string, error: Error) => failures.set(`${what}: ${error.message}`, 1);

async function until(what: string, done: () => boolean | Promise<boolean>, everyMs = 100): Promise<number> {
  const startMs = performance.now();
  while (!(await done())) {
    if (performance.now() - startMs > timeoutS * 1000) throw new Error(`${what}: not within ${timeoutS} s`);
    await pause(everyMs);
  }
  return performance.now() - startMs;
}

/** Starts the workers; their newest states, in their order. */
function startWorkers(): (WorkerState | undefined)[] {
  const states: (WorkerState | undefined)[] = [];
  for (let w = 0; w < workers; w++) {
    const nodes = Array.from({ length: nodesCount }, (_, i) => i).filter((i) => i % workers === w);
    states.push(undefined);
    const load: WorkerLoad = {
      allocator: processes.socket("identity-allocator"),
      engine: processes.socket("policy-engine"),
      nodes,
      mirrors: Math.min(nodes.length, Math.ceil(mirrors / workers)),
      isJoint: !values.apart,
      allocatesEach: !values["shared-identities"],
      heartbeatMs: Number(values["heartbeat-s"]) * 1000,
      atOnce: Math.ceil(atOnce / workers),
      announcing,
      pods,
      labelSets: 300,
      seed,
    };
    processes.startWorker(load, (said) => {
      if (said.kind === "state") states[w] = said as unknown as WorkerState;
      if (said.kind !== "failure") return;
      const key = `worker ${w} ${said.what}`;
      if (!failures.has(key)) console.error(key);
      failures.set(key, Number(said.count));
    });
  }
  return states;
}

let endReference = () => {};
/** A stream of the ipcache from now on, to compare those of the nodes with. */
async function openReference(): Promise<() => Counted> {
  let isOver = false;
  const watch = CollectionWatch.create({ collection: "ipcache" });
  const stream = new CountedStream({
    socket: processes.socket("identity-allocator"),
    ...(values.apart
      ? { path: "/v1/ipcache?watch=true", collection: "ipcache" }
      : { path: "/v1/watch", body: JointWatchRequest.encode({ watches: [watch] }) }),
    onEnd: (error) => isOver || fail("the reference stream", error),
  });
  await stream.open();
  const now = () => stream.collections.get("ipcache");
  await until("a list of the ipcache", () => now()?.isSynced === true, 10);
  endReference = () => {
    isOver = true;
    stream.close();
  };
  return () => now()!;
}

type Moment = ReturnType<typeof moment>;
/** What the services have used up to now. */
function moment() {
  return { usage: processes.usage(), atMs: performance.now() };
}

async function run(): Promise<void> {
  await processes.startServices();
  const allocator = new WeirClient({ socket: processes.socket("identity-allocator") }, {
    deadlineMs: 120_000,
  });
  const engine = new WeirClient({ socket: processes.socket("policy-engine") }, { deadlineMs: 120_000 });
  const idle = processes.usage();
  /** CPU of the services at rest, ms in each second. */
  let rest: number[] = SERVICES.map(() => 0);
  /** CPU since `before`, and of it what is more than they take at rest in the same time. */
  const table = (what: string, before: Moment, per: number) => {
    const now = moment();
    const cells = SERVICES.map((name, i) => {
      const ms = now.usage[i].cpuMs - before.usage[i].cpuMs;
      const moreMs = Math.max(0, ms - rest[i] * (now.atMs - before.atMs) / 1000);
      return `${name} ${(moreMs / per).toFixed(1)} of ${(ms / per).toFixed(1)} ms`;
    });
    console.log(`${what.padEnd(34)} ${cells.join("  ")}`);
  };
  console.log(
    `${nodesCount} nodes (${announcing} of them announce), ${pods} pods, seed ${seed}; ${
      values.apart ? "4 streams" : "2 joint streams"
    } ` +
      `each; ${
        values["shared-identities"] ? "identities asked for once; " : ""
      }${mirrors} whole mirrors; load ${Deno.loadavg()[0].toFixed(1)}`,
  );
  const startMs = performance.now();
  const seconds = () => ((performance.now() - startMs) / 1000).toFixed(1);
  const states = startWorkers();
  const sum = (of: (state: WorkerState) => number) =>
    states.reduce((all, state) => all + (state ? of(state) : 0), 0);
  let toldMs = startMs;
  await until("all nodes have begun", () => {
    if (performance.now() - toldMs > 10_000) {
      toldMs = performance.now();
      const [{ rssMib, cpuMs }] = processes.usage();
      console.error(
        `${seconds()} s: ${sum((s) => s.begun)} nodes, ${
          (sum((s) => s.bytes) / 2 ** 20).toFixed(0)
        } MiB read; ` +
          `allocator ${(cpuMs / 1000).toFixed(0)} s, ${rssMib.toFixed(0)} MiB`,
      );
    }
    return sum((state) => state.begun) === nodesCount;
  });
  console.log(`${"every node registered, announced".padEnd(34)} ${seconds()} s`);
  const reference = await openReference();
  const { puts, sum: revisions } = reference();
  if (puts !== pods) throw new Error(`the ipcache has ${puts} entries`);
  const expected = [`${puts} ${revisions}`, `mirror ${pods}`];
  await until("every node has every pod", () => {
    const counts = states.map((state) =>
      Object.entries(state!.ipcache).reduce(
        (all, [key, count]) => all + (expected.includes(key) ? count : 0),
        0,
      )
    );
    if (performance.now() - toldMs > 10_000) {
      toldMs = performance.now();
      console.error(`${seconds()} s: ${counts.join(" + ")} of ${nodesCount} nodes have all`);
    }
    return counts.reduce((all, count) => all + count, 0) === nodesCount;
  });
  console.log(`${"from nothing to all pods".padEnd(34)} ${seconds()} s`);
  const spent = processes.usage().map(({ cpuMs }, i) =>
    `${SERVICES[i]} ${((cpuMs - idle[i].cpuMs) / 1000).toFixed(1)} s`
  );
  console.log(`${"  CPU".padEnd(34)} ${spent.join("  ")}`);
  console.log(
    `${"  read by the counting nodes".padEnd(34)} ${(sum((s) => s.bytes) / 2 ** 20).toFixed(0)} MiB in ` +
      `${sum((s) => s.reads)} reads`,
  );

  const inForce = async (revision: number) => {
    const { items } = await engine.collection("nodepolicies", NodePolicy).list();
    return items.filter((node) => node.heardUnixS > 0 && node.policyRevision >= revision).length >=
      announcing;
  };
  await until("the first acknowledgements", () => inForce(0), 1000);
  await pause(2000);
  let before = moment();
  await pause(20_000);
  const after = moment();
  rest = before.usage.map(({ cpuMs }, i) =>
    (after.usage[i].cpuMs - cpuMs) / (after.atMs - before.atMs) * 1000
  );
  console.log(
    `${"CPU of a second at rest".padEnd(34)} ${
      SERVICES.map((name, i) => `${name} ${rest[i].toFixed(1)} ms`).join("  ")
    }; load ${Deno.loadavg()[0].toFixed(1)}`,
  );
  console.log("CPU beyond rest, of all CPU:");

  const ipcache = allocator.collection("ipcache", IpcacheEntry);
  const entry = (await ipcache.list({ limit: "1" } as never)).items[0];
  let written = reference().puts;
  /** Until every node has heard of what was written. */
  const heard = (what: string) =>
    until(what, () => {
      const { puts, revision } = reference();
      return puts >= written && states.every((state) => state!.revision >= revision);
    }, 50);
  const write = async (podName: string) => {
    await ipcache.put(entry.prefix, { ...entry, podName });
    written++;
  };
  const changes = 50;
  before = moment();
  for (let i = 0; i < changes; i++) {
    await write(`p-${seed}-${i}`);
    await pause(20);
  }
  let lateMs = await heard("every node has heard of the changes");
  table(`CPU per ipcache change, ${changes}`, before, changes);
  console.log(`${"  the last heard by all".padEnd(34)} within ${((lateMs + 500) / 1000).toFixed(1)} s`);

  const single = 5;
  before = moment();
  for (let i = 0; i < single; i++) {
    await write(`s-${seed}-${i}`);
    await heard("every node has heard of the change");
    await pause(1000);
  }
  table(`CPU per lone ipcache change, ${single}`, before, single);

  const burst = 1000;
  before = moment();
  await Promise.all(Array.from({ length: 8 }, async (_, lane) => {
    for (let i = lane; i < burst; i += 8) {
      await write(`b-${seed}-${i}`);
    }
  }));
  lateMs = await heard("every node has heard of the burst");
  table(`CPU per ipcache change of ${burst}`, before, burst);
  console.log(`${"  the last heard by all".padEnd(34)} within ${((lateMs + 500) / 1000).toFixed(1)} s`);

  before = moment();
  const times: number[] = [];
  for (let i = 0; i < policies; i++) {
    const manifest = JSON.stringify({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: `p${i}`, namespace: "default" },
      spec: {
        podSelector: { matchLabels: { app: `a${(seed * 31 + i * 7) % 300}` } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: `a${(seed * 17 + i) % 300}` } } }] }],
      },
    });
    const changedMs = performance.now();
    const answer = await engine.send("/v1/policies:apply", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ manifest }),
    });
    const { policyRevision: revision } = await answer.json();
    if (!(Number(revision) > 0)) throw new Error("policies:apply named no revision");
    await until(`policy ${i} in force`, () => inForce(Number(revision)), Math.max(100, nodesCount / 5));
    times.push(performance.now() - changedMs);
  }
  table("CPU per policy change", before, policies);
  times.sort((a, b) => a - b);
  console.log(
    `${"policy acknowledged by all".padEnd(34)} median ${times[times.length >> 1].toFixed(0)} ms, ` +
      `longest ${times.at(-1)!.toFixed(0)} ms`,
  );
  processes.usage().forEach(({ rssMib, ownMib }, i) => {
    const perNode = (ownMib - idle[i].ownMib) * 1024 / nodesCount;
    console.log(
      `${`memory ${SERVICES[i]}`.padEnd(34)} RSS ${rssMib.toFixed(0)} MiB (idle ${
        idle[i].rssMib.toFixed(0)
      }), its own ${ownMib.toFixed(0)} (${idle[i].ownMib.toFixed(0)}), ${perNode.toFixed(1)} KiB per node`,
    );
  });
  const simulators = processes.usage(true);
  console.log(
    `${"the simulator's own".padEnd(34)} ${
      simulators.reduce((all, { rssMib }) => all + rssMib, 0).toFixed(0)
    } ` +
      `MiB RSS, ${(simulators.reduce((all, { cpuMs }) => all + cpuMs, 0) / 1000).toFixed(0)} s of CPU`,
  );
}

let failed = false;
try {
  await run();
} catch (error) {
  failed = true;
  fail("run", error as Error);
} finally {
  endReference();
  await processes.stop();
  await Deno.remove(directory, { recursive: true });
}
for (const [what, count] of failures) console.log(`failure: ${what} x ${count}`);
console.log(`failures: ${failures.size}`);
Deno.exit(failed || failures.size > 0 ? 1 : 0);
