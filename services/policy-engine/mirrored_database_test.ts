/** A lost database whose policies Kubernetes tells again: accepted without a person, and only then. @module */
import assert from "node:assert/strict";
import { ApiServer, type ProblemError, setPeer, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { AcceptRequest, ApplyResponse, MapState, NodePolicy, Policy, PolicyFault } from "@weir/proto/policy";
import { createPolicyEngine } from "./create_policy_engine.ts";
import { POLICY_SETS_MAX } from "./policy_store.ts";
import type { PolicyEngine } from "./policy_engine.ts";

const ALLOCATOR = (() => {
  const api = new ApiServer({ name: "identity-allocator" });
  const identities = new WatchedTable<Identity>({ name: "identities" });
  const nodes = new WatchedTable<Node>({ name: "nodes" });
  api.collection({ name: "identities", message: Identity, table: identities });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  api.collection({ name: "nodes", message: Node, table: nodes });
  nodes.put("node-1", Node.create({ name: "node-1" }));
  const labels = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];
  identities.put("300", Identity.create({ number: 300, labels }));
  return new WeirClient({ handler: api.fetch });
})();

async function life(
  database: Database,
  run: (engine: PolicyEngine, client: WeirClient) => Promise<void>,
  awaitKubernetes = false,
): Promise<void> {
  const engine = createPolicyEngine({ database, allocator: ALLOCATOR, awaitKubernetes });
  engine.start();
  try {
    if (!awaitKubernetes) await engine.waitReady();
    await run(engine, new WeirClient({ handler: engine.handler }));
  } finally {
    await engine.stop();
  }
}

/** A policy is put, by Kubernetes or by people. */
const put = (client: WeirClient, name: string, file = `kubernetes:CiliumNetworkPolicy/default/${name}`) =>
  client.collection("policies", Policy).put(`cnp:default/${name}`, {
    name: `cnp:default/${name}`,
    manifest:
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}, namespace: default},
      spec: {endpointSelector: {}, ingressDeny: [{fromEntities: [world]}], ingress: [{}]}}`,
    file,
    line: 1,
  });
const accept = (client: WeirClient, mirrored = true) =>
  client.call("/v1/policies:accept-database", {
    request: { message: AcceptRequest, value: { mirrored } },
    response: ApplyResponse,
  });
const kubernetesRead = (client: WeirClient) =>
  client.call("/v1/policies:kubernetes-read", { method: "POST", response: ApplyResponse });
const faults = async (client: WeirClient) =>
  (await client.collection("policyfaults", PolicyFault).list()).items.map(({ name }) => name);
/** What node `name` is told of identity 300, when it says what it has in force. */
async function stateAt(engine: PolicyEngine, name: string, revision: number, set = ""): Promise<MapState> {
  const handler = (request: Request) => {
    setPeer(request, { role: "node", node: name });
    return engine.handler(request);
  };
  const headers = () => ({ "weir-policy-revision": `${revision}`, "weir-policy-set": set });
  return (await new WeirClient({ handler }, { headers }).collection("mapstates", MapState).get("300"))!;
}
/** Node `name` says that it has everything in force; answers what that is called. */
async function acknowledge(engine: PolicyEngine, client: WeirClient, name: string): Promise<NodePolicy> {
  const { policyRevision } = await stateAt(engine, name, 0);
  return await client.collection("nodepolicies", NodePolicy).put(name, {
    node: name,
    epoch: engine.publisher.epoch,
    revision: engine.publisher.mapStates.revision,
    newestPolicyRevision: policyRevision,
  });
}
const inDoubt = (why: RegExp) => (error: ProblemError) =>
  error.code === "DATABASE_IN_DOUBT" && why.test(error.message);

Deno.test("A lost database is accepted by itself where nothing but Kubernetes' policies was in force", async () => {
  const first = new Database("sqlite::memory:"), second = new Database("sqlite::memory:");
  let had!: NodePolicy;
  try {
    await life(first, async (engine, client) => {
      await put(client, "a");
      await put(client, "b");
      for (const name of ["node-1", "node-2"]) had = await acknowledge(engine, client, name);
      assert.match(had.policySet, /^\d+:[0-9a-f]{16}:mirrored$/);
    });
    await life(second, async (engine, client) => {
      assert.match((await stateAt(engine, "node-1", had.policyRevision, had.policySet)).error, /older than/);
      await put(client, "a");
      assert.deepEqual(await faults(client), ["database"]);
      await accept(client);
      assert.deepEqual(await faults(client), []);
      const state = await stateAt(engine, "node-1", had.policyRevision, had.policySet);
      assert.ok(state.error === "" && state.entries.length > 0 && state.policyRevision > had.policyRevision);
      assert.equal((await stateAt(engine, "node-2", had.policyRevision, had.policySet)).error, "");
    });
  } finally {
    await first.close();
    await second.close();
  }
});

Deno.test("A lost database is for a person to accept where people's policies were in force, or may have been", async () => {
  const cases: Record<string, (engine: PolicyEngine, client: WeirClient) => Promise<[number, string]>> = {
    "people's policy": async (engine, client) => {
      await put(client, "mine", "mine.yaml");
      const had = await acknowledge(engine, client, "node-1");
      assert.match(had.policySet, /^\d+:[0-9a-f]{16}$/);
      return [had.policyRevision, had.policySet];
    },
    "a set newer than the one that was named": async (engine, client) => {
      const had = await acknowledge(engine, client, "node-1");
      return [had.policyRevision + 1, had.policySet];
    },
    "a set that nobody named": async (engine, client) => [
      (await acknowledge(engine, client, "node-1")).policyRevision,
      "",
    ],
  };
  for (const [what, prepare] of Object.entries(cases)) {
    const first = new Database("sqlite::memory:"), second = new Database("sqlite::memory:");
    try {
      let had!: [number, string];
      await life(first, async (engine, client) => {
        await put(client, "a");
        had = await prepare(engine, client);
      });
      await life(second, async (engine, client) => {
        await stateAt(engine, "node-1", ...had);
        await assert.rejects(accept(client), inDoubt(/may be in force/), what);
        assert.deepEqual(await faults(client), ["database"], what);
        await accept(client, false);
        assert.deepEqual(await faults(client), [], what);
      });
    } finally {
      await first.close();
      await second.close();
    }
  }
});

Deno.test("An older copy with people's policies, which were deleted since, is not accepted by itself", async () => {
  const first = new Database("sqlite::memory:"), second = new Database("sqlite::memory:");
  let had!: NodePolicy;
  try {
    await life(first, async (engine, client) => {
      await put(client, "a");
      had = await acknowledge(engine, client, "node-1");
    });
    await life(second, async (engine, client) => {
      await put(client, "resurrected", "mine.yaml");
      await stateAt(
        engine,
        "node-1",
        had.policyRevision + 10,
        `${had.policyRevision + 10}:${"0".repeat(16)}:mirrored`,
      );
      await assert.rejects(accept(client), inDoubt(/it has policies/));
    });
  } finally {
    await first.close();
    await second.close();
  }
});

Deno.test("A node that was not heard when a database was accepted, and had more in force, is not opened by it", async () => {
  const first = new Database("sqlite::memory:"), second = new Database("sqlite::memory:");
  let had!: NodePolicy;
  try {
    await life(first, async (engine, client) => {
      await put(client, "a");
      had = await acknowledge(engine, client, "node-1");
    });
    const { policyRevision, policySet } = had;
    await life(second, async (engine, client) => {
      await stateAt(engine, "node-1", policyRevision, policySet);
      await put(client, "a");
      await accept(client);
      assert.ok(
        (await stateAt(engine, "node-1", policyRevision, policySet)).policyRevision >
          policyRevision + POLICY_SETS_MAX,
      );
      // It had the next set in force, which a person had made, and was told its name no more.
      const late = await stateAt(engine, "node-2", policyRevision + 1, policySet);
      assert.match(late.error, /older than what is in force on node-2/);
      await assert.rejects(accept(client), inDoubt(/may be in force/));
      await accept(client, false);
      assert.equal((await stateAt(engine, "node-2", policyRevision + 1, policySet)).error, "");
    });
  } finally {
    await first.close();
    await second.close();
  }
});

Deno.test("A new database of a cluster with Kubernetes answers nobody before Kubernetes' policies are in it, once", async () => {
  const database = new Database("sqlite::memory:");
  try {
    await life(database, async (engine, client) => {
      while ((await engine.handler(new Request("http://x/v1/policies"))).status !== 200) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const notRead = (error: ProblemError) =>
        error.code === "NOT_READY" && /the policies of Kubernetes were not read yet/.test(error.message);
      await engine.directory.waitSynced(new AbortController().signal);
      while (engine.api.health.list().filter(({ ok }) => !ok).length > 1) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await assert.rejects(stateAt(engine, "node-1", 0), notRead);
      await put(client, "a");
      await assert.rejects(stateAt(engine, "node-1", 0), notRead);
      await kubernetesRead(client);
      assert.ok((await stateAt(engine, "node-1", 0)).entries.length > 0);
      await kubernetesRead(client);
    }, true);
    // Kubernetes may be away now: what is in the database goes on.
    await life(database, async (engine) => {
      await engine.waitReady();
      assert.ok((await stateAt(engine, "node-1", 0)).entries.length > 0);
    }, true);
  } finally {
    await database.close();
  }
});
