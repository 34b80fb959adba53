import assert from "node:assert/strict";
import { Backend, Service } from "@weir/proto/loadbalancer";
import { serviceStage } from "./service_stage.ts";

const TCP = 6;
const backend = (pod: string, node: string, fields: Partial<Backend> = {}): Backend =>
  Backend.create({
    service: 1,
    address: `10.0.0.${pod.length}`,
    port: 8080,
    state: "ACTIVE",
    pod,
    node,
    serving: true,
    ...fields,
  });

function service(port: Record<string, unknown> = {}, fields: Record<string, unknown> = {}): Service {
  return Service.create({
    name: "shop/web",
    ports: [{
      id: 1,
      portName: "http",
      protocol: "TCP",
      frontends: [
        { kind: "CLUSTER_IP", address: "10.96.0.1", port: 80 },
        { kind: "LOAD_BALANCER", address: "192.0.2.1", port: 80 },
      ],
      ...port,
    }],
    ...fields,
  });
}

function ask(service: Service, rest: Partial<Parameters<typeof serviceStage>[0]> = {}) {
  const { stage, picked } = serviceStage({
    service,
    address: undefined,
    protocol: TCP,
    port: 80,
    outside: false,
    sourceNode: "node-1",
    sourceAddress: "10.0.0.9",
    backends: [],
    ...rest,
  });
  return { ...stage, picked: picked.map(({ pod }) => pod) };
}

Deno.test("serviceStage() names who is picked and why others are not", () => {
  const backends = [
    backend("shop/a", "node-1"),
    backend("shop/bb", "node-2", { state: "MAINTENANCE" }),
    backend("shop/ccc", "node-2", { state: "TERMINATING" }),
    backend("of/another", "node-1", { service: 2 }),
  ];
  const excluded = [{
    pod: "shop/d",
    node: "node-2",
    reason: "it is not ready: nothing listens on 8080/TCP",
  }];
  const found = ask(service({}, { excluded, excludedPods: 1 }), { backends });
  assert.equal(found.state, "ok");
  assert.deepEqual(found.picked, ["shop/a"]);
  assert.equal(found.message, "10.96.0.1:80/TCP goes to 1 backend");
  assert.match(
    found.details.map((line) => line.join(" ")).join("\n"),
    /backend shop\/a .*\nnot shop\/bb .*maintenance.*\nnot shop\/ccc .*ending\nnot shop\/d on node-2: it is not ready/,
  );
});

Deno.test("serviceStage() says that a backend is ending, that affinity holds, what another name stands for", () => {
  const ending = ask(service(), { backends: [backend("shop/a", "node-1", { state: "TERMINATING" })] });
  assert.match(ending.details.join("\n"), /backend,shop\/a .*: it is ending, and there is no other/);
  const two = [backend("shop/a", "node-1"), backend("shop/bb", "node-2")];
  const sticky = ask(service({ affinityTimeoutS: 90 }), { backends: two });
  assert.match(sticky.details.join("\n"), /who has a backend keeps it for 90 s/);
  assert.doesNotMatch(ask(service(), { backends: two }).details.join("\n"), /keeps it/);
  const name = service({}, {
    type: "ExternalName",
    ignored: "ExternalName: ...",
    externalName: "shop.example",
  });
  assert.deepEqual(ask(name).fixes, ["Ask for the DNS name that it stands for: --to shop.example"]);
});

Deno.test("serviceStage() finds a pod by its host port at its own node alone", () => {
  const pod = service({ frontends: [{ kind: "HOST_PORT", port: 8888, node: "node-1" }] }, {
    type: "HostPort",
  });
  const at = {
    port: 8888,
    address: "172.30.0.11",
    backends: [backend("shop/a", "node-1")],
    sourceNode: undefined,
    outside: true,
  };
  assert.deepEqual(ask(pod, { ...at, atNode: "node-1" }).picked, ["shop/a"]);
  assert.equal(ask(pod, { ...at, atNode: "node-2" }).state, "broken");
});

Deno.test("serviceStage() says which port there is, which source is shut out, which node has no backend", () => {
  assert.match(ask(service(), { port: 81 }).message, /^it has no port 81\/TCP: it has http 80\/TCP$/);
  assert.match(ask(service(), { protocol: 17 }).message, /^it has no port 80\/UDP/);
  assert.equal(ask(service(), { port: "http", backends: [backend("shop/a", "node-1")] }).state, "ok");
  assert.match(ask(service({}, { ignored: "headless" })).message, /headless/);
  const local = ask(service({ internalTrafficPolicy: "LOCAL" }), { backends: [backend("shop/a", "node-2")] });
  assert.equal(
    local.message,
    "10.96.0.1:80/TCP has no backend on node-1, and internalTrafficPolicy is Local (there are some on node-2)",
  );
  const ranges = service({ sourceRanges: ["198.51.100.0/24"] });
  const outside = {
    address: "192.0.2.1",
    sourceNode: undefined,
    outside: true,
    backends: [backend("shop/a", "node-1")],
  };
  assert.match(
    ask(ranges, { ...outside, sourceAddress: "203.0.113.1" }).message,
    /203\.0\.113\.1 is in none of the source ranges \(198\.51\.100\.0\/24\)/,
  );
  assert.equal(ask(ranges, { ...outside, sourceAddress: "198.51.100.7" }).state, "ok");
  assert.equal(ask(ranges).state, "broken", "no backend, but no word of ranges for a cluster IP");
  assert.doesNotMatch(ask(ranges).message, /ranges/);
});

Deno.test("serviceStage() says what the load balancer says when there is no backend", () => {
  const conditions = [{
    type: "Backends",
    ok: false,
    reason: "NoActiveBackends",
    message: "http: no pod of namespace shop has the labels app=wbe",
  }];
  assert.match(ask(service({}, { conditions })).message, /has no backend: .*app=wbe$/);
});

Deno.test("serviceStage() says what a node does with its node port, and that the service's address does not have it", () => {
  const local = service({
    externalTrafficPolicy: "LOCAL",
    frontends: [{ kind: "CLUSTER_IP", address: "10.96.0.1", port: 80 }, { kind: "NODE_PORT", port: 30080 }],
  });
  const at = {
    address: "172.30.0.11",
    atNode: "node-1",
    port: 30080,
    backends: [backend("shop/a", "node-2")],
  };
  const outside = ask(local, { ...at, sourceNode: undefined, outside: true });
  assert.match(
    outside.message,
    /^node-1:30080\/TCP has no backend on node-1, and externalTrafficPolicy is Local/,
  );
  assert.equal(outside.fixes[0], "Ask node-2 instead");
  assert.deepEqual(outside.picked, []);
  assert.deepEqual(ask(local, { ...at, sourceNode: "node-2" }).picked, [], "from another machine");
  assert.equal(ask(local, { ...at, sourceNode: "node-1" }).picked.length, 1, "from the node itself");
  const own = ask(local, { address: "10.96.0.1", port: 30080 });
  assert.equal(own.message, "it has no port 30080/TCP: it has http 80/TCP");
});

Deno.test("serviceStage() knows that nobody outside reaches a cluster IP, and what the service lacks", () => {
  const outside = { outside: true, sourceNode: undefined, backends: [backend("shop/a", "node-1")] };
  const frontends = [{ kind: "CLUSTER_IP", address: "10.96.0.1", port: 80 }];
  const inner = ask(service({ frontends }), outside);
  assert.match(inner.message, /^10\.96\.0\.1 is its cluster IP, which nobody outside of the cluster reaches/);
  assert.deepEqual(inner.fixes, ["Make it a service of type NodePort or LoadBalancer"]);
  assert.deepEqual(inner.picked, []);
  const conditions = [{
    type: "AddressPool",
    ok: false,
    reason: "NoPool",
    message: "no address pool serves it",
  }];
  const pending = ask(
    service({ frontends: [...frontends, { kind: "NODE_PORT", port: 30080 }] }, { conditions }),
    outside,
  );
  assert.match(pending.message, /no address pool serves it$/);
  assert.deepEqual(pending.fixes[1], "Ask a node for its node port: --to NODE -p 30080");
  assert.match(ask(service(), outside).message, /^192\.0\.2\.1:80\/TCP goes to 1 backend/);
  assert.equal(ask(service(), { ...outside, address: "10.96.0.1" }).state, "broken");
});
