/** The operator within the service, with the real services beside it, on a real API server. @module */
import assert from "node:assert/strict";
import { systemClock } from "@weir/common";
import { until } from "@weir/common/testing/until";
import { AddressPool } from "@weir/proto/loadbalancer";
import { type ApiClient, RESOURCES } from "@weir/kubernetes";
import { runOperator } from "../../services/kubernetes/operator/run_operator.ts";
import { missingPrograms, RealApiServer } from "../../services/kubernetes/testing/real_api_server.ts";
import { Plane } from "./plane.ts";

const { CiliumLoadBalancerIPPool, CiliumNetworkPolicy, Namespace, Service } = RESOURCES;
const namespace = "shop";

Deno.test({
  name: "What the API server has comes back as status, by way of the real services",
  ignore: missingPrograms() !== undefined,
  fn: async (t) => {
    await using server = await RealApiServer.start();
    await using plane = new Plane();
    await plane.start();
    const client = server.client();
    for (const name of [namespace, "weir-system"]) await client.create(Namespace, { metadata: { name } });
    const service = plane.kubernetes(client);
    const operator = runOperator({
      client,
      api: service.api,
      targets: {
        identityAllocator: { handler: plane.allocator.api.fetch },
        policyEngine: { handler: plane.engine.handler },
        loadBalancer: { handler: plane.lb.handler },
      },
      namespace: "weir-system",
      node: "plane",
      singleEndpoints: false,
      clock: systemClock,
    });
    try {
      await t.step("policies say whether they are valid, also when they are mended", () => policies(client));
      await t.step(
        "a Service has an address of its pool while the pool has it, and no longer",
        () => addresses(client, plane),
      );
      await t.step("readiness and metrics tell of the operator", () => told(service.api.fetch));
    } finally {
      await operator.stop();
      await service.stop();
    }
  },
});

async function policies(client: ApiClient): Promise<void> {
  const policy = (name: string, except: string) => ({
    metadata: { name, namespace },
    spec: { endpointSelector: {}, egress: [{ toCIDRSet: [{ cidr: "10.0.0.0/8", except: [except] }] }] },
  });
  const valid = async (name: string) => {
    const { status } = await client.get(CiliumNetworkPolicy, name, { namespace });
    return status?.conditions?.find(({ type }: { type: string }) => type === "Valid");
  };
  await until("the definitions are there", async () => {
    await client.list(CiliumNetworkPolicy);
    return true;
  });
  await client.create(CiliumNetworkPolicy, policy("good", "10.1.0.0/16"));
  await client.create(CiliumNetworkPolicy, policy("bad", "192.0.2.0/24"));
  await until("the good one is valid", async () => (await valid("good"))?.status === "True");
  await until("the bad one is not", async () => (await valid("bad"))?.status === "False");
  assert.match((await valid("bad")).message, /spec\.egress\[0\]\.toCIDRSet\[0\]/);
  await client.apply(CiliumNetworkPolicy, policy("bad", "10.2.0.0/16"), { force: true });
  await until("it is mended", async () => {
    const { metadata } = await client.get(CiliumNetworkPolicy, "bad", { namespace });
    const { status, observedGeneration } = await valid("bad");
    return status === "True" && observedGeneration === metadata.generation;
  });
}

async function addresses(client: ApiClient, plane: Plane): Promise<void> {
  const held = plane.client(plane.lb.handler).collection("addresspools", AddressPool);
  const pool = (name: string, block: Record<string, string>, more: Record<string, unknown> = {}) => ({
    metadata: { name },
    spec: { blocks: [block], ...more },
  });
  const condition = async (name: string, type: string) => {
    const { status } = await client.get(CiliumLoadBalancerIPPool, name);
    return status?.conditions?.find((one: { type: string }) => one.type === type);
  };
  const ingress = async (name = "cart") => {
    const { status } = await client.get(Service, name, { namespace });
    return (status?.loadBalancer?.ingress ?? []).map(({ ip }: { ip: string }) => ip).join();
  };
  const service = (name: string, tier: string) =>
    client.create(Service, {
      metadata: { name, namespace, labels: { tier } },
      spec: { type: "LoadBalancer", ports: [{ port: 80 }], selector: { app: name } },
    });
  const serviceSelector = { matchLabels: { tier: "front" } };
  const one = { start: "198.51.100.7", stop: "198.51.100.7" };
  await held.put(
    "people",
    AddressPool.create({ name: "people", ranges: ["203.0.113.0/30"], disabled: true }),
  );
  await client.create(CiliumLoadBalancerIPPool, pool("a", one, { serviceSelector }));
  await service("stock", "back");
  await service("cart", "front");
  await until("it has the pool's address", async () => await ingress() === "198.51.100.7");
  assert.equal(await ingress("stock"), "", "the pool does not mean it");
  await until("the pool has none left", async () => {
    const left = await condition("a", "cilium.io/IPsAvailable"),
      used = await condition("a", "cilium.io/IPsUsed");
    return left?.message === "0" && used?.message === "1";
  });
  assert.equal((await condition("a", "Valid")).status, "True");
  // A younger one that overlaps is not used.
  await client.create(CiliumLoadBalancerIPPool, pool("late", { cidr: "198.51.100.0/24" }));
  await until(
    "it is said",
    async () => (await condition("late", "cilium.io/PoolConflict"))?.status === "True",
  );
  assert.equal(await ingress("stock"), "");
  await client.delete(CiliumLoadBalancerIPPool, "late");
  // A version that is refused leaves the one before in force.
  await client.apply(CiliumLoadBalancerIPPool, pool("a", { cidr: "198.51.100.7/99" }), { force: true });
  await until("it is refused", async () => (await condition("a", "Valid"))?.status === "False");
  const { metadata } = await client.get(CiliumLoadBalancerIPPool, "a");
  const refused = await condition("a", "Valid");
  assert.equal(refused.observedGeneration, metadata.generation);
  assert.match(refused.message, /198\.51\.100\.7\/99/);
  assert.equal(await ingress(), "198.51.100.7");
  await client.apply(CiliumLoadBalancerIPPool, pool("a", one, { serviceSelector }), { force: true });
  await until("it is mended", async () => (await condition("a", "Valid"))?.status === "True");
  // What people put stays theirs.
  await client.create(CiliumLoadBalancerIPPool, pool("people", { cidr: "203.0.113.0/24" }));
  await until("the name is taken", async () => (await condition("people", "Valid"))?.reason === "NameTaken");
  await client.delete(CiliumLoadBalancerIPPool, "people");
  await client.delete(CiliumLoadBalancerIPPool, "a");
  await until("it has it no longer", async () => await ingress() === "");
  await client.create(
    CiliumLoadBalancerIPPool,
    pool("b", { cidr: "198.51.100.8/30" }, { allowFirstLastIPs: "No", serviceSelector }),
  );
  await until("it has the other one's", async () => await ingress() === "198.51.100.9");
  const { items } = await held.list();
  assert.deepEqual(items.map(({ name, ranges }) => [name, ranges.join()]).sort(), [
    ["b", "198.51.100.9-198.51.100.10"],
    ["people", "203.0.113.0/30"],
  ]);
}

async function told(fetch: (request: Request) => Promise<Response>): Promise<void> {
  const text = async (path: string) => await (await fetch(new Request(`http://x${path}`))).text();
  await until(
    "readiness says that it leads",
    async () => /operator.*leads/.test(await text("/readyz?verbose")),
  );
  const metrics = await text("/metrics");
  assert.match(metrics, /weir_kubernetes_operator_leads 1/);
  assert.match(metrics, /weir_kubernetes_operator_writes_total\{[^}]*resource="services"[^}]*\} [1-9]/);
}
