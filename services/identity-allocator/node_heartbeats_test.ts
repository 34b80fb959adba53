import assert from "node:assert/strict";
import { sql } from "kysely";
import { Holder, IpcacheEntry } from "@weir/proto/identity";
import { SetDigest } from "@weir/common";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import type { TestPostgres } from "@weir/common/testing/postgres";
import { NodeHeartbeats } from "./node_heartbeats.ts";
import { type Case, open, testOnBoth, until } from "./testing.ts";

const digestOf = (elements: Uint8Array[]) => {
  const digest = new SetDigest();
  for (const element of elements) digest.add(element);
  return digest.text;
};
const NOTHING = "0".repeat(16);
type Opened = Awaited<ReturnType<typeof open>>;
const stateOf = async (a: Opened, name: string) => (await a.nodes.get(name))?.state;

const CASES: Record<string, Case> = {
  async "heartbeat() answers what the node holds and has announced, with digests that the node computes alike"(
    url,
  ) {
    const a = await open(url);
    assert.deepEqual(await a.heartbeat("node-1"), {
      known: false,
      holdersCount: 0,
      ipcacheCount: 0,
      holdersDigest: NOTHING,
      ipcacheDigest: NOTHING,
      epoch: (await a.heartbeat("node-1")).epoch,
    });
    await a.nodes.put("node-1", {});
    const web = await a.allocate(["k8s:app=web"], "web", "node-1");
    const db = await a.allocate(["k8s:app=db"], "db", "node-1");
    await a.allocate(["k8s:app=db"], "other", "node-2");
    const entries = ["10.0.0.7/32", "fd00::7/128"].map((prefix) =>
      IpcacheEntry.create({ prefix, identity: web.number, node: "node-1", endpoint: "web" })
    );
    await a.updateIpcache({ node: "node-1", upserts: entries });
    await a.updateIpcache({ node: "node-2", upserts: [{ prefix: "10.0.1.7/32", node: "node-2" }] });
    const all = await a.heartbeat("node-1");
    const holders = [
      { node: "node-1", holder: "web", number: web.number },
      { node: "node-1", holder: "db", number: db.number },
    ];
    assert.deepEqual([all.known, all.holdersCount, all.ipcacheCount], [true, 2, 2]);
    assert.equal(all.holdersDigest, digestOf(holders.map((holder) => Holder.encode(holder))));
    assert.equal(all.ipcacheDigest, digestOf(entries.map((entry) => IpcacheEntry.encode(entry))));
    await a.release("web", "node-1");
    await a.updateIpcache({ node: "node-1", deletes: ["10.0.0.7/32"] });
    const less = await a.heartbeat("node-1");
    assert.equal(less.holdersDigest, digestOf([Holder.encode(holders[1])]));
    assert.equal(less.ipcacheDigest, digestOf([IpcacheEntry.encode(entries[1])]));
    await a.updateIpcache({ node: "node-1", upserts: [{ ...entries[1], identity: db.number }] });
    assert.equal(
      (await a.heartbeat("node-1")).ipcacheDigest,
      digestOf([IpcacheEntry.encode({ ...entries[1], identity: db.number })]),
      "an entry that changed",
    );
    const before = await a.heartbeat("node-1");
    await a.close();
    const b = await open(url);
    assert.deepEqual(
      { ...await b.heartbeat("node-1"), epoch: "" },
      { ...before, epoch: "" },
      "after a restart",
    );
    await b.close();
  },

  async "holders are listed for one node or for all, as the digest has them"(url) {
    const a = await open(url);
    const web = await a.allocate(["k8s:app=web"], "web", "node-1");
    await a.allocate(["k8s:app=web"], "web", "node-2");
    const holders = a.client.collection("holders", Holder);
    assert.deepEqual((await holders.list({ node: "node-1" })).items, [
      { node: "node-1", holder: "web", number: web.number },
    ]);
    assert.equal((await holders.list()).items.length, 2);
    assert.deepEqual((await holders.list({ node: "nobody" })).items, []);
    await a.close();
  },

  async "three hundred nodes' heartbeats are one statement, and no change that anybody watches"(url) {
    const a = await open(url);
    const names = Array.from({ length: 300 }, (_, i) => `node-${i} 'quoted"`);
    await a.nodes.put(names[0], {});
    for (const name of names) await a.allocate(["k8s:app=web"], "web", name);
    await a.clock.advance(1000);
    await until(async () => (await rows(a)) === 300);
    const revision = a.allocator.nodes.revision;
    let statements = 0;
    const query = a.database.query.bind(a.database);
    a.database.query = (action) => (statements++, query(action));
    await a.clock.advance(1000);
    for (const name of names) await a.heartbeat(name);
    await a.clock.advance(1000);
    await until(async () => (await newest(a)) === a.clock.nowMs() / 1000 - 1);
    a.database.query = query;
    const looked = statements;
    assert.equal(await rows(a), 300);
    assert.equal(a.allocator.nodes.revision, revision);
    // Each look of this test is one statement too.
    assert.ok(looked < 60, `${looked} statements for 300 heartbeats`);
    await a.close();
  },

  async "a heartbeat of a node that has nothing is not kept"(url) {
    const a = await open(url);
    for (let i = 0; i < 100; i++) await a.heartbeat(`stranger-${i}`);
    await a.allocator.sweep();
    assert.equal(await rows(a), 0);
    await a.close();
  },

  async "a node that was given up is DEAD, RETURNED when it is heard, and KNOWN when it registers"(url) {
    const a = await open(url, { nodeTtlS: 600 });
    await a.nodes.put("node-1", { labels: ["node:zone=a"] });
    const { podCidrV4 } = (await a.nodes.get("node-1"))!;
    const web = await a.allocate(["k8s:app=web"], "web", "node-1");
    await a.updateIpcache({ node: "node-1", upserts: [{ prefix: "10.0.0.7/32", node: "node-1" }] });
    assert.equal(await stateOf(a, "node-1"), "NODE_KNOWN");
    await a.allocator.sweep();
    await a.clock.advance(599_000);
    assert.deepEqual((await a.allocator.sweep()).deadNodes, []);
    await a.clock.advance(2_000);
    await a.allocator.sweep();
    assert.equal(await stateOf(a, "node-1"), "NODE_DEAD");
    assert.ok((await a.nodes.get("node-1"))!.stateSinceUnixS > 0);
    assert.equal(a.allocator.ipcache.size, 0);
    const answer = await a.heartbeat("node-1");
    assert.deepEqual([answer.known, answer.holdersCount, answer.ipcacheCount], [false, 0, 0]);
    assert.equal(await stateOf(a, "node-1"), "NODE_RETURNED");
    assert.equal((await a.nodes.put("node-1", {})).podCidrV4, podCidrV4);
    const [claim] = await a.claim("node-1", [{ holder: "web", number: web.number, labels: web.labels }]);
    assert.equal(claim.code, "");
    await a.updateIpcache({ node: "node-1", upserts: [{ prefix: "10.0.0.7/32", node: "node-1" }] });
    const filled = await a.heartbeat("node-1");
    assert.deepEqual([filled.known, filled.holdersCount, filled.ipcacheCount], [true, 1, 1]);
    assert.equal(await stateOf(a, "node-1"), "NODE_KNOWN");
    assert.deepEqual((await a.nodes.get("node-1"))!.labels, ["node:zone=a"]);
    await a.allocate(["k8s:app=new"], "new", "node-1"); // its claims were no evidence of a lost database
    await a.close();
  },

  async "what is announced after the death of a node that is not heard any more goes too"(url) {
    const a = await open(url, { nodeTtlS: 600 });
    await a.nodes.put("node-1", {});
    await a.allocator.sweep();
    await a.clock.advance(601_000);
    await a.allocator.sweep();
    assert.equal(await stateOf(a, "node-1"), "NODE_DEAD");
    await a.ipcache.put("10.0.0.7/32", { node: "node-1" });
    await a.ipcache.put("10.0.0.8/32", { node: "node-2" });
    await a.allocator.sweep();
    assert.deepEqual(a.allocator.ipcache.list().map(({ prefix }) => prefix), ["10.0.0.8/32"]);
    await a.close();
  },

  async "a deleted node takes its own entries along and nobody else's"(url) {
    const a = await open(url);
    await a.nodes.put("node-1", {});
    for (const node of ["node-1", "node-2"]) {
      await a.updateIpcache({
        node,
        upserts: Array.from({ length: 50 }, (_, i) => ({ prefix: `10.0.${node.at(-1)}.${i}/32`, node })),
      });
    }
    await a.nodes.delete("node-1");
    assert.equal(a.allocator.ipcache.size, 50);
    assert.ok(a.allocator.ipcache.list().every(({ node }) => node === "node-2"));
    assert.equal((await a.heartbeat("node-1")).known, false);
    assert.equal(await a.allocator.deleteNode("node-1"), false);
    await a.close();
  },

  async "holders of a version before are summed when it is upgraded"(url) {
    const a = await open(url);
    const web = await a.allocate(["k8s:app=web"], "web", "node-1");
    const before = await a.heartbeat("node-1");
    await sql`delete from weir_objects where collection = 'holdings'`.execute(a.database.kysely);
    await sql`delete from weir_migrations where name = 'identity-2'`.execute(a.database.kysely);
    await sql`drop table weir_claimed_number`.execute(a.database.kysely);
    await sql`drop table weir_claim_grace`.execute(a.database.kysely);
    await a.close();
    const b = await open(url);
    const after = await b.heartbeat("node-1");
    assert.equal(after.holdersDigest, before.holdersDigest);
    assert.equal(
      after.holdersDigest,
      digestOf([Holder.encode({ node: "node-1", holder: "web", number: web.number })]),
    );
    await b.close();
  },
};

async function rows(a: Opened): Promise<number> {
  const { rows } = await sql<{ count: string }>`select count(*) as count from weir_heartbeat`.execute(
    a.database.kysely,
  );
  return Number(rows[0].count);
}

async function newest(a: Opened): Promise<number> {
  const { rows } = await sql<{ unix_s: number }>`select min(unix_s) as unix_s from weir_heartbeat`.execute(
    a.database.kysely,
  );
  return Number(rows[0].unix_s);
}

const REPLICATED: Record<string, (postgres: TestPostgres) => Promise<void>> = {
  async "a node that only the other replica hears is not given up, and both answer the same"(postgres) {
    const url = await postgres.createDatabase("heard");
    const clock = new FakeClock();
    // Their clocks are an hour apart: only changes are seen, never compared.
    const [a, b] = [await open(url, {}, clock), await open(url, {}, new FakeClock(clock.nowMs() - 3600_000))];
    await a.nodes.put("node-1", {});
    await a.allocate(["k8s:app=web"], "web", "node-1");
    await a.updateIpcache({ node: "node-1", upserts: [{ prefix: "10.0.0.7/32", node: "node-1" }] });
    await b.allocator.sweep();
    await until(() => b.allocator.ipcache.size === 1);
    assert.deepEqual(await a.heartbeat("node-1"), await b.heartbeat("node-1"));
    for (let round = 0; round < 3; round++) {
      assert.deepEqual((await a.allocator.sweep()).deadNodes, []);
      await Promise.all([a.clock.advance(400_000), b.clock.advance(400_000)]);
      await b.heartbeat("node-1");
      await b.allocator.sweep();
    }
    assert.deepEqual((await a.allocator.sweep()).deadNodes, []);
    await Promise.all([a.close(), b.close()]);
  },
};

testOnBoth("Heartbeats", CASES, REPLICATED);

Deno.test("NodeHeartbeats.silent() does not count the time in which the process stood still", () => {
  let nowMs = 0;
  const heartbeats = new NodeHeartbeats({
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async () => {},
  });
  const stored = new Map([["node-1", 5]]);
  const pass = (ms: number) => {
    for (const endMs = nowMs + ms; nowMs < endMs; nowMs += 1000) heartbeats.tick();
  };
  heartbeats.silent(stored, 60);
  pass(59_000);
  assert.deepEqual(heartbeats.silent(stored, 60), []);
  nowMs += 3600_000;
  heartbeats.tick();
  assert.deepEqual(heartbeats.silent(stored, 60), [], "stopped for an hour");
  pass(59_000);
  assert.deepEqual(heartbeats.silent(stored, 60), []);
  pass(2_000);
  assert.deepEqual(heartbeats.silent(stored, 60), ["node-1"]);
  heartbeats.failed();
  pass(3600_000);
  heartbeats.worked();
  assert.deepEqual(heartbeats.silent(stored, 60), [], "the database was away for an hour");
  assert.deepEqual(heartbeats.silent(new Map([...stored, ["node-2", 1]]), 60), [], "a row that is new");
});

Deno.test("NodeHeartbeats.write() keeps what it could not write", async () => {
  const clock = new FakeClock();
  const heartbeats = new NodeHeartbeats(clock);
  heartbeats.heard("node-1");
  const broken = new Database("sqlite:/nowhere/at/all.db");
  await assert.rejects(heartbeats.write(broken), { code: "DATABASE_UNAVAILABLE" });
  const database = new Database("sqlite::memory:");
  await database.query((kysely) =>
    sql`create table weir_heartbeat (node text primary key, unix_s double precision not null)`.execute(kysely)
  );
  await heartbeats.write(database);
  const { rows } = await sql<{ node: string }>`select node from weir_heartbeat`.execute(database.kysely);
  assert.deepEqual(rows.map(({ node }) => node), ["node-1"]);
  await Promise.all([broken.close(), database.close()]);
});
