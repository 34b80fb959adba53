import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { type Kysely, sql } from "kysely";
import { Node } from "@weir/proto/identity";
import { Health } from "./health.ts";
import { Database, Store } from "./state.ts";
import { postgresMissing, TestPostgres } from "./testing/postgres.ts";

async function until(what: () => boolean, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function openStore(url: string, entriesMax?: number) {
  const database = new Database(url);
  const health = new Health();
  const store = new Store({ database, health });
  const nodes = store.collection("nodes", Node, { entriesMax });
  await store.start();
  return {
    store,
    nodes,
    health,
    database,
    put: (name: string, ipv4 = "") =>
      store.transact((tx) => tx.put("nodes", name, Node.create({ name, ipv4 }))),
    names: () => nodes.list().map(({ name }) => name).sort(),
    position: () => ({ revision: nodes.revision, epoch: nodes.epoch }),
    close: async () => (await store.stop(), await database.close()),
  };
}

async function onSqlite(work: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(`${directory}/x.db`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const TABLES = ["weir_revision", "weir_objects", "weir_log", "weir_epoch"];
type Copy = Record<string, Record<string, unknown>[]>;

/** What a backup of the store's tables holds. */
async function backUp(database: Database): Promise<Copy> {
  const copy: Copy = {};
  for (const table of TABLES) {
    copy[table] =
      (await sql<Record<string, unknown>>`select * from ${sql.table(table)}`.execute(database.kysely)).rows;
  }
  return copy;
}

/** Puts a backup in the place of what there is, behind everybody's back. */
async function restore(database: Database, copy: Copy): Promise<void> {
  // deno-lint-ignore no-explicit-any
  await database.kysely.transaction().execute(async (tx: Kysely<any>) => {
    for (const table of TABLES) {
      await sql`delete from ${sql.table(table)}`.execute(tx);
      for (const row of copy[table]) await tx.insertInto(table).values(row).execute();
    }
  });
}

async function checkRestored(url: string): Promise<void> {
  const replicas = [await openStore(url), await openStore(url)];
  const [a, b] = replicas;
  await a.put("kept");
  await b.store.pull();
  const kept = a.position(), copy = await backUp(a.database);
  await a.put("lost-1");
  await a.put("lost-2");
  await b.store.pull();
  const lost = a.position();
  assert.equal(b.nodes.holds(lost), true, "a position goes from one replica to the other");
  await restore(a.database, copy);
  // The first write finds out; a write is neither lost nor put into the old history.
  await b.put("new-1");
  await b.put("new-2");
  await b.put("new-3");
  await a.store.pull();
  for (const replica of replicas) {
    assert.deepEqual(replica.names(), ["kept", "new-1", "new-2", "new-3"]);
    assert.ok(replica.nodes.revision > lost.revision, "the copy is beyond the client's revision");
    assert.equal(replica.nodes.holds(lost), false);
    assert.equal(replica.nodes.holds(kept), true);
    assert.equal(replica.nodes.holds(b.position()), true);
  }
  for (const replica of replicas) await replica.close();
}

Deno.test("a database replaced by an older copy under running replicas begins a new epoch (SQLite)", () =>
  onSqlite(checkRestored));

Deno.test("a replica that slept through a restore finds another history at its own revision", () =>
  onSqlite(async (path) => {
    const sleeper = await openStore(path);
    await sleeper.put("a");
    const copy = await backUp(sleeper.database);
    await sleeper.put("old");
    const lost = sleeper.position();
    await restore(sleeper.database, copy);
    const other = await openStore(path);
    await other.put("x");
    await other.put("y");
    await sleeper.store.pull();
    assert.deepEqual(sleeper.names(), ["a", "x", "y"]);
    assert.equal(sleeper.nodes.holds(lost), false);
    await other.close();
    await sleeper.close();
  }));

Deno.test("a SQLite file that is replaced or deleted under its process is noticed", () =>
  onSqlite(async (path) => {
    const a = await openStore(path);
    await a.put("kept");
    await a.database.query((kysely) => sql`pragma wal_checkpoint(truncate)`.execute(kysely));
    await Deno.copyFile(path, `${path}.backup`);
    await a.put("lost");
    const lost = a.position();
    for (const suffix of ["-wal", "-shm"]) await Deno.remove(path + suffix).catch(() => {});
    await Deno.rename(`${path}.backup`, path);
    await a.put("new");
    assert.deepEqual(a.names(), ["kept", "new"]);
    assert.equal(a.nodes.holds(lost), false);
    await Deno.rename(path, `${path}.away`);
    await assert.rejects(a.put("nowhere"), { code: "DATABASE_UNAVAILABLE" });
    assert.equal(a.health.ready, false);
    assert.deepEqual(a.names(), ["kept", "new"], "reads go on from memory, and are not of an empty file");
    await Deno.rename(`${path}.away`, path);
    await a.put("back");
    assert.deepEqual(a.names(), ["back", "kept", "new"]);
    await a.close();
  }));

Deno.test("a table that is full refuses before the database has the row", () =>
  onSqlite(async (path) => {
    const a = await openStore(path, 3);
    for (const name of ["a", "b", "c"]) await a.put(name);
    await assert.rejects(a.put("d"), { code: "TABLE_FULL" });
    await assert.rejects(
      a.store.transact(async (tx) => {
        await tx.delete("nodes", "a");
        await tx.put("nodes", "d", Node.create({ name: "d" }));
        await tx.put("nodes", "e", Node.create({ name: "e" }));
      }),
      { code: "TABLE_FULL" },
    );
    await a.put("c", "192.0.2.1"); // what is there can be changed
    await a.store.transact(async (tx) => {
      await tx.delete("nodes", "a");
      await tx.put("nodes", "d", Node.create({ name: "d" }));
    });
    assert.deepEqual(a.names(), ["b", "c", "d"]);
    await a.close();
    // A replica with a smaller limit mirrors what there is and goes on; it takes nothing new.
    const small = await openStore(path, 2);
    assert.equal(small.nodes.size, 3);
    const big = await openStore(path, 10);
    await big.put("e");
    await small.store.pull();
    assert.equal(small.nodes.size, 4);
    await assert.rejects(small.put("f"), { code: "TABLE_FULL" });
    await big.close();
    await small.close();
  }));

Deno.test("a row that cannot be decoded is set aside and named, and stops no other", () =>
  onSqlite(async (path) => {
    const a = await openStore(path);
    await a.put("bad", "192.0.2.1");
    const b = await openStore(path);
    const broken = Uint8Array.of(0x0a, 0xff);
    await b.store.transact(async (tx) => {
      await tx.put("nodes", "bad", Node.create({ name: "bad" }));
      await sql`update weir_objects set body = ${broken} where name = 'bad'`.execute(tx.tx);
      await sql`update weir_log set body = ${broken} where revision = ${tx.revision}`.execute(tx.tx);
    });
    await b.put("good");
    await a.store.pull();
    assert.deepEqual(a.names(), ["bad", "good"]);
    assert.equal(a.nodes.get("bad")?.ipv4, "192.0.2.1", "what was known of it stays");
    assert.deepEqual([...a.store.unreadable.keys()], ["nodes/bad"]);
    const condition = a.health.list().find(({ name }) => name === "stored-objects");
    assert.match(condition?.message ?? "", /cannot read nodes\/bad/);
    assert.equal(a.health.ready, true);
    const fresh = await openStore(path);
    assert.deepEqual(fresh.names(), ["good"]);
    assert.deepEqual([...fresh.store.unreadable.keys()], ["nodes/bad"]);
    await assert.rejects(fresh.store.transact((tx) => tx.get("nodes", "bad")), { code: "OBJECT_UNREADABLE" });
    await fresh.put("bad", "192.0.2.2");
    assert.equal(fresh.store.unreadable.size, 0);
    for (const replica of [a, b, fresh]) await replica.close();
  }));

Deno.test("a SQLite file that another process has locked costs a wait, and the process does its other work", () =>
  onSqlite(async (path) => {
    const a = await openStore(path);
    const other = new DatabaseSync(path);
    other.exec("begin immediate");
    let turns = 0;
    const timer = setInterval(() => turns++, 10);
    const written = a.put("a");
    await until(() => turns >= 10);
    other.exec("commit");
    await written;
    clearInterval(timer);
    other.close();
    assert.deepEqual(a.names(), ["a"]);
    await a.close();
  }));

const missing = postgresMissing();
if (missing) console.log(`SKIP faults of PostgreSQL: ${missing}`);

Deno.test({
  name: "PostgreSQL: an older copy under running replicas; a server that answers nothing any more",
  ignore: missing !== undefined,
  async fn(t) {
    const postgres = await TestPostgres.start();
    try {
      await t.step("an older copy begins a new epoch", async () => {
        await checkRestored(await postgres.createDatabase("restored"));
      });

      await t.step("a hung server makes writes fail, and is survived", async () => {
        const a = await openStore(await postgres.createDatabase("hung"));
        await a.put("before");
        await postgres.freeze();
        await assert.rejects(a.put("during"), { code: "DATABASE_UNAVAILABLE" });
        assert.equal(a.health.ready, false);
        assert.deepEqual(a.names(), ["before"], "reads go on from memory");
        // While one try waits for an answer, the others do not.
        const tries = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => a.put(`during-${i}`)));
        assert.ok(tries.every(({ status }) => status === "rejected"));
        await postgres.thaw();
        await until(() => a.health.ready);
        await a.put("after");
        const names = a.names();
        assert.ok(names.includes("after") && names.includes("before"), String(names));
        await a.close();
      });
    } finally {
      await postgres.thaw().catch(() => {});
      await postgres.close();
    }
  },
});
