import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer, systemClock, WatchedTable } from "@weir/common";
import { ServicesUpdate, ServicesUpdateResponse } from "@weir/proto/datapath";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { MapState, NodePolicy } from "@weir/proto/policy";
import { Peer } from "./peer.ts";
import { httpDatapath, httpPolicySource, httpServiceSource } from "./http_sources.ts";
import { ServiceReconciler } from "./service_reconciler.ts";

Deno.test("httpServiceSource() and httpDatapath() carry one changed backend from watch to update", async () => {
  const ports = new WatchedTable<ServicePort>({ name: "serviceports" });
  const backends = new WatchedTable<Backend>({ name: "backends" });
  const balancer = new ApiServer({ name: "load-balancer" }), datapath = new ApiServer({ name: "datapath" });
  balancer.collection({ name: "serviceports", message: ServicePort, table: ports });
  balancer.collection({ name: "backends", message: Backend, table: backends });
  const updates: ServicesUpdate[] = [];
  datapath.action({
    path: "/v1/services:update",
    request: ServicesUpdate,
    response: ServicesUpdateResponse,
    handle: (update) => {
      updates.push(update);
      return ServicesUpdateResponse.create({ mapWrites: 3, timeUs: 500 });
    },
  });
  const frontends = [{ kind: "CLUSTER_IP" as const, address: "10.96.0.1", port: 80 }];
  ports.put("7", ServicePort.create({ name: "7", id: 7, namespace: "shop", service: "cart", frontends }));
  const backend = (state: Backend["state"]) =>
    Backend.create({
      name: "7/10.0.0.1/80",
      service: 7,
      address: "10.0.0.1",
      port: 80,
      state,
      serving: true,
    });
  backends.put("7/10.0.0.1/80", backend("ACTIVE"));

  let wake = () => {};
  using reconciler = new ServiceReconciler({
    source: httpServiceSource(new WeirClient({ handler: balancer.fetch })),
    datapath: httpDatapath(new WeirClient({ handler: datapath.fetch })),
    place: { nodeName: "node-1", zone: "", labels: [] },
    onDirty: () => wake(),
    datapathPeer: new Peer({ name: "datapath", clock: systemClock, effect: () => "" }),
    clock: systemClock,
  });
  const next = async () => {
    while (updates.length === 0) {
      await new Promise<void>((resolve) => wake = resolve);
      await reconciler.reconcile();
    }
    return updates.shift()!;
  };
  const first = await next();
  assert.equal(first.replace, true);
  assert.deepEqual(first.services.map((s) => [s.id, s.name]), [[7, "shop/cart:80"]]);
  assert.deepEqual(first.backends.map((b) => [b.address, b.state, b.internal]), [[
    "10.0.0.1",
    "ACTIVE",
    true,
  ]]);
  backends.put("7/10.0.0.1/80", backend("TERMINATING"));
  const second = await next();
  assert.deepEqual([second.replace, second.services.length, second.backends.length], [false, 0, 1]);
  assert.equal(second.backends[0].state, "TERMINATING");
  backends.delete("7/10.0.0.1/80");
  const third = await next();
  assert.deepEqual(third.deletedBackends.map((b) => [b.service, b.address, b.port]), [[7, "10.0.0.1", 80]]);
  assert.deepEqual(reconciler.totals, { updates: 3, objects: 4, mapWrites: 9, datapathSeconds: 0.0015 });
});

Deno.test("httpPolicySource() follows map states by name over one stream, and says what is in force", async () => {
  const mapStates = new WatchedTable<MapState>({ name: "mapstates" });
  const told: NodePolicy[] = [];
  const engine = new ApiServer({ name: "policy-engine" });
  engine.collection({ name: "mapstates", message: MapState, table: mapStates });
  engine.collection<NodePolicy>({
    name: "nodepolicies",
    message: NodePolicy,
    list: () => told,
    put: (name, value) => {
      told.push({ ...value, node: name });
      return value;
    },
  });
  let streams = 0;
  const source = httpPolicySource(
    new WeirClient({
      handler: (request) => {
        if (request.url.includes(":watch")) streams++;
        return engine.fetch(request);
      },
    }),
    "node-1",
  );
  const heard: string[] = [];
  let wake = () => {};
  using mirror = source.mapStates({
    onChange: (name, state) => heard.push(`${name} ${state?.policyRevision ?? "gone"}`),
    onSynced: () => {},
    onPosition: () => wake(),
  });
  const position = () => new Promise<void>((resolve) => wake = resolve);
  for (const identity of [300, 301, 302]) {
    mapStates.put(`${identity}`, MapState.create({ identity, policyRevision: identity }));
  }
  mirror.setNames(new Set(["300", "302"]));
  while (!mirror.get("302")) await position();
  assert.deepEqual(heard.sort(), ["300 300", "302 302"]);
  assert.equal(mirror.get("301"), undefined, "nobody asked for it");
  assert.ok(streams <= 2, `${streams} streams`);
  mapStates.announce();
  await position();
  assert.deepEqual(mirror.position, { epoch: mapStates.epoch, revision: mapStates.revision });
  await source.acknowledge({
    ...mirror.position!,
    sinceUnixS: 5,
    error: "",
    endpoints: 2,
    newestPolicyRevision: 7,
  });
  assert.deepEqual(told.map((t) => [t.node, t.epoch, t.revision, t.endpoints]), [
    ["node-1", mapStates.epoch, mapStates.revision, 2],
  ]);
});
