import assert from "node:assert/strict";
import { sql } from "kysely";
import { Node } from "@weir/proto/identity";
import { ApiServer } from "./api_server.ts";
import { Health } from "./health.ts";
import { Database, Store } from "./state.ts";
import type { ProblemError } from "./problem.ts";
import { postgresMissing, TestPostgres } from "./testing/postgres.ts";

async function until(what: () => boolean | Promise<boolean>, ms = 15_000): Promise<void> {
  const end = performance.now() + ms;
  while (!await what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function openStore(url: string) {
  const database = new Database(url);
  const health = new Health();
  const store = new Store({ database, health });
  const nodes = store.collection("nodes", Node);
  await store.start();
  return {
    store,
    nodes,
    health,
    database,
    close: async () => {
      await store.stop();
      await database.close();
    },
  };
}

async function checkStore(url: string): Promise<void> {
  const a = await openStore(url);
  await a.store.transact(async (tx) => {
    await tx.put("nodes", "n1", Node.create({ name: "n1", ipv4: "192.0.2.1" }));
    await tx.put("nodes", "n2", Node.create({ name: "n2" }));
  });
  assert.deepEqual(a.nodes.list().map((node) => node.name), ["n1", "n2"]);
  const { revision } = a.nodes;
  await assert.rejects(a.store.transact(async (tx) => {
    await tx.put("nodes", "n3", Node.create({ name: "n3" }));
    throw new Error("no");
  }));
  assert.equal(a.nodes.has("n3"), false, "a transaction that fails leaves nothing");
  assert.equal(a.nodes.revision, revision);
  await a.store.transact((tx) => tx.delete("nodes", "n2"));
  assert.equal(await a.store.transact((tx) => tx.delete("nodes", "n2")), false);
  await a.close();
  const b = await openStore(url);
  assert.deepEqual(b.nodes.list().map((node) => node.ipv4), ["192.0.2.1"], "a restart finds what was there");
  assert.equal(b.nodes.revision, revision + 1);
  await b.close();
}

Deno.test("Store.transact() is all or nothing and survives a restart on SQLite", async () => {
  const directory = await Deno.makeTempDir();
  await checkStore(`sqlite:${directory}/x.db`);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("on SQLite those who wait are committed together, and each fails alone", async () => {
  const directory = await Deno.makeTempDir();
  const { store, nodes, database, close } = await openStore(`sqlite:${directory}/x.db`);
  let commits = 0;
  const transaction = database.transaction.bind(database);
  database.transaction = (action) => {
    commits++;
    return transaction(action);
  };
  const put = (name: string, thenFail = false) =>
    store.transact(async (tx) => {
      await tx.put("nodes", name, Node.create({ name }));
      if (thenFail) throw new Error(`no ${name}`);
      return tx.revision;
    });
  const names = Array.from({ length: 40 }, (_, i) => `n${i}`);
  const outcomes = await Promise.allSettled(names.map((name, i) => put(name, i % 10 === 5)));
  assert.ok(commits < 5, `${commits} commits`);
  const good = names.filter((_, i) => i % 10 !== 5);
  assert.deepEqual(nodes.list().map(({ name }) => name), good, "in the order in which they came");
  const revisions = outcomes.flatMap((outcome) => outcome.status === "fulfilled" ? [outcome.value] : []);
  assert.deepEqual(revisions, good.map((_, i) => revisions[0] + i), "each its own, and none is left out");
  assert.equal(nodes.revision, revisions.at(-1));
  assert.match(String((outcomes[5] as PromiseRejectedResult).reason), /no n5/);
  // A conflict in the database is the fault of one alone, too.
  const conflict = (number: number) =>
    store.transact(async ({ tx }) => {
      await sql`insert into weir_epoch select * from weir_epoch`.execute(tx);
      return number;
    });
  const mixed = await Promise.allSettled([put("a"), conflict(1), put("b")]);
  assert.deepEqual(mixed.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  assert.equal((mixed[1] as PromiseRejectedResult).reason.code, "DATABASE_CONFLICT");
  assert.ok(nodes.has("a") && nodes.has("b"));
  // A failure of the database is that of all, and leaves nothing of any.
  database.transaction = (action) =>
    transaction(async (tx) => {
      await action(tx);
      await sql`select 1 from not_there`.execute(tx);
      return undefined as never;
    });
  const lost = await Promise.allSettled([put("c"), put("d"), put("e")]);
  assert.deepEqual(lost.map(({ status }) => status), ["rejected", "rejected", "rejected"]);
  database.transaction = transaction;
  await put("f");
  assert.deepEqual(nodes.list().map(({ name }) => name).slice(-3), ["a", "b", "f"]);
  await close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("Database opens a SQLite file again after it could not be used", async () => {
  const directory = await Deno.makeTempDir();
  const database = new Database(`${directory}/missing/x.db`);
  await assert.rejects(database.migrate([]), { code: "DATABASE_UNAVAILABLE" });
  await Deno.mkdir(`${directory}/missing`);
  await database.migrate([]);
  await database.close();
  await Deno.remove(directory, { recursive: true });
});

const missing = postgresMissing();
if (missing) console.log(`SKIP store on PostgreSQL: ${missing}`);

Deno.test({
  name: "Store works on PostgreSQL: transactions, replicas, loss and return of the database",
  ignore: missing !== undefined,
  async fn(t) {
    const postgres = await TestPostgres.start();
    try {
      await t.step("transact() is all or nothing and survives a restart", async () => {
        await checkStore(await postgres.createDatabase("plain"));
      });

      await t.step("two replicas that write at once see the same changes in the same order", async () => {
        const url = await postgres.createDatabase("replicas");
        const [a, b] = await Promise.all([openStore(url), openStore(url)]);
        const seen: string[][] = [[], []];
        [a, b].forEach((replica, i) =>
          replica.nodes.onChange((change) => seen[i].push(`${change.revision} ${change.type} ${change.name}`))
        );
        await Promise.all(Array.from({ length: 100 }, (_, i) => {
          const { store } = i % 2 ? a : b;
          return store.transact((tx) => tx.put("nodes", `n${i % 30}`, Node.create({ name: `${i}` })));
        }));
        await until(() => seen[0].length === 100 && seen[1].length === 100);
        assert.deepEqual(seen[0], seen[1]);
        assert.deepEqual(a.nodes.entries().sort(), b.nodes.entries().sort());
        await a.close();
        await b.close();
      });

      await t.step(
        "a wake-up carries a change to the other replica without waiting for the poll",
        async () => {
          const url = await postgres.createDatabase("wake");
          const a = await openStore(url), b = await openStore(url);
          await new Promise((resolve) => setTimeout(resolve, 300)); // LISTEN stands
          const start = performance.now();
          await a.store.transact((tx) => tx.put("nodes", "n", Node.create({})));
          await until(() => b.nodes.has("n"));
          assert.ok(performance.now() - start < 3000, "the poll comes after 5 s only");
          await a.close();
          await b.close();
        },
      );

      await t.step("a database that goes away and comes back is survived", async () => {
        const a = await openStore(await postgres.createDatabase("away"));
        const write = (name: string) =>
          a.store.transact((tx) => tx.put("nodes", name, Node.create({ name })));
        await write("before");
        await postgres.down();
        await assert.rejects(write("during"), { code: "DATABASE_UNAVAILABLE" });
        assert.equal(a.health.ready, false);
        assert.equal(a.nodes.has("before"), true, "reads go on from memory");
        await postgres.up();
        await until(() => write("after").then(() => true, () => false));
        await until(() => a.health.ready);
        assert.deepEqual(a.nodes.list().map((node) => node.name), ["before", "after"]);
        await a.close();
      });
    } finally {
      await postgres.close();
    }
  },
});

Deno.test("Store shows NOT_READY instead of empty collections until the database was read", async () => {
  const database = new Database("sqlite:/nowhere/at/all/weir.db");
  const store = new Store({ database });
  const api = new ApiServer({ name: "test" });
  api.collection({ name: "nodes", message: Node, table: store.collection("nodes", Node) });
  await store.start({ wait: false });
  try {
    for (const path of ["/v1/nodes", "/v1/nodes/a", "/v1/nodes?watch=true"]) {
      const answer = await api.fetch(new Request(`http://localhost${path}`));
      assert.deepEqual([path, answer.status, (await answer.json()).code], [path, 503, "NOT_READY"]);
    }
  } finally {
    await store.stop();
    await database.close();
  }
});

Deno.test("Database.migrate() refuses the tables of a newer version, and takes those of other services", async () => {
  const database = new Database("sqlite::memory:");
  const step = (name: string) => ({ name, up: () => Promise.resolve() });
  try {
    await database.migrate([step("store-1"), step("identity-1"), step("identity-2-nodes")]);
    await database.migrate([step("store-1"), step("policy-1-prefixes")]);
    assert.deepEqual(
      await database.migrate([step("store-1"), step("identity-1"), step("identity-2-nodes")]),
      [],
    );
    await assert.rejects(
      database.migrate([step("store-1"), step("identity-1"), step("identity-3")]).then(() =>
        database.migrate([step("store-1"), step("identity-1"), step("identity-2-nodes")])
      ),
      (error: ProblemError) =>
        error.code === "DATABASE_NEWER" && error.problem.found === "identity-3" &&
        error.problem.expected === "at most identity-2",
    );
  } finally {
    await database.close();
  }
});
