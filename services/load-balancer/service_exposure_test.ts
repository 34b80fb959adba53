/** Which frontends, hints and health check node ports a Service asks for, from its manifest to what nodes watch. @module */
import assert from "node:assert/strict";
import { createLoadBalancer } from "./routes.ts";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { WeirClient } from "@weir/client";
import { ApplyRequest, ApplyResponse, Backend, Service, ServicePort } from "@weir/proto/loadbalancer";

/** A load balancer in memory. */
async function withLoadBalancer(body: (bench: Bench) => Promise<void>): Promise<void> {
  const database = new Database("sqlite::memory:");
  const lb = createLoadBalancer({ database, clock: new FakeClock() });
  lb.start();
  await lb.waitReady();
  try {
    await body(new Bench(new WeirClient({ handler: lb.handler })));
  } finally {
    await lb.stop();
    await database.close();
  }
}

class Bench {
  constructor(readonly client: WeirClient) {}

  async apply(objects: unknown[], file = "t.yaml"): Promise<ApplyResponse> {
    const value = { manifest: objects.map((one) => JSON.stringify(one)).join("\n---\n"), file };
    const request = { message: ApplyRequest, value };
    return await this.client.call("/v1/services:apply", { request, response: ApplyResponse });
  }
  async ports(name: string): Promise<ServicePort[]> {
    const { items } = await this.client.collection("serviceports", ServicePort).list();
    return items.filter(({ service }) => service === name);
  }
  async service(name: string): Promise<Service> {
    return (await this.client.collection("services", Service).get(`default/${name}`))!;
  }
}

// deno-lint-ignore no-explicit-any
function service(name: string, spec: any = {}, metadata: any = {}): any {
  const ports = [{ port: 80 }];
  return { apiVersion: "v1", kind: "Service", metadata: { name, ...metadata }, spec: { ports, ...spec } };
}
const outside = { type: "LoadBalancer", externalTrafficPolicy: "Local" };

Deno.test("LoadBalancer gives a service with local external traffic a health check node port of its own, and keeps it", async () => {
  await withLoadBalancer(async (bench) => {
    await bench.apply([
      service("a", { ...outside, healthCheckNodePort: 31_234 }),
      service("b", { ...outside, ports: [{ name: "x", port: 80 }, { name: "y", port: 81 }] }),
      service("c", { type: "LoadBalancer" }),
    ]);
    const of = async (name: string) => (await bench.ports(name)).map((port) => port.healthCheckNodePort);
    assert.deepEqual([await of("a"), await of("c")], [[31_234], [0]]);
    const [given, same] = await of("b");
    assert.ok(given >= 30_000 && given === same, "one for all its ports");
    await bench.apply([service("b", outside)]);
    assert.deepEqual(await of("b"), [given], "it keeps what it has");
    const nodePort = { type: "NodePort", ports: [{ port: 80, nodePort: 31_234 }] };
    await assert.rejects(bench.apply([service("d", nodePort)]), { code: "NODE_PORT_TAKEN" });
    const twice = { ...outside, healthCheckNodePort: 32_000, ports: [{ port: 80, nodePort: 32_000 }] };
    await assert.rejects(bench.apply([service("e", twice)]), { code: "NODE_PORT_TAKEN" });
    await bench.apply([service("a", { ...outside, externalTrafficPolicy: "Cluster" })]);
    assert.deepEqual(await of("a"), [0]);
    await bench.apply([service("d", nodePort)]);
  });
});

Deno.test("LoadBalancer takes the node ports that the API server gives, whatever its own range is", async () => {
  await withLoadBalancer(async (bench) => {
    const given = service("a", {
      ...outside,
      healthCheckNodePort: 20_001,
      ports: [{ port: 80, nodePort: 20_000 }],
    });
    await assert.rejects(bench.apply([given]), { code: "NODE_PORT_OUT_OF_RANGE" });
    await bench.apply([given], "kubernetes:Service/default/a");
    const [port] = await bench.ports("a");
    assert.equal(port.healthCheckNodePort, 20_001);
    assert.equal(port.frontends.find(({ kind }) => kind === "NODE_PORT")?.port, 20_000);
  });
});

Deno.test("LoadBalancer honours service.cilium.io/type, node and node-selector", async () => {
  await withLoadBalancer(async (bench) => {
    const kinds = async (type: string) => {
      const annotations = { "service.cilium.io/type": type };
      await bench.apply([
        service("a", { type: "LoadBalancer", externalIPs: ["192.0.2.9"] }, { annotations }),
      ]);
      return (await bench.ports("a"))[0].frontends.map(({ kind }) => kind);
    };
    await bench.apply([{
      apiVersion: "cilium.io/v2",
      kind: "CiliumLoadBalancerIPPool",
      metadata: { name: "pool" },
      spec: { blocks: [{ cidr: "198.51.100.0/24" }] },
    }]);
    assert.deepEqual(await kinds("ClusterIP"), ["CLUSTER_IP", "EXTERNAL_IP"]);
    assert.deepEqual(await kinds("NodePort"), ["NODE_PORT"]);
    assert.deepEqual(await kinds("LoadBalancer"), ["LOAD_BALANCER"]);
    await assert.rejects(kinds("Ingress"), { message: /want one of ClusterIP, NodePort, LoadBalancer/ });
    const selector = async (annotations: Record<string, string>) => {
      await bench.apply([service("n", {}, { annotations })]);
      return (await bench.ports("n"))[0].nodeSelector;
    };
    assert.deepEqual(await selector({}), []);
    assert.deepEqual(await selector({ "service.cilium.io/node": "t1" }), ["any:service.cilium.io/node=t1"]);
    assert.equal((await selector({ "service.cilium.io/node-selector": "tier in (a, b),!spot" })).length, 2);
    await assert.rejects(selector({ "service.cilium.io/node-selector": "tier in" }), {
      code: "SERVICE_INVALID",
    });
  });
});

Deno.test("LoadBalancer serves no service that says another proxy, or nobody, does", async () => {
  await withLoadBalancer(async (bench) => {
    const labels = (label: string) => ({ labels: { [`service.kubernetes.io/${label}`]: "other" } });
    await bench.apply([service("p", {}, labels("service-proxy-name")), service("h", {}, labels("headless"))]);
    assert.match((await bench.service("p")).ignored, /service-proxy-name says that other serves it/);
    assert.match((await bench.service("h")).ignored, /headless/);
    assert.deepEqual([await bench.ports("p"), await bench.ports("h")], [[], []]);
  });
});

Deno.test("LoadBalancer passes on hints of slices, and gives endpoints their own place where the service asks for nearness", async () => {
  await withLoadBalancer(async (bench) => {
    const near = { nodeName: "n1", zone: "a" };
    const hints = { forZones: [{ name: "b" }], forNodes: [{ name: "n2" }] };
    const slice = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "s", labels: { "kubernetes.io/service-name": "a" } },
      addressType: "IPv4",
      ports: [{ port: 80 }],
      endpoints: [{ addresses: ["10.0.0.1"], ...near, hints }, { addresses: ["10.0.0.2"], ...near }],
    };
    const hinted = async (spec: unknown, annotations = {}) => {
      await bench.apply([service("a", spec, { annotations }), slice]);
      const { items } = await bench.client.collection("backends", Backend).list();
      const said = items.sort((a, b) => a.address < b.address ? -1 : 1)
        .map(({ hintZones, hintNodes }) => `${hintZones} ${hintNodes}`);
      return [...said, (await bench.ports("a"))[0].topologyHints];
    };
    const mode = (text: string) => ({ "service.kubernetes.io/topology-mode": text });
    assert.deepEqual(await hinted({}), ["b n2", " ", true]);
    assert.deepEqual(await hinted({}, mode("Auto")), ["b n2", " ", true]);
    assert.deepEqual(await hinted({}, mode("Disabled")), ["b n2", " ", false]);
    for (const distribution of ["PreferClose", "PreferSameZone"]) {
      assert.deepEqual(await hinted({ trafficDistribution: distribution }), ["b n2", "a ", true]);
    }
    assert.deepEqual(await hinted({ trafficDistribution: "PreferSameNode" }), ["b n2", "a n1", true]);
  });
});
