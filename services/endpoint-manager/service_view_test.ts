import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import {
  type HintsInForce,
  hintsInForce,
  servicePortName,
  viewBackend,
  viewService,
} from "./service_view.ts";

const place = { nodeName: "node-1", zone: "a", labels: [] };
const servicePort = (init: Init<ServicePort> = {}) =>
  ServicePort.create({
    id: 7,
    namespace: "shop",
    service: "cart",
    protocol: "TCP",
    frontends: [{ kind: "CLUSTER_IP", address: "10.96.0.7", port: 80 }],
    ...init,
  });
const backend = (init: Init<Backend> = {}) =>
  Backend.create({ service: 7, address: "10.0.1.7", port: 8080, state: "ACTIVE", weight: 1, ...init });

Deno.test("viewService() says which frontends the outside may use, and leaves another node's host ports out", () => {
  const view = viewService(
    servicePort({
      frontends: [
        { kind: "CLUSTER_IP", address: "10.96.0.7", port: 80 },
        { kind: "NODE_PORT", address: "192.0.2.1", port: 30080 },
        { kind: "LOAD_BALANCER", address: "198.51.100.1", port: 80 },
        { kind: "EXTERNAL_IP", address: "198.51.100.2", port: 80, closed: true },
        { kind: "HOST_PORT", address: "", port: 8081, node: "node-1" },
        { kind: "HOST_PORT", address: "", port: 8082, node: "node-2" },
      ],
      sourceRanges: ["203.0.113.0/24"],
      forwarding: "DSR",
    }),
    place,
  )!;
  assert.deepEqual(
    view.frontends!.map((f) => [f.address, f.port, f.external, f.nodePort, f.closed]),
    [
      ["10.96.0.7", 80, false, false, false],
      ["", 30080, true, true, false],
      ["198.51.100.1", 80, true, false, false],
      ["198.51.100.2", 80, true, false, true],
      ["", 8081, true, true, false],
    ],
  );
  assert.equal(view.name, "shop/cart:80");
  assert.deepEqual(view.sourceRanges, ["203.0.113.0/24"]);
  assert.equal(view.forwarding, "DSR");
  const elsewhere = servicePort({ frontends: [{ kind: "HOST_PORT", port: 8082, node: "node-2" }] });
  assert.equal(viewService(elsewhere, place), undefined);
});

Deno.test("viewService() leaves out what is for other nodes by their labels", () => {
  const cases: [string[], string[], boolean][] = [
    [[], [], true],
    [["service.cilium.io/node=beefy"], ["service.cilium.io/node=beefy", "a=b"], true],
    [["service.cilium.io/node=beefy"], ["service.cilium.io/node=slow"], false],
    [["service.cilium.io/node in (t1, t1-t2)"], ["k8s:service.cilium.io/node=t1"], true],
    [["tier notin (edge)", "!spot"], ["tier=core"], true],
    [["tier notin (edge)", "!spot"], ["tier=core", "spot="], false],
  ];
  for (const [nodeSelector, labels, expected] of cases) {
    const view = viewService(servicePort({ nodeSelector }), { ...place, labels });
    assert.equal(view !== undefined, expected, `${nodeSelector} at ${labels}`);
  }
});

Deno.test("servicePortName() takes the port's name, else its number", () => {
  assert.equal(servicePortName(servicePort()), "shop/cart:80");
  assert.equal(servicePortName(servicePort({ portName: "http" })), "shop/cart:http");
});

Deno.test("viewBackend() keeps a scope with policy Local to the backends of this node", () => {
  const here = backend({ node: "node-1" }), there = backend({ node: "node-2" }), outside = backend();
  const cases: [string, Init<ServicePort>, Backend, [boolean, boolean] | undefined][] = [
    ["cluster, here", {}, here, [true, true]],
    ["cluster, there", {}, there, [true, true]],
    ["cluster, no pod", {}, outside, [true, true]],
    ["external local, here", { externalTrafficPolicy: "LOCAL" }, here, [true, true]],
    ["external local, there", { externalTrafficPolicy: "LOCAL" }, there, [true, false]],
    ["external local, no pod", { externalTrafficPolicy: "LOCAL" }, outside, [true, false]],
    ["internal local, there", { internalTrafficPolicy: "LOCAL" }, there, [false, true]],
    [
      "both local, there",
      { internalTrafficPolicy: "LOCAL", externalTrafficPolicy: "LOCAL" },
      there,
      undefined,
    ],
    ["host port, here", { frontends: [{ kind: "HOST_PORT", port: 1, node: "node-1" }] }, here, [true, true]],
    ["host port, there", { frontends: [{ kind: "HOST_PORT", port: 1, node: "node-1" }] }, there, undefined],
  ];
  for (const [name, init, given, expected] of cases) {
    const view = viewBackend(servicePort(init), given, { place, hints: "" });
    assert.deepEqual(view && [view.internal, view.external], expected, name);
  }
});

Deno.test("hintsInForce() wants hints on every active backend and one for this node or zone, else all serve", () => {
  const a = backend({ hintZones: ["a"] }), b = backend({ hintZones: ["b"] }), none = backend();
  const mine = backend({ hintZones: ["a"], hintNodes: ["node-1"] });
  const near = backend({ hintZones: ["a"], hintNodes: ["node-2"] });
  const far = backend({ hintZones: ["b"], hintNodes: ["node-3"] });
  const ending = backend({ state: "TERMINATING" });
  const cases: [string, boolean, Backend[], string, HintsInForce][] = [
    ["not asked for", false, [a, b], "a", ""],
    ["asked for", true, [a, b], "a", "zone"],
    ["zone of the node unknown", true, [a, b], "", ""],
    ["no backend for this zone", true, [b], "a", ""],
    ["one without hints", true, [a, b, none], "a", ""],
    ["one that ends has none", true, [a, b, ending], "a", "zone"],
    ["only one that ends is near", true, [{ ...a, state: "TERMINATING" }, b], "a", ""],
    ["no backends", true, [], "a", ""],
    ["hints for nodes, one for this", true, [mine, near, far], "a", "node"],
    ["hints for nodes, none for this", true, [near, far], "a", "zone"],
    ["hints for nodes, none for this nor its zone", true, [far], "a", ""],
    ["not all have hints for nodes", true, [mine, near, a], "a", "zone"],
    ["for this node, and its zone is not known", true, [mine, far], "", "node"],
  ];
  for (const [name, topologyHints, backends, zone, expected] of cases) {
    assert.equal(hintsInForce(servicePort({ topologyHints }), backends, { ...place, zone }), expected, name);
  }
});

Deno.test("viewBackend() keeps to the zone while hints are in force, and keeps one that ends", () => {
  const seen = (given: Backend, init: Init<ServicePort> = {}) =>
    viewBackend(servicePort({ topologyHints: true, ...init }), given, { place, hints: "zone" });
  assert.ok(seen(backend({ hintZones: ["a"] })));
  assert.equal(seen(backend({ hintZones: ["b"] })), undefined);
  assert.ok(seen(backend({ state: "TERMINATING", hintZones: ["b"], serving: true })), "it has connections");
  const atNode = (hintNodes: string[]) =>
    viewBackend(servicePort(), backend({ hintNodes, hintZones: ["a"] }), { place, hints: "node" });
  assert.ok(atNode(["node-2", "node-1"]));
  assert.equal(atNode(["node-2"]), undefined);
  assert.equal(seen(backend({ state: "TERMINATING", serving: true }))?.state, "TERMINATING");
  // Local is about the node, not the zone.
  const local = seen(backend({ hintZones: ["b"], node: "node-1" }), { externalTrafficPolicy: "LOCAL" });
  assert.deepEqual([local?.internal, local?.external], [false, true]);
});

Deno.test("viewBackend() gives nothing new to one that ends and no longer answers", () => {
  const cases: [Init<Backend>, string][] = [
    [{ state: "ACTIVE" }, "ACTIVE"],
    [{ state: "BACKEND_STATE_UNSPECIFIED" }, "ACTIVE"],
    [{ state: "TERMINATING", serving: true }, "TERMINATING"],
    [{ state: "TERMINATING" }, "QUARANTINED"],
    [{ state: "MAINTENANCE", serving: true }, "MAINTENANCE"],
  ];
  for (const [init, expected] of cases) {
    const view = viewBackend(servicePort(), backend(init), { place, hints: "" });
    assert.equal(view?.state, expected, JSON.stringify(init));
  }
});
