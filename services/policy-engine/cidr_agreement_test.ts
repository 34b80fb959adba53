import assert from "node:assert/strict";
import { sql } from "kysely";
import { ApiServer, systemClock, WatchedTable } from "@weir/common";
import { Database, Store } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { WeirClient } from "@weir/client";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, CidrIdentity, Policy } from "@weir/proto/policy";
import { cidrNumberChoice } from "./cidr_numbers.ts";
import { createPolicyEngine } from "./create_policy_engine.ts";
import { isFqdnText } from "./fqdn_selector.ts";
import type { PolicyEngine } from "./policy_engine.ts";

/** A policy that lets these prefixes in, and its endpoints out to what these selectors of names mean. */
function manifest(name: string, ...mentioned: string[]): string {
  const names = mentioned.filter(isFqdnText).map((text) => `{${text.replace(":", ": '")}'}`);
  const prefixes = mentioned.filter((text) => !isFqdnText(text));
  return `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, spec: {endpointSelector: {},
    ingress: [{fromCIDR: [${prefixes.join(", ")}]}], egress: [{toFQDNs: [${names.join(", ")}]}]}}`;
}

/** Engines on one database, each with a connection of its own. */
class Engines {
  readonly engines = new Set<PolicyEngine>();
  /** Added to the wall clock of all of them. */
  aheadMs = 0;
  readonly #databases = new Map<PolicyEngine, Database>();
  readonly #api = new ApiServer({ name: "identity-allocator" });

  constructor(readonly url: string) {
    const identities = new WatchedTable<Identity>({ name: "identities" });
    this.#api.collection({ name: "identities", message: Identity, table: identities });
    const ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
    this.#api.collection({ name: "ipcache", message: IpcacheEntry, table: ipcache });
    const labels = [
      "k8s:app=a",
      "k8s:io.kubernetes.pod.namespace=default",
      "k8s:io.cilium.k8s.policy.cluster=default",
    ];
    identities.put("300", Identity.create({ number: 300, labels }));
  }

  async start(): Promise<PolicyEngine> {
    const database = new Database(this.url);
    const allocator = new WeirClient({ handler: this.#api.fetch });
    const engine = createPolicyEngine({
      database,
      allocator,
      clock: { ...systemClock, nowMs: () => Date.now() + this.aheadMs },
    });
    engine.start();
    await engine.waitReady();
    this.#databases.set(engine, database);
    this.engines.add(engine);
    return engine;
  }

  async stop(engine: PolicyEngine): Promise<void> {
    this.engines.delete(engine);
    await engine.stop();
    await this.#databases.get(engine)!.close();
  }

  /** At once on PostgreSQL; one after another on SQLite, which one process owns. */
  async atOnce(work: readonly (() => Promise<unknown>)[]): Promise<void> {
    if (this.url.startsWith("postgres")) await Promise.all(work.map((each) => each()));
    else for (const each of work) await each();
  }

  async close(): Promise<void> {
    for (const engine of [...this.engines]) await this.stop(engine);
  }

  /** Brings every engine up to date without waiting for its poll. */
  async settle(): Promise<void> {
    for (const engine of this.engines) {
      await engine.store.store.pull();
      await engine.syncPolicies();
      engine.publishNow();
    }
  }

  /** What all engines say of the prefixes; they have to say the same, and no number twice. */
  async numbers(): Promise<Record<string, number>> {
    await this.settle();
    const [first, ...others] = [...this.engines].map((engine) => {
      const items = [
        ...engine.publisher.cidrIdentities.list(),
        ...engine.publisher.fqdnSelectors.list().map(({ name, identity }) => ({ prefix: name, identity })),
      ];
      assert.equal(
        new Set(items.map(({ identity }) => identity)).size,
        items.length,
        "a number has two prefixes",
      );
      const entries = engine.publisher.mapStates.get("300")!.entries.map(({ identity }) => identity);
      assert.deepEqual(
        entries.sort(),
        items.map(({ identity }) => identity).sort(),
        "map state and prefixes differ",
      );
      return Object.fromEntries(items.map(({ prefix, identity }) => [prefix, identity]).sort());
    });
    for (const other of others) assert.deepEqual(other, first);
    return first;
  }
}

const TABLES = ["weir_revision", "weir_objects", "weir_log", "weir_policy_prefix", "weir_cidr_number"];

/** Everything that the database holds, to {@link restore} it. */
async function backup(url: string): Promise<Map<string, Record<string, unknown>[]>> {
  const database = new Database(url), tables = new Map<string, Record<string, unknown>[]>();
  await database.transaction(async (tx) => {
    for (const table of TABLES) {
      const { rows } = await sql<Record<string, unknown>>`select * from ${sql.table(table)}`.execute(tx);
      tables.set(table, rows);
    }
  });
  await database.close();
  return tables;
}

async function restore(url: string, tables: Map<string, Record<string, unknown>[]>): Promise<void> {
  const database = new Database(url);
  await database.transaction(async (tx) => {
    for (const [table, rows] of tables) {
      await sql`delete from ${sql.table(table)}`.execute(tx);
      for (const row of rows) {
        const columns = Object.keys(row).map((column) => sql.ref(column));
        await sql`insert into ${sql.table(table)} (${sql.join(columns)}) values (${
          sql.join(Object.values(row))
        })`
          .execute(tx);
      }
    }
  });
  await database.close();
}

/** A prefix and a selector of names that ask for one number. */
function collision(): [string, string] {
  const seen = new Map<number, string>();
  for (let i = 0; i < 65_536; i++) {
    const prefix = `10.${i >> 8}.${i & 255}.0/24`;
    seen.set(cidrNumberChoice(prefix, 0), prefix);
  }
  for (let i = 0; i < 65_536; i++) {
    const name = `matchName:n${i}.example.com`, other = seen.get(cidrNumberChoice(name, 0));
    if (other !== undefined) return [other, name];
  }
  throw new Error("No prefix and no name collide");
}

/** A call may take long where the machine is busy. */
function clientOf(engine: PolicyEngine): WeirClient {
  return new WeirClient({ handler: engine.handler }, { deadlineMs: 120_000 });
}

function apply(engine: PolicyEngine, ...texts: string[]): Promise<ApplyResponse> {
  return clientOf(engine).call("/v1/policies:apply", {
    request: { message: ApplyRequest, value: { manifest: texts.join("\n---\n") } },
    response: ApplyResponse,
  });
}

function remove(engine: PolicyEngine, name: string): Promise<boolean> {
  return clientOf(engine).collection("policies", Policy).delete(
    `cnp:default/${name}`,
  );
}

/** Runs `test` on SQLite and, where it can be had, on PostgreSQL. */
function onBoth(name: string, test: (engines: Engines) => Promise<void>): void {
  const run = async (url: string) => {
    const engines = new Engines(url);
    try {
      await test(engines);
    } finally {
      await engines.close();
    }
  };
  Deno.test(`${name}, on SQLite`, async () => {
    const directory = await Deno.makeTempDir();
    try {
      await run(`sqlite:${directory}/policy.db`);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
  const missing = postgresMissing();
  Deno.test({
    name: `${name}, on PostgreSQL`,
    ignore: missing !== undefined,
    fn: async () => {
      const postgres = await TestPostgres.start();
      try {
        await run(await postgres.createDatabase("policies"));
      } finally {
        await postgres.close();
      }
    },
  });
}

onBoth(
  "Two engines agree on the number of a prefix that one of them forgot when it started",
  async (engines) => {
    const a = await engines.start();
    await apply(a, manifest("one", "192.0.2.0/24"));
    await remove(a, "one");
    // The start of another finds a prefix that nobody mentions; the first still remembers it.
    await engines.start();
    await engines.settle();
    await apply(a, manifest("two", "192.0.2.0/24"));
    await apply(a, manifest("three", "198.51.100.0/24"));
    assert.equal(Object.keys(await engines.numbers()).length, 2);
  },
);

onBoth("Engines that apply and restart at once agree on every prefix", async (engines) => {
  const a = await engines.start(), b = await engines.start();
  const names = Array.from({ length: 16 }, (_, i) => `p${i}`);
  const prefixes = (i: number) => [`198.51.${i}.0/24`, `matchPattern:*.p${i}.example.com`, "203.0.113.0/24"];
  await engines.atOnce(names.map((name, i) => () => apply(i % 2 ? a : b, manifest(name, ...prefixes(i)))));
  await engines.atOnce(names.slice(0, 8).map((name, i) => () => remove(i % 2 ? b : a, name)));
  await engines.stop(b);
  const c = await engines.start();
  await engines.atOnce(
    names.map((name, i) => () => apply(i % 2 ? a : c, manifest(name, ...prefixes(i + 4)))),
  );
  assert.equal(Object.keys(await engines.numbers()).length, 33);
});

onBoth(
  "The row of a prefix goes with its last policy, and its number rests until a day has gone",
  async (engines) => {
    const [first, second] = collision();
    const engine = await engines.start();
    await apply(engine, manifest("one", first), manifest("two", first, "192.0.2.0/24"));
    const number = (await engines.numbers())[first];
    await remove(engine, "one");
    assert.equal((await engines.numbers())[first], number);
    await apply(engine, manifest("two", "192.0.2.0/24"));
    assert.deepEqual(Object.keys(await engines.numbers()), ["192.0.2.0/24"]);
    assert.deepEqual(engine.store.cidrs.list().map(({ prefix }) => prefix), ["192.0.2.0/24"]);
    await apply(engine, manifest("three", second));
    assert.notEqual(
      (await engines.numbers())[second],
      number,
      "it rests, so that no kernel takes one for the other",
    );
    await apply(engine, manifest("four", first));
    assert.equal((await engines.numbers())[first], number, "its own prefix has it back");
    await remove(engine, "three");
    await remove(engine, "four");
    engines.aheadMs = 25 * 3600 * 1000;
    await apply(engine, manifest("three", second));
    assert.equal((await engines.numbers())[second], number);
    assert.equal((await backup(engines.url)).get("weir_policy_prefix")!.length, 2);
  },
);

onBoth("A policy that is refused as a whole leaves no number behind", async (engines) => {
  const engine = await engines.start();
  const tx = engine.store.store.transact.bind(engine.store.store);
  await assert.rejects(tx(async (transaction) => {
    await sql`insert into weir_policy_prefix (policy, prefix) values ('x', '192.0.2.0/24')`.execute(
      transaction.tx,
    );
    throw new Error("killed");
  }));
  assert.deepEqual((await backup(engines.url)).get("weir_policy_prefix"), []);
});

onBoth(
  "An engine moves no number that nodes were given when its database becomes an older copy",
  async (engines) => {
    const [first, second] = collision();
    const engine = await engines.start();
    await apply(engine, manifest("second", second));
    const older = await backup(engines.url);
    const number = (await engines.numbers())[second];
    await remove(engine, "second");
    engines.aheadMs = 25 * 3600 * 1000;
    await apply(engine, manifest("first", first), manifest("late", "192.0.2.0/24"));
    assert.equal((await engines.numbers())[first], number);
    const late = engine.repository.cidrPairs().find(({ prefix }) => prefix === "192.0.2.0/24")!.identity;
    await restore(engines.url, older);
    await engine.store.store.pull();
    await engine.syncPolicies();
    assert.equal(await engine.store.accept(engine.repository.policyRevision), true, "it is in doubt");
    await engine.syncPolicies();
    const moved = await engines.numbers();
    assert.deepEqual(Object.keys(moved), [second], "the policies are those of the copy");
    assert.notEqual(moved[second], number, "kernels hold the number for another prefix");
    await apply(engine, manifest("first", first), manifest("late", "192.0.2.0/24"));
    const after = await engines.numbers();
    assert.deepEqual([after[first], after["192.0.2.0/24"], after[second]], [number, late, moved[second]]);
  },
);

onBoth(
  "An engine that starts on an older copy gives a prefix the number that kernels know",
  async (engines) => {
    let engine = await engines.start();
    const older = await backup(engines.url);
    await apply(engine, manifest("one", "192.0.2.0/24", "matchName:a.example.com"));
    const before = await engines.numbers();
    await engines.stop(engine);
    await restore(engines.url, older);
    engine = await engines.start();
    await apply(
      engine,
      manifest("two", "matchName:a.example.com", "203.0.113.0/24"),
      manifest("one", "192.0.2.0/24"),
    );
    const { "203.0.113.0/24": added, ...same } = await engines.numbers();
    assert.deepEqual(same, before);
    assert.ok(!Object.values(before).includes(added));
  },
);

onBoth(
  "An engine takes over what an older version kept, and takes doubled numbers apart",
  async (engines) => {
    const database = new Database(engines.url);
    const store = new Store({ database });
    store.collection("policies", Policy);
    store.collection("policy-cidrs", CidrIdentity);
    await store.start();
    await store.transact(async (tx) => {
      const prefixes: [string, number][] = [["192.0.2.0/24", 5], ["198.51.100.0/24", 5], [
        "203.0.113.0/24",
        6,
      ]];
      for (const [prefix, number] of prefixes) {
        await tx.put("policy-cidrs", prefix, CidrIdentity.create({ prefix, identity: 0x100_0000 + number }));
      }
      const policy = manifest("one", "192.0.2.0/24", "198.51.100.0/24", "192.0.2.128/25");
      const name = "cnp:default/one";
      await tx.put(
        "policies",
        name,
        Policy.create({ name, kind: "CiliumNetworkPolicy", manifest: policy, line: 1 }),
      );
    });
    await store.stop();
    await database.close();
    await engines.start();
    await engines.start();
    const numbers = await engines.numbers();
    assert.deepEqual(Object.keys(numbers), ["192.0.2.0/24", "192.0.2.128/25", "198.51.100.0/24"]);
    assert.equal(numbers["192.0.2.0/24"], 0x100_0005);
    assert.equal((await backup(engines.url)).get("weir_policy_prefix")!.length, 3);
  },
);
