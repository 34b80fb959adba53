/**
 * Far more events than anybody can take: every packet is counted, what was lost is said where a person looks, and other pods go on, whoever
 * of those who read events stands still. How fast they go on is measured in tests/bench/README.md; no time is asserted here.
 * @module
 */
import assert from "node:assert/strict";
import { systemClock } from "@weir/common";
import { connectGrpc, type GrpcConnection } from "@weir/grpc";
import { GetFlowsRequest } from "@weir/proto/observer";
import { until } from "@weir/common/testing/until";
import { readExposition } from "@weir/common/testing/exposition";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`over${Deno.pid}`);
const program = new URL("testdata/pressure.py", import.meta.url).pathname;
const FLOOD = 100_000;
const pod = (name: string, command: string) =>
  `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-1, containers: [{ name: c, command: ${command} }] }
`;
const IDLE = `["sleep", "infinity"]`;
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("flood", IDLE),
  pod("victim", IDLE),
  pod("asker", IDLE),
  pod("echo", `["python3", "${program}", "echo", "7"]`),
].join("---\n");
const closed = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: closed, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: victim } }
  ingress: [{ fromEndpoints: [{ matchLabels: { app: asker } }] }]
`;

const addresses = new Map<string, string>();

if (canRun) {
  Deno.test.beforeAll(async () => {
    // One that is stopped most of the time is not to be taken for hung: what begins anew counts anew.
    await lab.up(1, manifests, ["--agent", "hung-after-s=3000"]);
    await lab.apply(closed);
    const rows = JSON.parse(await lab.ok(["lab", "status", "-o", "json"])).pods;
    for (const { name, ipv4 } of rows) addresses.set(name, ipv4);
  });
  Deno.test.afterAll(async () => await lab.down());
}

async function metric(service: string, name: string, labels: Record<string, string> = {}): Promise<number> {
  const socket = `/run/weir/${lab.name}-node-1/${service}.sock`;
  const { out } = await run("curl", ["-sS", "--max-time", "60", "--unix-socket", socket, "http://x/metrics"]);
  const samples = readExposition(out).get(name)?.samples ?? [];
  return samples.filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

const denied = () => metric("datapath", "weir_datapath_packets", { reason: "POLICY_DENIED" });
const exec = (name: string, ...words: string[]) =>
  lab.ok(["lab", "exec", `shop/${name}`, "--", "python3", program, ...words]);
const flood = async (count = FLOOD) =>
  Number(await exec("flood", "flood", addresses.get("victim")!, "9", `${count}`));

const made = () => metric("datapath", "weir_datapath_share_entries", { name: "shop/flood", table: "events" });
const lost = () => metric("datapath", "weir_datapath_lost_events");

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

test("every packet of a flood is counted, and each of its events was made or is told as lost", async () => {
  const before = await denied();
  assert.equal(await flood(), FLOOD);
  await until("all are counted", async () => await denied() - before === FLOOD);
  await until("each event was made or lost", async () => await made() + await lost() === await denied());
});

test("what is lost stands in the history's answers and in the metrics", async () => {
  // How many are lost is the machine's; that some are is the flood's.
  await until("more than can be taken", async () => await lost() > 0 || (await flood(), false));
  const count = await lost(), mine = { source: "perf_event_ring_buffer" };
  await until(
    "weir status tells",
    async () => (await lab.weir(["status"])).out.includes(`${count + await unread()} events lost`),
  );
  await until(
    "Hubble's counter is as the kernel's",
    async () => await metric("flow-exporter", "hubble_lost_events_total", mine) === count,
  );
  let said = "";
  await until(() => said, async () => {
    said = await lab.ok(["top", "drops", "--since", "1h"]);
    return / [1-9]\d* events lost of default\/node-1 \(PERF_EVENT_RING_BUFFER\)/.test(said);
  });
});

test("other pods are answered, and every packet is counted, while the flow exporter stands still", async () => {
  const status = await lab.ok(["status"]);
  const pid = Number(/flow-exporter +\S+ +(\d+)/.exec(status)?.[1]);
  const before = await denied();
  Deno.kill(pid, "SIGSTOP");
  try {
    assert.equal(await flood(), FLOOD);
    // Missing a question for a second is a slow machine's.
    const [, missed] = (await exec("asker", "ask", addresses.get("echo")!, "7", "200")).split(" ").map(
      Number,
    );
    assert.ok(missed < 200, "somebody is answered");
    await until("all are counted", async () => await denied() - before === FLOOD);
  } finally {
    // The agent starts one anew that answers nothing for long.
    await run("kill", ["-CONT", `${pid}`]);
  }
  await until(
    "it goes on, and learns what it missed",
    async () =>
      await metric("flow-exporter", "hubble_lost_events_total", { source: "perf_event_ring_buffer" }) ===
        await lost(),
  );
});

/** Lets a process run a moment of each third of a second: it takes so much less than it could. */
class Slowed implements AsyncDisposable {
  readonly #pid: number;
  #isOver = false;
  readonly #running: Promise<void>;

  constructor(pid: number) {
    this.#pid = pid;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      Deno.kill(this.#pid, "SIGSTOP");
      await systemClock.sleep(330);
      Deno.kill(this.#pid, "SIGCONT");
      await systemClock.sleep(1);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }
}

/** `weir observe -f` of a pod that says nothing: what it prints is what was lost. */
class Watching implements AsyncDisposable {
  said = "";
  readonly #process = new Deno.Command(new URL("../../scripts/weir", import.meta.url).pathname, {
    args: ["--lab", lab.name, "observe", "-f", "--pod", "shop/nobody"],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  readonly #reading = this.#read();

  async #read(): Promise<void> {
    for await (const text of this.#process.stdout.pipeThrough(new TextDecoderStream())) this.said += text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await Promise.all([this.#process.status, this.#reading]);
  }
}

/** Connections to a node's Hubble API that each follow all flows and read nothing after the first. */
async function stalledReaders(count: number): Promise<GrpcConnection[]> {
  const path = `/run/weir/${lab.name}-node-1/hubble.sock`;
  const request = GetFlowsRequest.encode({ follow: true, number: 1 });
  return await Promise.all(Array.from({ length: count }, async () => {
    const connection = await connectGrpc({ path });
    await connection.stream("/observer.Observer/GetFlows", request)[Symbol.asyncIterator]().next();
    return connection;
  }));
}

const residentMiB = async (pid: number) =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(await Deno.readTextFile(`/proc/${pid}/status`))?.[1]) / 1024;
const processId = async (service: string) =>
  Number(new RegExp(`${service} +\\S+ +(\\d+)`).exec((await lab.weir(["status"])).out)?.[1]);
const hubbleLost = (source: string) => metric("flow-exporter", "hubble_lost_events_total", { source });
const unread = () => metric("datapath", "weir_datapath_unread_events");
const counted = () => metric("flow-exporter", "hubble_drop_total", { reason: "POLICY_DENIED" });

/** Milliseconds that a policy takes until it is in force, the best of three, and microseconds of a question between two other pods. */
async function measured(): Promise<{ policyMs: number; askUs: number }> {
  const policy = closed.replaceAll("victim", "echo").replace("closed", "extra");
  let policyMs = Infinity;
  for (let n = 0; n < 3; n++) {
    const start = performance.now();
    await lab.apply(policy);
    policyMs = Math.min(policyMs, performance.now() - start);
    await lab.drop("cnp:shop/extra");
  }
  const [askUs] = (await exec("asker", "ask", addresses.get("echo")!, "7", "2000")).split(" ").map(Number);
  return { policyMs, askUs };
}

test("of ten times more events than are taken each is counted, told where a person looks, and held by nobody", async () => {
  await until("nobody is missed", async () => (await lab.weir(["status"])).code === 0);
  const [exporter, datapath] = [await processId("flow-exporter"), await processId("datapath")];
  const before = await measured(), events = { denied: await denied(), counted: await counted() };
  const lostBefore = await lost() + await unread();
  const seen = async () => {
    const made = await denied() - events.denied, gone = await lost() + await unread() - lostBefore;
    return { made, taken: made - gone };
  };
  await using watching = new Watching();
  const readers = await stalledReaders(100), sizes: number[] = [];
  let during = before, ratio = 0, sent = 0;
  try {
    await using _ = new Slowed(exporter);
    // What there is room for comes first; from then on it is what is taken.
    sent += await flood(2 * FLOOD);
    const full = await seen();
    for (let round = 0; ratio < 10 && round < 6; round++) {
      const flooding = Promise.all([flood(5 * FLOOD), flood(5 * FLOOD)]);
      if (round === 0) during = await measured();
      for (const count of await flooding) sent += count;
      const { made, taken } = await seen();
      ratio = (made - full.made) / (taken - full.taken);
      sizes.push(await residentMiB(exporter) + await residentMiB(datapath));
    }
    sent += await flood();
    sizes.push(await residentMiB(exporter) + await residentMiB(datapath));
  } finally {
    for (const reader of readers) reader.close();
  }
  const { made } = await seen();
  assert.equal(made, sent, "every packet is counted");
  assert.ok(ratio >= 10, `${ratio} times more than were taken, of ${made} packets`);
  await until("each event was seen or is told as lost", async () => {
    const gone = await lost() + await unread() - lostBefore;
    return await counted() - events.counted + gone === made;
  });
  await until(
    "by Hubble's two counters",
    async () =>
      await hubbleLost("perf_event_ring_buffer") === await lost() &&
      await hubbleLost("observer_events_queue") === await unread(),
  );
  await until(
    () => `weir observe names whose events they are: ${watching.said.slice(-500)}`,
    () => /EVENTS LOST: PERF_EVENT_RING_BUFFER .* of shop\/flood/.test(watching.said),
  );
  const told = await lost() + await unread();
  await until("in weir status", async () => (await lab.weir(["status"])).out.includes(`${told} events lost`));
  await until(
    "in weir top, of the history",
    async () =>
      /[1-9]\d* events lost of default\/node-1 \(PERF_EVENT_RING_BUFFER\)/.test(
        await lab.ok(["top", "drops", "--since", "1h"]),
      ),
  );
  const grown = Math.max(...sizes) - sizes[0];
  assert.ok(grown < 48, `flow exporter and datapath service grew by ${grown} MiB: ${sizes}`);
  console.log(
    `${made} events, ${ratio.toFixed(1)} times what was taken; a policy ${
      Math.round(before.policyMs)
    } ms before, ` +
      `${
        Math.round(during.policyMs)
      } during; a question ${before.askUs} us before, ${during.askUs} during; ` +
      `${Math.round(sizes[0])} to ${Math.round(Math.max(...sizes))} MiB`,
  );
});
