import assert from "node:assert/strict";
import { type Clock, Logger, type ProblemError } from "@weir/common";
import { Database } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { NodePolicy, WaitRequest } from "@weir/proto/policy";
import { NODE_POLICIES_MAX, NodePolicies } from "./node_policies.ts";
import { NODE_POLICY_MIGRATIONS } from "./node_policy_rows.ts";

/** A clock whose sleepers wake when a test moves it. */
class TestClock implements Clock {
  ms = 1_700_000_000_000;
  readonly #sleepers = new Set<{ untilMs: number; done: () => void }>();

  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted || ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper = { untilMs: this.ms + ms, done: resolve };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        resolve();
      });
    });
  }
  /** Moves on; what wakes has run when it resolves. */
  async pass(ms: number): Promise<void> {
    this.ms += ms;
    for (const sleeper of [...this.#sleepers]) {
      if (sleeper.untilMs > this.ms) continue;
      this.#sleepers.delete(sleeper);
      sleeper.done();
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/** One replica's part, in a database that has the schema. */
class Replica {
  readonly clock: TestClock;
  nodes: string[] | undefined = ["node-1", "node-2"];
  policyRevision = 0;
  readonly database: Database;
  readonly policies: NodePolicies;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(url: string, clock = new TestClock()) {
    this.clock = clock;
    this.database = new Database(url);
    this.policies = new NodePolicies({
      database: this.database,
      clock,
      log: Logger.silent(),
      nodes: () => this.nodes,
      policyRevision: () => this.policyRevision,
    });
  }

  async start(): Promise<this> {
    await this.database.migrate(NODE_POLICY_MIGRATIONS);
    this.#running = this.policies.run(this.#stop.signal);
    return this;
  }

  publish(epoch: string, revision: number, policyRevision: number): void {
    this.policyRevision = policyRevision;
    this.policies.published({ epoch, revision }, policyRevision, `${policyRevision}:0123456789abcdef`);
  }

  tell(node: string, epoch: string, revision: number, more: Partial<NodePolicy> = {}): NodePolicy {
    return this.policies.put(node, NodePolicy.create({ node, epoch, revision, ...more }));
  }

  look(policyRevision = 0) {
    return this.policies.wait(WaitRequest.create({ policyRevision, timeoutS: 0 }));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.database.close();
  }
}

async function passUntil(clock: TestClock, what: () => boolean): Promise<void> {
  for (let i = 0; !what(); i++) {
    assert.ok(i < 2000, `Not after ${i} steps: ${what}`);
    await clock.pass(500);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

Deno.test("NodePolicies wants signs of life of many nodes less often, but before they are forgotten", async () => {
  const replica = new Replica("sqlite::memory:");
  try {
    let { repeatS } = replica.tell("node-0", "e", 1);
    const wanted = new Set([repeatS]);
    for (let n = 1; n < 20_000; n++) {
      const { repeatS: next } = replica.tell(`node-${n}`, "e", 1);
      assert.ok(next >= repeatS && next < 30, `${next} s with ${n} nodes`);
      wanted.add(repeatS = next);
    }
    assert.equal(Math.min(...wanted), 6);
    assert.ok(repeatS > 20);
  } finally {
    await replica.close();
  }
});

Deno.test("NodePolicies says who is behind, with since when, and what is in force there", async () => {
  const replica = new Replica("sqlite::memory:"), { clock } = replica;
  try {
    replica.publish("e", 100, 7);
    assert.deepEqual(replica.tell("node-1", "e", 100), {
      node: "node-1",
      epoch: "e",
      revision: 100,
      prefixEpoch: "",
      prefixRevision: 0,
      policyRevision: 7,
      sinceUnixS: clock.ms / 1000,
      error: "",
      endpoints: 0,
      heardUnixS: clock.ms / 1000,
      behind: false,
      behindSinceUnixS: 0,
      newestPolicyRevision: 0,
      policySet: "7:0123456789abcdef",
      repeatS: 6,
    });
    const startS = clock.ms / 1000;
    await clock.pass(10_000);
    replica.publish("e", 110, 8);
    replica.publish("e", 115, 9);
    replica.tell("node-1", "e", 109);
    const behind = await replica.look();
    assert.deepEqual(
      [behind.inForce, behind.nodes, behind.nodesInForce, behind.policyRevision],
      [false, 2, 0, 9],
    );
    // The one that never told anything comes first.
    assert.deepEqual(behind.behind.map(({ node, policyRevision }) => [node, policyRevision]), [
      ["node-2", 0],
      [
        "node-1",
        7,
      ],
    ]);
    const [never, node] = behind.behind;
    assert.deepEqual([node.sinceUnixS, node.behindSinceUnixS], [startS, startS + 10]);
    assert.deepEqual([never.heardUnixS, never.behindSinceUnixS], [0, startS + 10]);
    replica.tell("node-1", "e", 115);
    replica.tell("node-2", "e", 115, { error: "map is full" });
    assert.deepEqual((await replica.look()).behind.map(({ node, error }) => [node, error]), [[
      "node-2",
      "map is full",
    ]]);
    replica.tell("node-2", "e", 118);
    assert.equal((await replica.look()).inForce, true);
    assert.equal(
      (await replica.look(10)).inForce,
      false,
      "a policy set that is not there yet is in force nowhere",
    );
    // A policy that touches nobody moves no table: who had everything has it.
    replica.publish("e", 115, 10);
    assert.equal((await replica.look(10)).inForce, true);
  } finally {
    await replica.close();
  }
});

Deno.test("NodePolicies.wait() answers as soon as it is in force, and after its timeout", async () => {
  const replica = new Replica("sqlite::memory:"), { clock } = replica;
  try {
    replica.publish("e", 100, 7);
    replica.tell("node-1", "e", 100);
    const wait = (timeoutS: number) => {
      const state: { done?: boolean } = {};
      replica.policies.wait(WaitRequest.create({ policyRevision: 7, timeoutS })).then((answer) =>
        state.done = answer.inForce
      );
      return state;
    };
    const short = wait(1), long = wait(1000);
    await clock.pass(1100);
    await clock.pass(0);
    assert.deepEqual([short.done, long.done], [false, undefined]);
    replica.tell("node-2", "e", 100);
    await passUntil(clock, () => long.done !== undefined);
    assert.equal(long.done, true);
    replica.nodes!.push("node-3");
    const capped = wait(1000);
    await clock.pass(7000);
    assert.equal(capped.done, undefined);
    await passUntil(clock, () => capped.done !== undefined);
    assert.equal(capped.done, false);
    assert.ok(clock.ms - 1_700_000_000_000 < 60_000, "no call waits longer than its maximum");
    // A node that the cluster gave up is waited for no longer; nodes that are not known are not "none".
    replica.nodes = ["node-1", "node-2"];
    assert.equal((await replica.look(7)).inForce, true);
    replica.nodes = undefined;
    const error = await replica.look(7).catch((error: ProblemError) => error);
    assert.equal((error as ProblemError).code, "NOT_READY");
  } finally {
    await replica.close();
  }
});

Deno.test("NodePolicies refuses what a node cannot mean", async () => {
  const replica = new Replica("sqlite::memory:");
  try {
    const code = (run: () => unknown) => {
      try {
        run();
        return undefined;
      } catch (error) {
        return (error as ProblemError).code;
      }
    };
    assert.equal(
      code(() => replica.policies.put("node-1", NodePolicy.create({ node: "node-2" }))),
      "INVALID_ARGUMENT",
    );
    assert.equal(code(() => replica.tell("node-1", "e".repeat(65), 1)), "INVALID_ARGUMENT");
    replica.publish("e", 100, 7);
    assert.equal(replica.tell("node-1", "another", 1e15).policyRevision, 0, "nobody knows what it means");
    const lie = { policyRevision: 99, sinceUnixS: 5, heardUnixS: 5, behindSinceUnixS: 5 };
    assert.equal(
      replica.tell("node-1", "e", 99, lie).policyRevision,
      0,
      "what the engine says is not taken from a node",
    );
    for (let i = 0; i < NODE_POLICIES_MAX - 1; i++) replica.tell(`other-${i}`, "e", 100);
    assert.equal(code(() => replica.tell("one-more", "e", 100)), "TOO_MANY_NODES");
    assert.equal(replica.tell("node-1", "e", 100).policyRevision, 7, "who is there may still tell");
  } finally {
    await replica.close();
  }
});

async function agree(url: string): Promise<void> {
  const a = await new Replica(url).start(), b = await new Replica(url, a.clock).start();
  const { clock } = a;
  const say = (replica: Replica) =>
    replica.policies.list().map(({ node, policyRevision }) => [node, policyRevision]);
  try {
    a.publish("a", 100, 7);
    b.publish("b", 900, 7);
    // Its stream is at one replica, what it says goes to the other.
    b.tell("node-1", "a", 100);
    a.tell("node-2", "b", 900);
    const both = [["node-1", 7], ["node-2", 7]];
    await passUntil(clock, () => JSON.stringify([say(a), say(b)]) === JSON.stringify([both, both]));
    a.publish("a", 101, 8);
    b.policyRevision = 8;
    a.tell("node-1", "a", 101);
    await passUntil(clock, () => say(b)[0][1] === 8);
    assert.equal((await b.look()).inForce, false);
    // A replica that starts knows what was told before; the tables it has are new ones.
    const c = await new Replica(url, clock).start();
    try {
      c.policyRevision = 8;
      await passUntil(clock, () => say(c).every(([, revision]) => (revision as number) >= 7));
      assert.deepEqual(say(c), [["node-1", 8], ["node-2", 7]]);
      c.publish("c", 5, 8);
      assert.equal(c.tell("node-2", "c", 5).policyRevision, 8);
      await passUntil(clock, () => say(a)[1][1] === 8 && say(b)[1][1] === 8);
      // Gone from the cluster: forgotten, also in the database.
      for (const replica of [a, b, c]) replica.nodes = ["node-1"];
      for (let i = 0; i < 12; i++) {
        await clock.pass(60_000);
        a.tell("node-1", "a", 101);
      }
      await passUntil(
        clock,
        () => [a, b, c].every((replica) => replica.policies.get("node-2") === undefined),
      );
    } finally {
      await c.close();
    }
  } finally {
    await a.close();
    await b.close();
  }
}

Deno.test("NodePolicies takes the older of two positions where a node's streams come from different replicas", async () => {
  const replica = new Replica("sqlite::memory:");
  try {
    replica.publish("a", 100, 7);
    replica.publish("b", 900, 7);
    replica.publish("a", 110, 8);
    const tell = (revision: number, prefixEpoch: string, prefixRevision: number) =>
      replica.tell("node-1", "a", revision, { prefixEpoch, prefixRevision }).policyRevision;
    assert.equal(tell(100, "unknown", 1), 0, "nothing is known of the prefixes");
    assert.equal(tell(110, "b", 900), 7, "prefixes are behind");
    replica.publish("b", 950, 8);
    assert.equal(tell(110, "b", 949), 7);
    assert.equal(tell(110, "b", 950), 8);
    assert.equal(tell(109, "b", 950), 7, "map states are behind");
    assert.equal(tell(110, "unknown", 1), 7, "what was told before stays");
    assert.equal(tell(110, "", 0), 8, "both come from one replica again");
    assert.throws(
      () => tell(110, "x".repeat(65), 1),
      (error: ProblemError) => error.code === "INVALID_ARGUMENT",
    );
  } finally {
    await replica.close();
  }
});

Deno.test("NodePolicies takes what was told last, although the clock of the replica that was told before is ahead", async () => {
  const directory = await Deno.makeTempDir();
  const url = `sqlite:${directory}/policy.db`, ahead = new TestClock(), clock = new TestClock();
  ahead.ms += 3_600_000;
  const a = await new Replica(url, ahead).start(), b = await new Replica(url, clock).start();
  const say = (replica: Replica) => replica.policies.get("node-1")?.policyRevision;
  const passBoth = async (what: () => boolean) => {
    for (let i = 0; !what(); i++) {
      assert.ok(i < 2000, `Not after ${i} steps: ${what}`);
      await ahead.pass(500);
      await clock.pass(500);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  try {
    a.publish("e", 100, 7);
    a.tell("node-1", "e", 100);
    await passBoth(() => say(b) === 7);
    a.publish("e", 110, 8);
    b.policyRevision = 8;
    b.tell("node-1", "e", 110);
    await passBoth(() => say(a) === 8 && say(b) === 8);
  } finally {
    await a.close();
    await b.close();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("NodePolicies knows after a restart what nodes told, on SQLite", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const url = `sqlite:${directory}/policy.db`, before = await new Replica(url).start();
    before.publish("a", 100, 7);
    before.tell("node-1", "a", 100, { endpoints: 3 });
    await passUntil(before.clock, () => before.policies.saved);
    await before.close();
    const after = await new Replica(url, before.clock).start();
    await passUntil(after.clock, () => after.policies.get("node-1")?.policyRevision === 7);
    assert.deepEqual(after.policies.get("node-1")!.endpoints, 3);
    await after.close();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "NodePolicies answers the same in every replica, on PostgreSQL",
  ignore: postgresMissing() !== undefined,
  fn: async () => {
    const postgres = await TestPostgres.start();
    try {
      await agree(await postgres.createDatabase("nodes"));
    } finally {
      await postgres.close();
    }
  },
});
