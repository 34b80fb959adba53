/**
 * The L7 proxy of a node, three processes, under load of connections that are kept: one is killed, all stand still, rules change, all are started anew, the
 * whole node is, the table of their connections is full, the control plane is away. Every answer is that of the newest rules, and flows without L7 rules go on as if nothing had been.
 * @module
 */
import assert from "node:assert/strict";
import { readExposition } from "@weir/common/testing/exposition";
import { until } from "@weir/common/testing/until";
import { at } from "../e2e/service.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { addressOf, pidOf, processes, processOf, signal } from "./faulty_lab.ts";
import { allows, CONNECTIONS, Hog, L7_CAST, Load, NODE, Plain, PORT } from "./l7_load.ts";

const lab = new Lab(`l7f${Deno.pid}`);
const WORKERS = ["l7-proxy", "l7-proxy-2", "l7-proxy-3"];
/** Connections that the node has room for. */
const HANDLES = 128;

/** Ports of clients whose connections a process has. */
async function portsOf(worker: string): Promise<number[]> {
  const socket = `/run/weir/${lab.name}-${NODE}/${worker}.sock`;
  const { out } = await run("curl", ["-sS", "-m", "20", "--unix-socket", socket, "http://x/v1/connections"]);
  const { items = [] }: { items?: { connection: { clientPort: number } }[] } = JSON.parse(out);
  return items.map(({ connection }) => connection.clientPort);
}

/** Waits for another process in the place of each of these. */
async function areAnew(before: Record<string, number>): Promise<void> {
  for (const [name, pid] of Object.entries(before)) {
    await until(`${name} is another process`, async () => {
      const now = await processOf(lab, NODE, name);
      return now.state === "ready" && now.pid !== pid;
    });
  }
}

async function agentPid(): Promise<number> {
  return (await processes(lab)).find(({ role, node }) => role === "agent" && node === NODE)?.pid ?? 0;
}

async function pidsOf(names: readonly string[]): Promise<Record<string, number>> {
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await pidOf(lab, name, NODE)] as const)),
  );
}

let load: Load, plain: Plain;
if (canRun) {
  Deno.test.beforeAll(async () => {
    const agent = [`l7-proxy-workers=${WORKERS.length}`, `handle-entries-max=${HANDLES}`];
    await lab.up(1, L7_CAST, agent.flatMap((option) => ["--agent", `${NODE}:${option}`]));
    await lab.apply(allows("/a"));
    load = await Load.begin(lab);
    plain = await Plain.begin(lab);
    await load.isJudged("/a", "at first");
  });
  Deno.test.afterAll(async () => {
    await load?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
    await lab.down();
  });
}
const faults = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

faults(
  "one process is killed: its own connections end, all others go on, and another one comes",
  async () => {
    const held = await Promise.all(WORKERS.map(portsOf));
    assert.equal(held.flat().length, CONNECTIONS);
    assert.ok(held.every((ports) => ports.length > 0), JSON.stringify(held));
    const before = await pidsOf([WORKERS[1]]), { length } = load.now.ended;
    Deno.kill(before[WORKERS[1]], "SIGKILL");
    await areAnew(before);
    await load.isJudged("/a", "after one was killed");
    // Not those made since: the kernel may have given one to the process that was about to die.
    const ended = load.now.ended.slice(length).filter((port) => held.flat().includes(port));
    assert.deepEqual(ended.sort(), held[1].sort(), "its connections, and no other");
    await plain.goesOn("after one was killed");
  },
);

faults(
  "rules change under load: each next request is judged by the newest ones, on every connection",
  async () => {
    const { length } = load.now.ended;
    for (const path of ["/b", "/a", "/b", "/a"]) {
      const between = await load.phase();
      await lab.apply(allows(path));
      await load.isJudged(path, `with ${path}`);
      // Whatever the rules said meanwhile.
      const strange = Object.keys(between()).filter((key) => !/ (200|403)$/.test(key));
      assert.deepEqual(strange, []);
    }
    assert.equal(load.now.ended.length, length, "no connection ended");
  },
);

faults(
  "each process in turn is started anew, as by an upgrade: new connections are taken all the while",
  async () => {
    const { refused } = load.now;
    for (const worker of WORKERS) {
      const before = await pidsOf([worker]);
      Deno.kill(before[worker], "SIGTERM");
      await areAnew(before);
      await load.isJudged("/a", `after ${worker} was started anew`);
    }
    assert.equal(load.now.refused, refused, "who connects finds one of them");
    await plain.goesOn("after an upgrade");
  },
);

faults(
  "all of it stands still: nothing passes unjudged, other flows go on, and the agent starts it anew",
  async () => {
    await load.isJudged("/a", "before all of it stands still");
    const before = await pidsOf(WORKERS), when = "while all of it stands still";
    for (const pid of Object.values(before)) Deno.kill(pid, "SIGSTOP");
    try {
      // The kernel still takes the connection; whoever asks waits, and is not let by.
      const address = await addressOf(lab, "web", NODE);
      const words = ["curl", "-sS", "-m", "2", "-o", "/dev/null", `http://${address}:${PORT}/a`];
      const asked = await at(lab, { pod: "default/client-1" }, words);
      assert.notEqual(asked.code, 0, `${asked.out}${asked.err}`);
      await plain.goesOn(when);
      await areAnew(before);
    } finally {
      for (const pid of Object.values(before)) signal(pid, "SIGCONT");
    }
    await load.isJudged("/a", "after all were started anew");
    for (const worker of WORKERS) {
      await until(
        `why ${worker} was started anew is said`,
        async () => /^hung: no answer for/.test((await processOf(lab, NODE, worker)).lastError),
      );
    }
    await plain.goesOn("after all were started anew");
  },
);

/** What the node's datapath counts. */
async function counted(name: string, labels: Record<string, string>): Promise<number> {
  const socket = `/run/weir/${lab.name}-${NODE}/datapath.sock`;
  const { out } = await run("curl", ["-sS", "-m", "20", "--unix-socket", socket, "http://x/metrics"]);
  const samples = readExposition(out).get(name)?.samples ?? [];
  return samples.filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

/** Connections that the node has refused because the proxy was away, or so many were refused before that their share of handles is used up. */
async function refusals(): Promise<number> {
  const reasons = ["PROXY_NOT_THERE", "HANDLE_SHARE_EXHAUSTED"];
  const counts = await Promise.all(reasons.map((reason) => counted("weir_datapath_packets", { reason })));
  return counts[0] + counts[1];
}

faults(
  "the table of handles is full: who fills it is refused at once and named, nobody else notices, and there is room again",
  async () => {
    await load.isJudged("/a", "before the table is full");
    const before = load.now, wanted = 2 * HANDLES, share = { name: "default/client-2", table: "handles" };
    {
      await using hog = await Hog.begin(lab, wanted);
      const { denied, refused, failed } = await hog.seen();
      assert.deepEqual([failed, denied + refused], [0, wanted]);
      assert.ok(denied >= HANDLES / 4 && denied < HANDLES - CONNECTIONS, `${denied} connections found room`);
      assert.ok(await counted("weir_datapath_share_refused", share) >= refused);
      assert.ok(await counted("weir_datapath_packets", { reason: "HANDLE_SHARE_EXHAUSTED" }) >= refused);
      assert.match(await lab.ok(["top", "handles"]), /node-1 +default\/client-2 [^]* over its share/);
      await load.isJudged("/a", "while the table is full");
      await plain.goesOn("while the table is full");
    }
    const { ended, refused, failed, silent } = load.now;
    assert.deepEqual(
      [ended.length, refused, failed, silent],
      [before.ended.length, before.refused, before.failed, before.silent],
      "who was there has lost nothing",
    );
    await until("there is room again", async () => {
      await using few = await Hog.begin(lab, 8);
      return (await few.seen()).denied === 8;
    });
  },
);

for (const [how, name] of [["SIGTERM", "is upgraded"], ["SIGKILL", "is killed"]] as const) {
  faults(
    `all of the node ${name}: its judged connections end and are refused at once until it is back, others go on`,
    async () => {
      await load.isJudged("/a", `before the node ${name}`);
      const held = await Promise.all(WORKERS.map(portsOf)), before = await pidsOf(WORKERS);
      assert.equal(held.flat().length, CONNECTIONS);
      const refusalsBefore = await refusals(), { ended, refused, failed, silent } = load.now;
      const answers = await load.phase();
      const pid = await agentPid();
      signal(pid, how);
      await until("the node has another agent", async () => ![0, pid].includes(await agentPid()));
      await plain.goesOn(`while the node ${name}`);
      await areAnew(before);
      await load.isJudged("/a", `after the node ${name}`);
      await plain.goesOn(`after the node ${name}`);
      // What is lost: each connection that was held, once, and those that began in between. Nobody waits, and nothing passes unjudged.
      const now = load.now, lost = now.ended.slice(ended.length);
      assert.deepEqual(lost.filter((port) => held.flat().includes(port)).sort(), held.flat().sort());
      assert.ok(lost.length <= CONNECTIONS * (WORKERS.length + 1), `${lost.length} connections ended`);
      assert.deepEqual([now.failed, now.silent], [failed, silent], "whoever loses its connection hears so");
      assert.deepEqual(Object.keys(answers()).filter((key) => !["/a 200", "/b 403"].includes(key)), []);
      // And it is said: each refusal at least once.
      assert.ok(now.refused > refused, "nobody listened for a while");
      await until(
        `${now.refused - refused} refusals are counted`,
        async () => await refusals() - refusalsBefore >= now.refused - refused,
      );
    },
  );
}

faults("the control plane is away: rules go on, also of a process that starts meanwhile", async () => {
  const plane = await pidsOf(["policy-engine", "identity-allocator"]), before = await pidsOf([WORKERS[2]]);
  for (const pid of Object.values(plane)) Deno.kill(pid, "SIGSTOP");
  try {
    Deno.kill(before[WORKERS[2]], "SIGKILL");
    await load.isJudged("/a", "without the control plane");
    await areAnew(before);
    await load.isJudged("/a", "by a process that started without it");
    await plain.goesOn("without the control plane");
  } finally {
    for (const pid of Object.values(plane)) signal(pid, "SIGCONT");
  }
  await until("the control plane is back", async () => (await lab.weir(["policy", "list"])).code === 0);
  await lab.apply(allows("/b"));
  await load.isJudged("/b", "with the control plane again");
});
