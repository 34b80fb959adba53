import assert from "node:assert/strict";
import { Health, Logger } from "@weir/common";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { WeirClient } from "@weir/client";
import { ServicePort } from "@weir/proto/loadbalancer";
import { MapState, Policy, PolicyFault } from "@weir/proto/policy";
import { createIdentityAllocator } from "../identity-allocator/mod.ts";
import { createLoadBalancer } from "../load-balancer/mod.ts";
import { createPolicyEngine } from "../policy-engine/mod.ts";
import { type Handed, Handover } from "./handover.ts";

const READ: Handed = { isRead: true, missing: "" }, UNREAD: Handed = { isRead: false, missing: "starting" };
const FILE = "kubernetes:CiliumNetworkPolicy/default/a";

Deno.test("Handover lets nodes be answered when all was handed on, and accepts a lost database that Kubernetes has whole", async () => {
  const databases = [1, 2, 3].map(() => new Database("sqlite::memory:"));
  const allocator = createIdentityAllocator({ database: databases[0] });
  await allocator.start();
  const engine = createPolicyEngine({
    database: databases[1],
    allocator: new WeirClient({ handler: allocator.api.fetch }),
    awaitKubernetes: true,
  });
  const lb = createLoadBalancer({ database: databases[2], awaitKubernetes: true });
  engine.start();
  lb.start();
  await lb.waitReady();
  const policyEngine = new WeirClient({ handler: engine.handler });
  const loadBalancer = new WeirClient({ handler: lb.handler });
  const clock = new FakeClock(), health = new Health();
  let policies = UNREAD, services = UNREAD;
  const handover = new Handover({
    policyEngine,
    loadBalancer,
    policies: () => policies,
    services: () => services,
    clock,
    log: Logger.silent(),
    health,
  });
  const said = () => health.list().find(({ name }) => name === "policy-database")?.message ?? "";
  const look = async () => {
    // The engine may still be reading its database.
    for (let i = 0; i < 200 && !await handover.look(); i++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const isRefused = (error: { code?: string }) => error.code === "NOT_READY";
  const ports = () => loadBalancer.collection("serviceports", ServicePort).list();
  const states = () => policyEngine.collection("mapstates", MapState).list();
  const faults = async () => (await policyEngine.collection("policyfaults", PolicyFault).list()).items.length;
  try {
    assert.equal(await handover.look(), false);
    await assert.rejects(ports(), isRefused);
    await assert.rejects(states(), isRefused);
    policies = services = READ;
    await look();
    await Promise.all([ports(), states()]);
    // A node had another set in force, of Kubernetes' policies alone.
    const node = new WeirClient({ handler: engine.handler }, {
      headers: () => ({
        "weir-node": "node-1",
        "weir-policy-revision": "7",
        "weir-policy-set": `7:${"0".repeat(16)}:mirrored`,
      }),
    });
    await node.collection("mapstates", MapState).list();
    assert.equal(await faults(), 1);
    const manifest = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, " +
      "metadata: {name: a, namespace: default}, spec: {endpointSelector: {}, ingress: [{}]}}";
    await policyEngine.collection("policies", Policy).put("cnp:default/a", {
      name: "cnp:default/a",
      manifest,
      file: FILE,
      line: 1,
    });
    policies = { isRead: true, missing: "one was refused" };
    await look();
    assert.match(said(), /older than what is in force on node-1 .*not accepted by itself: one was refused/);
    policies = READ;
    await look();
    assert.match(said(), /it is accepted soon/, "another node may know more");
    assert.equal(await faults(), 1);
    await clock.advance(15_000);
    await look();
    assert.equal(await faults(), 0);
    await look();
    assert.equal(said(), "ok");
  } finally {
    await engine.stop();
    await lb.stop();
    await allocator.stop();
    for (const database of databases) await database.close();
  }
});
