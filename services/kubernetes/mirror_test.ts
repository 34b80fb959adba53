import assert from "node:assert/strict";
import { Logger, ProblemError, systemClock } from "@weir/common";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import { WeirClient } from "@weir/client";
import { ApplyRequest as LbApply, ApplyResponse as LbApplied, ServicePort } from "@weir/proto/loadbalancer";
import { ApplyRequest, ApplyResponse, Policy } from "@weir/proto/policy";
import { createIdentityAllocator } from "../identity-allocator/mod.ts";
import { createLoadBalancer } from "../load-balancer/mod.ts";
import { createPolicyEngine } from "../policy-engine/mod.ts";
import type { KubernetesObject } from "./api/object.ts";
import { RESOURCES } from "./api/resource.ts";
import { digestOf } from "./held_objects.ts";
import { type HeldObject, Mirror, type MirrorTarget, type WantedObject } from "./mirror.ts";
import { PolicyTarget, prunePolicy } from "./reflectors/policies.ts";
import { pruneService, pruneSlice, ServiceTarget } from "./reflectors/services.ts";

const log = Logger.silent(), clock = systemClock;
const parts = { log, clock };

/** A mirror of a real service. */
function mirrorOf<T extends MirrorTarget & { held: { start(): unknown; stop(): Promise<void> } }>(
  make: (options: { onChange: (name: string) => void; onSynced: () => void } & typeof parts) => T,
): { mirror: Mirror; [Symbol.asyncDispose](): Promise<void> } {
  const target = make({
    ...parts,
    onChange: (name) => mirror.heldChanged(name),
    onSynced: () => mirror.compareAll(),
  });
  const mirror: Mirror = new Mirror({ target, ...parts });
  target.held.start();
  mirror.start();
  return {
    mirror,
    async [Symbol.asyncDispose]() {
      await mirror.stop();
      await target.held.stop();
    },
  };
}

const policy = (name: string, label: string, more: Record<string, unknown> = {}) =>
  prunePolicy(RESOURCES.CiliumNetworkPolicy, {
    metadata: { name, namespace: "default", uid: `u-${name}`, generation: 1, managedFields: [{ a: 1 }] },
    spec: { endpointSelector: { matchLabels: { app: label } }, ingress: [{ fromEndpoints: [{}] }], ...more },
    status: { conditions: [] },
  });

Deno.test("Mirror makes the policy engine hold what Kubernetes has, and nothing else of what came from there", async () => {
  const allocator = createIdentityAllocator({ database: new Database("sqlite::memory:") });
  await allocator.start();
  const engine = createPolicyEngine({
    database: new Database("sqlite::memory:"),
    allocator: new WeirClient({ handler: allocator.api.fetch }),
  });
  engine.start();
  await engine.waitReady();
  const client = new WeirClient({ handler: engine.handler });
  const policies = client.collection("policies", Policy);
  const names = async () => (await policies.list()).items.map(({ name }) => name).sort();
  const byHand = (name: string) =>
    client.call("/v1/policies:apply", {
      request: {
        message: ApplyRequest,
        value: { manifest: policy(name, "people").text, file: "mine.yaml" },
      },
      response: ApplyResponse,
    });
  await byHand("mine");
  await byHand("both");
  {
    await using run = mirrorOf((options) => new PolicyTarget(client, options));
    const { mirror } = run;
    for (const name of ["a", "b", "both"]) mirror.want(`cnp:default/${name}`, policy(name, "x"));
    mirror.want("cnp:default/bad", policy("bad", "x", { ingress: [{ fromNobody: [] }] }));
    mirror.complete("CiliumNetworkPolicy");
    await until("they are there", () => mirror.waiting === 0 && mirror.faults.size === 2, 5);
    assert.deepEqual(await names(), [
      "cnp:default/a",
      "cnp:default/b",
      "cnp:default/both",
      "cnp:default/mine",
    ]);
    const stored = await policies.get("cnp:default/a");
    assert.equal(stored?.file, "kubernetes:CiliumNetworkPolicy/default/a");
    assert.doesNotMatch(stored.manifest, /managedFields|conditions/);
    assert.equal(mirror.faults.get("cnp:default/both")?.error.code, "NAME_TAKEN");
    assert.equal(mirror.faults.get("cnp:default/bad")?.error.code, "POLICY_INVALID");
    assert.match((await policies.get("cnp:default/both"))!.manifest, /people/);
    // A version that cannot be read leaves the one before in force.
    mirror.want("cnp:default/a", policy("a", "x", { egress: [{ toNobody: [] }] }));
    await until("the fault is there", () => mirror.faults.has("cnp:default/a"), 5);
    assert.match((await policies.get("cnp:default/a"))!.manifest, /"x"/);
    mirror.want("cnp:default/a", policy("a", "y"));
    await until("it is mended", async () => /"y"/.test((await policies.get("cnp:default/a"))!.manifest), 5);
    assert.equal(mirror.faults.has("cnp:default/a"), false);
    // Somebody deletes it: it comes back. What was in the way goes: the other one comes.
    await policies.delete("cnp:default/b");
    await policies.delete("cnp:default/both");
    await until(
      "they are back",
      async () => (await names()).join().includes("cnp:default/b,cnp:default/both"),
      5,
    );
  }
  {
    // A restart: while it was down b, both and bad were deleted.
    await using run = mirrorOf((options) => new PolicyTarget(client, options));
    const { mirror } = run;
    mirror.want("cnp:default/a", policy("a", "y"));
    mirror.unread("cnp:default/both", true);
    mirror.complete("NetworkPolicy");
    await until("it has compared", () => mirror.waiting === 0, 5);
    // Its kind was not listed completely yet.
    assert.equal((await names()).length, 4);
    const { written } = mirror;
    mirror.complete("CiliumNetworkPolicy");
    // Of one nobody could read what there is: it stays until somebody can.
    const left = "cnp:default/a,cnp:default/both,cnp:default/mine";
    await until("one is gone", async () => (await names()).join() === left && mirror.waiting === 0, 5);
    mirror.unread("cnp:default/both", false);
    await until("the other is", async () => (await names()).join() === "cnp:default/a,cnp:default/mine", 5);
    assert.equal(mirror.written, written + 2);
  }
  client.close();
  await engine.stop();
  await allocator.stop();
});

function service(name: string, clusterIP: string, nodePort: number, more: Partial<KubernetesObject> = {}) {
  return pruneService({
    metadata: { name, namespace: "default", uid: `u-${name}`, labels: { a: "b" }, ...more.metadata },
    spec: {
      type: "LoadBalancer",
      clusterIP,
      clusterIPs: [clusterIP],
      selector: { app: "web" },
      healthCheckNodePort: 31000,
      ports: [{ name: "http", port: 80, targetPort: 8080, nodePort, protocol: "TCP", unheardOf: 1 }],
      someNewField: true,
    },
    status: {
      loadBalancer: { ingress: nodePort === 0 ? [] : [{ ip: "192.0.2.80", ports: [] }] },
      conditions: [],
    },
  });
}

function slice(name: string, of: string, address: string): WantedObject | undefined {
  return pruneSlice({
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": of } },
    addressType: "IPv4",
    endpoints: [{
      addresses: [address],
      conditions: { ready: true },
      nodeName: "n1",
      zone: "z",
      newField: 1,
    }],
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  });
}

Deno.test("Mirror gives the load balancer services and slices as the API server made them, in batches", async () => {
  const lb = createLoadBalancer({ database: new Database("sqlite::memory:") });
  lb.start();
  await lb.waitReady();
  const client = new WeirClient({ handler: lb.handler });
  const ports = client.collection("serviceports", ServicePort);
  const byHand = JSON.stringify({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "mine", namespace: "default" },
    spec: { clusterIP: "10.96.9.9", ports: [{ port: 1 }] },
  });
  await client.call("/v1/services:apply", {
    request: { message: LbApply, value: { manifest: byHand, file: "mine.yaml" } },
    response: LbApplied,
  });
  await using run = mirrorOf((options) => new ServiceTarget(client, options));
  const { mirror } = run;
  for (let i = 0; i < 450; i++) {
    mirror.want(
      `Service/default/s${i}`,
      service(`s${i}`, `10.96.${1 + Math.floor(i / 200)}.${1 + i % 200}`, 0),
    );
  }
  mirror.want("Service/default/web", service("web", "10.96.0.80", 30080));
  mirror.want("EndpointSlice/default/web-1", slice("web-1", "web", "10.0.1.7"));
  // Of the same node port: one of a batch is refused, the others are not.
  mirror.want("Service/default/late", service("late", "10.96.0.81", 30080));
  mirror.complete("Service");
  mirror.complete("EndpointSlice");
  await until("they are there", () => mirror.waiting === 0 && mirror.faults.size === 1, 5);
  const { items } = await ports.list();
  const web = items.find(({ service }) => service === "web")!;
  assert.deepEqual(
    web.frontends.map(({ kind, address, port }) => `${kind} ${address}:${port}`).sort(),
    ["CLUSTER_IP 10.96.0.80:80", "LOAD_BALANCER 192.0.2.80:80", "NODE_PORT :30080"],
  );
  assert.equal(items.length, 452);
  assert.equal(lb.tables.backends.list().map(({ address }) => address).join(), "10.0.1.7");
  assert.equal(mirror.faults.get("Service/default/late")?.error.code, "NODE_PORT_TAKEN");
  // In one batch: what had the port goes first.
  mirror.want("Service/default/web", undefined);
  mirror.want(
    "Service/default/late",
    service("late", "10.96.0.81", 30080, { metadata: { name: "late", labels: {} } }),
  );
  mirror.want("EndpointSlice/default/web-1", slice("web-1", "late", "10.0.1.8"));
  await until("the other has it", () => mirror.faults.size === 0 && mirror.waiting === 0, 5);
  assert.equal(lb.tables.backends.list().map(({ address }) => address).join(), "10.0.1.8");
  // Labels that come and go: served by another proxy, by nobody, and again.
  for (const label of ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"]) {
    const labels = { [label]: "" };
    mirror.want(
      "Service/default/late",
      service("late", "10.96.0.81", 30080, { metadata: { name: "late", labels } }),
    );
    await until(`${label} takes it away`, () => lb.tables.services.get("default/late") === undefined, 5);
    mirror.want("Service/default/late", service("late", "10.96.0.81", 30080));
    await until("it is back", () => lb.tables.services.get("default/late") !== undefined, 5);
    assert.equal(lb.tables.backends.list().map(({ address }) => address).join(), "10.0.1.8");
  }
  for (let i = 0; i < 450; i++) mirror.want(`Service/default/s${i}`, undefined);
  await until("they are gone", () => lb.tables.services.size === 2, 5);
  assert.ok(lb.tables.services.get("default/mine"));
  client.close();
  await lb.stop();
});

Deno.test("Mirror keeps the order, and what a service could not take until it can", async () => {
  const writes: string[] = [];
  const held = new Map<string, HeldObject>();
  let isAway = true;
  const target: MirrorTarget = {
    name: "x",
    synced: true,
    batchMax: 2,
    get: (name) => held.get(name),
    names: () => held.keys(),
    put: (objects) => {
      if (isAway) throw new ProblemError("UNREACHABLE", { status: 503, detail: "away" });
      for (const { name, kind, digest } of objects) {
        writes.push(name);
        held.set(name, { kind, digest });
      }
      return Promise.resolve();
    },
    delete: () => Promise.resolve(),
  };
  const mirror = new Mirror({ target, ...parts }).start();
  const names = ["c", "a", "b", "d"];
  for (const name of names) {
    mirror.want(name, { kind: "K", key: name, uid: "", generation: 1, text: name, digest: digestOf(name) });
  }
  await until("it is tried", () => mirror.error?.code === "UNREACHABLE", 5);
  assert.equal(mirror.waiting, 4);
  isAway = false;
  await until("all are written", () => writes.length === 4, 5);
  assert.equal(mirror.error, undefined);
  assert.deepEqual(writes, names);
  await mirror.stop();
});

Deno.test("Mirrors of two replicas do not undo what one of them has not heard of yet", async () => {
  const held = new Map<string, HeldObject>();
  const writes: string[] = [];
  const clock = new FakeClock();
  const mirrors: Mirror[] = [];
  const target = (who: string): MirrorTarget => {
    const change = (name: string, value?: HeldObject) => {
      writes.push(`${who} ${value === undefined ? "-" : "+"}${name}`);
      if (value === undefined) held.delete(name);
      else held.set(name, value);
      for (const mirror of mirrors) mirror.heldChanged(name);
      return Promise.resolve();
    };
    return {
      name: who,
      synced: true,
      batchMax: 1,
      get: (name) => held.get(name),
      names: () => held.keys(),
      put: ([{ name, kind, digest }]) => change(name, { kind, digest }),
      delete: ([{ name }]) => change(name),
    };
  };
  const wanted = (text: string): WantedObject => ({
    kind: "K",
    key: "a",
    uid: "",
    generation: 1,
    text,
    digest: digestOf(text),
  });
  for (const who of ["first", "second"]) {
    mirrors.push(new Mirror({ target: target(who), log, clock }).start());
  }
  const [first, second] = mirrors;
  for (const mirror of mirrors) mirror.complete("K");
  first.want("a", wanted("one"));
  await until("it is written", () => held.has("a"), 1);
  await clock.advance(1000);
  assert.deepEqual(writes, ["first +a"]);
  second.want("a", wanted("one"));
  await clock.advance(3000);
  assert.deepEqual(writes, ["first +a"]);
  // One that somebody else took away is written again, once everybody had time to hear of it.
  held.delete("a");
  for (const mirror of mirrors) mirror.heldChanged("a");
  await clock.advance(2500);
  await until("it is back", () => held.has("a"), 1);
  await Promise.all(mirrors.map((mirror) => mirror.stop()));
});
