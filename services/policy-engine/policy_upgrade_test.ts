/**
 * A database as version bb843b6 left it (testdata/policy-0.sql: its first schema, four policies, four prefixes) keeps what
 * it holds: policies, and the numbers of prefixes that kernels have in their maps.
 * @module
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { WeirClient } from "@weir/client";
import { ApiServer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { MapState, Policy } from "@weir/proto/policy";
import { createPolicyEngine } from "./create_policy_engine.ts";

const OLD = new URL("testdata/policy-0.sql", import.meta.url);
const BASE = 1 << 24;
/** As the old engine numbered them, in the order of its policies. */
const NUMBERS = {
  "198.51.100.0/24": BASE + 1,
  "198.51.100.128/25": BASE + 4,
  "203.0.113.0/24": BASE + 2,
  "203.0.113.64/26": BASE + 3,
};
const NAMES = ["ccnp:cw", "cnp:default/client", "cnp:default/web", "knp:default/stranger-ingress"];

function allocator(): WeirClient {
  const api = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  api.collection({ name: "identities", message: Identity, table: identities });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  for (const [index, app] of ["web", "client", "stranger"].entries()) {
    const labels = [
      "k8s:io.cilium.k8s.policy.cluster=default",
      "k8s:io.kubernetes.pod.namespace=default",
      `unspec:app=${app}`,
    ];
    identities.put(String(256 + index), Identity.create({ number: 256 + index, labels }));
  }
  return new WeirClient({ handler: api.fetch });
}

/** The same for every life: one that is made anew has lost what was read. */
const ALLOCATOR = allocator();

Deno.test("A policy database of the first schema keeps its policies and the numbers of their prefixes", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/policy.db`;
  const old = new DatabaseSync(path);
  old.exec(await Deno.readTextFile(OLD));
  const revision = Number(old.prepare("select revision from weir_revision").get()!.revision);
  old.close();
  const database = new Database(`sqlite:${path}`);
  try {
    // The second start finds a database that has been migrated.
    for (const start of ["first", "second"]) {
      const engine = createPolicyEngine({ database, allocator: ALLOCATOR });
      engine.start();
      try {
        await engine.waitReady();
        const client = new WeirClient({ handler: engine.handler });
        const { items } = await client.collection("policies", Policy).list();
        assert.deepEqual(items.map(({ name }) => name).sort(), NAMES, start);
        const numbers = () =>
          Object.fromEntries(
            engine.store.cidrs.list().map(({ prefix, identity }) => [prefix, identity]).sort(),
          );
        assert.deepEqual(numbers(), NUMBERS, start);
        const states = client.collection("mapstates", MapState);
        const web = (await states.get("256"))!, stranger = (await states.get("258"))!;
        assert.deepEqual([web.enforceIngress, stranger.enforceIngress], [true, true], start);
        const ingress = web.entries.filter((entry) => entry.direction === "INGRESS");
        const of = (identity: number) => ingress.filter((entry) => entry.identity === identity);
        assert.deepEqual(of(257).map(({ deny }) => deny), [false], "the client is let in");
        assert.deepEqual(of(258), [], "the stranger is not");
        assert.deepEqual(of(BASE + 1).map(({ deny }) => deny), [false]);
        assert.deepEqual(of(BASE + 4).map(({ deny }) => deny), [true]);
        if (start === "first") continue;
        // What is new gets what nobody has, and its revision is higher than any of the old engine.
        const manifest = items.find(({ name }) => name === "cnp:default/web")!.manifest
          .replace("198.51.100.0/24", "198.51.100.0/24, 192.0.2.128/25");
        const put = await client.collection("policies", Policy).put("cnp:default/web", { manifest });
        assert.ok(put.policyRevision > revision);
        const { "192.0.2.128/25": fresh, ...others } = numbers();
        assert.deepEqual(others, NUMBERS);
        assert.ok(!Object.values(NUMBERS).includes(fresh) && fresh > BASE);
      } finally {
        await engine.stop();
      }
    }
  } finally {
    await database.close();
    await Deno.remove(directory, { recursive: true });
  }
});
