import assert from "node:assert/strict";
import { Endpoint } from "@weir/proto/endpoint";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { Service } from "@weir/proto/loadbalancer";
import type { ClusterFacts } from "./cluster_facts.ts";
import { endOf } from "./ends.ts";

const target = { node: "node-1", instance: "i", directory: "/nowhere" };
const endpoint = (namespace: string, podName: string, identity: number, ipv4: string) => ({
  node: "node-1",
  target,
  endpoint: Endpoint.create({
    name: `${namespace}/${podName}`,
    namespace,
    podName,
    labels: [`k8s:app=${podName}`],
    status: { state: identity === 0 ? "WAITING_FOR_IDENTITY" : "READY", identity, ipv4 },
  }),
});
const facts: ClusterFacts = {
  ipcache: [
    IpcacheEntry.create({
      prefix: "10.0.0.2/32",
      identity: 300,
      endpoint: "shop/web",
      namespace: "shop",
      podName: "web",
      node: "node-1",
    }),
    IpcacheEntry.create({
      prefix: "10.0.9.9/32",
      identity: 301,
      endpoint: "far/away",
      namespace: "far",
      podName: "away",
      node: "node-9",
    }),
  ],
  nodes: [Node.create({ name: "node-1", ipv4: "172.30.0.11", podCidrV4: "10.0.0.0/24" })],
  endpoints: [
    endpoint("shop", "web", 300, "10.0.0.2"),
    endpoint("shop", "client", 0, ""),
    endpoint("other", "client", 302, "10.0.0.4"),
  ],
  services: [Service.create({
    name: "shop/api",
    namespace: "shop",
    serviceName: "api",
    type: "ClusterIP",
    ports: [{ id: 1, frontends: [{ kind: "CLUSTER_IP", address: "10.96.0.1", port: 80 }] }],
  })],
  backends: [],
  policies: [],
  probes: new Map(),
  silent: new Map(),
};
const questions = {
  isBroadcast: (address: string) => Promise.resolve(address === "172.30.0.255"),
  resolve: (name: string) => Promise.resolve(name === "example.com" ? ["192.0.2.80"] : []),
};
const end = (name: string, namespace = "default") => endOf(name, namespace, facts, questions);

Deno.test("endOf() finds pods, also those that are not ready, and asks which of two is meant", async () => {
  assert.equal((await end("shop/web")).identity, 300);
  assert.equal((await end("web")).title, "shop/web");
  assert.deepEqual((await end("shop/client")).labels, ["k8s:app=client"]);
  assert.equal((await end("client", "other")).identity, 302);
  await assert.rejects(end("client"), /"client" may be shop\/client or other\/client: say which/);
  assert.equal((await end("far/away")).node, "node-9", "its node does not answer");
});

Deno.test("endOf() knows what an address is", async () => {
  assert.deepEqual([(await end("10.0.0.2")).ip, (await end("10.0.0.2")).title], [
    "10.0.0.2",
    "10.0.0.2 (shop/web)",
  ]);
  assert.equal((await end("10.96.0.1")).service?.name, "shop/api");
  assert.equal((await end("172.30.0.11")).isNode, true);
  assert.equal((await end("172.30.0.255")).identity, 65);
  assert.equal((await end("198.51.100.1")).ip, "198.51.100.1");
});

Deno.test("endOf() knows services as DNS has them, nodes, entities, labels, numbers and names", async () => {
  for (const name of ["service/api", "svc/shop/api", "api", "api.shop.svc", "api.shop.svc.cluster.local"]) {
    assert.equal((await end(name)).service?.name, "shop/api", name);
  }
  assert.equal((await end("node/node-1")).isNode, true);
  assert.equal((await end("node-1")).isNode, true);
  assert.equal((await end("world")).identity, 9);
  assert.deepEqual((await end("app=web, tier=x")).labels, ["app=web", "tier=x"]);
  assert.equal((await end("identity:300")).identity, 300);
  assert.equal((await end("example.com")).ip, "192.0.2.80");
});

Deno.test("endOf() says what was perhaps meant", async () => {
  await assert.rejects(end("shop/wbe"), /Cannot find "shop\/wbe".*did you mean shop\/web\?/);
  await assert.rejects(end("wolrd"), /did you mean world\?/);
  await assert.rejects(end("service/apj"), /Cannot find service "apj"; did you mean shop\/api\?/);
  await assert.rejects(end("no.such.name"), /Cannot find/);
});

Deno.test("endOf() knows an address that a pod had, and none that is not known for lack of an answer", async () => {
  const gone = await end("10.0.0.77");
  assert.deepEqual([gone.isForeign, gone.isGoneFrom], [true, { node: "node-1", range: "10.0.0.0/24" }]);
  assert.equal((await end("198.51.100.1")).isGoneFrom, undefined);
  const silent = new Map([["endpoint-manager of node-1", "no answer"]]);
  assert.equal((await endOf("10.0.0.77", "default", { ...facts, silent }, questions)).isGoneFrom, undefined);
});
