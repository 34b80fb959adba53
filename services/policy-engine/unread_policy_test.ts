import assert from "node:assert/strict";
import { sql } from "kysely";
import { ApiServer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { MapState, Policy, PolicyFault } from "@weir/proto/policy";
import { createPolicyEngine } from "./create_policy_engine.ts";

const NAME = "cnp:default/a";
const GOOD =
  `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a}, spec: {endpointSelector: {},
  ingressDeny: [{fromEntities: [world]}], ingress: [{}]}}`;
const BAD = GOOD.replace("ingressDeny", "ingressDenyOfAVersionToCome");

function allocator(): WeirClient {
  const api = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  api.collection({ name: "identities", message: Identity, table: identities });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  for (const [number, namespace] of [[300, "default"], [301, "other"]] as const) {
    const labels = [
      `k8s:io.kubernetes.pod.namespace=${namespace}`,
      "k8s:io.cilium.k8s.policy.cluster=default",
    ];
    identities.put(String(number), Identity.create({ number, labels }));
  }
  return new WeirClient({ handler: api.fetch });
}

/** The same for every life: one that is made anew has lost what was read. */
const ALLOCATOR = allocator();

const stateOf = async (client: WeirClient, identity: number) =>
  (await client.collection("mapstates", MapState).get(String(identity)))!;

Deno.test("A stored policy that cannot be read opens nothing: what was in force stays, after a restart all is held", async () => {
  const database = new Database("sqlite::memory:");
  const life = async (
    run: (client: WeirClient, engine: ReturnType<typeof createPolicyEngine>) => Promise<void>,
  ) => {
    const engine = createPolicyEngine({ database, allocator: ALLOCATOR });
    engine.start();
    try {
      await engine.waitReady();
      await run(new WeirClient({ handler: engine.handler }), engine);
    } finally {
      await engine.stop();
    }
  };
  const faultsOf = async (client: WeirClient) =>
    (await client.collection("policyfaults", PolicyFault).list()).items.map((
      { name, holds },
    ) => [name, holds]);
  const ready = async (engine: { handler: (request: Request) => Promise<Response> }) => {
    const answer = await engine.handler(new Request("http://x/readyz?verbose"));
    return [answer.status, (await answer.text()).includes(NAME)];
  };
  try {
    await life(async (client, engine) => {
      await client.collection("policies", Policy).put(NAME, { manifest: GOOD });
      const before = await stateOf(client, 300);
      assert.ok(before.entries.some(({ deny }) => deny));
      // As a replica of a version to come would write it.
      await engine.store.store.transact(async (tx) => {
        const stored = (await tx.get<Policy>("policies", NAME))!;
        await tx.put("policies", NAME, { ...stored, manifest: BAD });
      });
      await engine.syncPolicies();
      engine.publishNow();
      assert.deepEqual((await stateOf(client, 300)).entries, before.entries);
      assert.deepEqual(await faultsOf(client), [[NAME, false]]);
      assert.deepEqual(await ready(engine), [200, true]);
    });
    await life(async (client, engine) => {
      const held = await stateOf(client, 300), other = await stateOf(client, 301);
      assert.deepEqual([held.enforceIngress, held.enforceEgress, held.entries], [true, true, []]);
      assert.match(held.error, /cnp:default\/a is stored and cannot be read.*ingressDenyOfAVersionToCome/);
      assert.deepEqual(
        [other.error, other.enforceIngress],
        ["", false],
        "it can select nobody of another namespace",
      );
      assert.deepEqual(await faultsOf(client), [[NAME, true]]);
      assert.deepEqual(await ready(engine), [503, true]);
      await client.collection("policies", Policy).put(NAME, { manifest: GOOD });
      const healed = await stateOf(client, 300);
      assert.equal(healed.error, "");
      assert.ok(healed.entries.some(({ deny }) => deny) && !healed.enforceEgress);
      assert.deepEqual([await faultsOf(client), await ready(engine)], [[], [200, false]]);
    });
  } finally {
    await database.close();
  }
});

Deno.test("A stored policy whose bytes cannot be decoded opens nothing after a restart: its name says who is held", async () => {
  for (
    const { name, held } of [
      { name: NAME, held: [300] },
      { name: "ccnp:a", held: [300, 301] },
      { name: "no name of ours", held: [300, 301] },
    ]
  ) {
    const database = new Database("sqlite::memory:");
    const engines = [];
    try {
      const first = createPolicyEngine({ database, allocator: ALLOCATOR });
      engines.push(first);
      first.start();
      await first.waitReady();
      await first.store.store.transact(async (tx) => {
        await tx.put("policies", name, Policy.create({ name }));
        const broken = Uint8Array.of(0x0a, 0xff);
        await sql`update weir_objects set body = ${broken} where name = ${name}`.execute(tx.tx);
        await sql`update weir_log set body = ${broken} where revision = ${tx.revision}`.execute(tx.tx);
      });
      const second = createPolicyEngine({ database, allocator: ALLOCATOR });
      engines.push(second);
      second.start();
      await second.waitReady();
      // One that was there when it came, and one that found it at its start.
      for (const engine of engines) {
        await engine.syncPolicies();
        engine.publishNow();
        const client = new WeirClient({ handler: engine.handler });
        for (const identity of [300, 301]) {
          const { error, enforceIngress, entries } = await stateOf(client, identity);
          if (engine === second) assert.equal(enforceIngress, held.includes(identity), `${name} ${identity}`);
          assert.equal(error !== "", held.includes(identity), `${name} ${identity}: ${error}`);
          assert.deepEqual(entries, []);
        }
        const { items } = await client.collection("policyfaults", PolicyFault).list();
        assert.deepEqual(items.map((each) => [each.name, each.holds]), [[name, true]]);
        const ready = await engine.handler(new Request("http://x/readyz?verbose"));
        assert.equal(ready.status, 503);
        assert.ok((await ready.text()).includes(`cannot put ${name} in force`));
      }
      const client = new WeirClient({ handler: second.handler });
      await client.collection("policies", Policy).delete(name);
      for (const engine of engines) {
        await engine.store.store.pull();
        await engine.syncPolicies();
        engine.publishNow();
        assert.deepEqual(engine.follower.faults(), []);
        assert.equal((await stateOf(client, 300)).error, "");
        assert.equal((await engine.handler(new Request("http://x/readyz"))).status, 200);
      }
    } finally {
      for (const engine of engines) await engine.stop();
      await database.close();
    }
  }
});

Deno.test("A stored policy whose bytes cannot be decoded is healed by putting it anew", async () => {
  const database = new Database("sqlite::memory:");
  const engine = createPolicyEngine({ database, allocator: ALLOCATOR });
  engine.start();
  try {
    await engine.waitReady();
    const client = new WeirClient({ handler: engine.handler });
    await engine.store.store.transact(async (tx) => {
      await tx.put("policies", NAME, Policy.create({ name: NAME }));
      const broken = Uint8Array.of(0x0a, 0xff);
      await sql`update weir_objects set body = ${broken} where name = ${NAME}`.execute(tx.tx);
      await sql`update weir_log set body = ${broken} where revision = ${tx.revision}`.execute(tx.tx);
    });
    await engine.syncPolicies();
    assert.equal(engine.follower.faults().length, 1);
    await client.collection("policies", Policy).put(NAME, { manifest: GOOD });
    const healed = await stateOf(client, 300);
    assert.deepEqual([healed.error, engine.follower.faults()], ["", []]);
    assert.ok(healed.entries.some(({ deny }) => deny));
  } finally {
    await engine.stop();
    await database.close();
  }
});
