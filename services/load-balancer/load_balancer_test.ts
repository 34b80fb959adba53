import assert from "node:assert/strict";
import { Database } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { WeirClient } from "@weir/client";
import {
  AddressPool,
  ApplyRequest,
  ApplyResponse,
  Backend,
  BackendOverride,
  Pod,
  Service,
  ServicePort,
} from "@weir/proto/loadbalancer";
import type { Init } from "@weir/proto";
import { createLoadBalancer } from "./routes.ts";
import type { LoadBalancer, LoadBalancerOptions } from "./load_balancer.ts";

/** A load balancer with a client, as others meet it. */
class Fixture {
  readonly clock = new FakeClock();
  readonly database: Database;
  readonly lb: LoadBalancer;
  readonly client: WeirClient;

  constructor(url: string, options: Partial<LoadBalancerOptions> = {}) {
    this.database = new Database(url);
    this.lb = createLoadBalancer({ database: this.database, clock: this.clock, ...options });
    this.client = new WeirClient({ handler: this.lb.handler });
  }

  async open(): Promise<this> {
    this.lb.start();
    await this.lb.waitReady();
    return this;
  }
  async close(): Promise<void> {
    await this.lb.stop();
    await this.database.close();
  }

  /** Applies objects; time goes on, so that ages differ. */
  async apply(...objects: unknown[]): Promise<ApplyResponse> {
    await this.clock.advance(1000);
    return await this.post("apply", objects);
  }
  async remove(...objects: unknown[]): Promise<ApplyResponse> {
    return await this.post("delete", objects);
  }
  async post(verb: string, objects: unknown[], more: Init<ApplyRequest> = {}): Promise<ApplyResponse> {
    const manifest = objects.map((object) => typeof object === "string" ? object : JSON.stringify(object))
      .join("\n---\n");
    return await this.client.call(`/v1/services:${verb}`, {
      request: { message: ApplyRequest, value: { manifest, file: "t.yaml", ...more } },
      response: ApplyResponse,
    });
  }
  async service(name: string): Promise<Service> {
    const found = await this.client.collection("services", Service).get(name);
    assert.ok(found, `service ${name}`);
    return found;
  }
  async ports(name: string): Promise<ServicePort[]> {
    const { items } = await this.client.collection("serviceports", ServicePort).list();
    return items.filter((port) => `${port.namespace}/${port.service}` === name);
  }
  /** "address:port STATE" of the backends of a service, sorted. */
  async backends(name: string): Promise<string[]> {
    const ids = new Set((await this.ports(name)).map(({ id }) => id));
    const { items } = await this.client.collection("backends", Backend).list();
    return items.filter(({ service }) => ids.has(service))
      .map(({ address, port, state }) => `${address}:${port} ${state}`).sort();
  }
  async pod(name: string, labels: Record<string, string>, more: Init<Pod> = {}): Promise<void> {
    await this.client.collection("pods", Pod).put(name, {
      labels,
      node: "node-1",
      state: "ACTIVE",
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      ...more,
    });
  }
  async deletePod(name: string): Promise<void> {
    await this.client.collection("pods", Pod).delete(name);
  }
}

// deno-lint-ignore no-explicit-any
function service(name: string, spec: any = {}, metadata: any = {}): any {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, ...metadata },
    spec: { selector: { app: name }, ports: [{ port: 80, targetPort: "http" }], ...spec },
  };
}

// deno-lint-ignore no-explicit-any
function slice(name: string, of: string, endpoints: any[], more: any = {}): any {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name, labels: { "kubernetes.io/service-name": of } },
    addressType: "IPv4",
    ports: [{ name: "", port: 8080 }],
    endpoints,
    ...more,
  };
}

const pool = (name: string, ...cidrs: string[]) => ({
  apiVersion: "cilium.io/v2",
  kind: "CiliumLoadBalancerIPPool",
  metadata: { name },
  spec: { blocks: cidrs.map((cidr) => ({ cidr })) },
});

function frontends(port: ServicePort): string[] {
  return port.frontends.map(({ kind, address, port }) => `${kind} ${address || "*"}:${port}`);
}

type Step = (fixture: Fixture) => Promise<void>;

/** The same behaviour on both databases. */
const STEPS: [string, Step][] = [
  ["gives a cluster IP and an id, and follows pods by selector", async (f) => {
    const { items } = await f.apply(service("web"));
    assert.deepEqual(items.map(({ kind, name, change }) => [kind, name, change]), [
      ["Service", "default/web", "created"],
    ]);
    const [port] = await f.ports("default/web");
    assert.match(port.frontends[0].address, /^10\.96\./);
    assert.deepEqual(port.frontends.map(({ kind, port, closed }) => [kind, port, closed]), [
      ["CLUSTER_IP", 80, true],
    ]);
    assert.equal(port.algorithm, "RANDOM");
    await f.pod("default/a", { app: "web" }, { addresses: ["10.0.1.1", "fd00::1"] });
    await f.pod("default/b", { app: "web" }, {
      addresses: ["10.0.1.2"],
      ports: [{ name: "http", port: 9090, protocol: "TCP" }],
    });
    await f.pod("default/c", { app: "web" }, { addresses: ["10.0.1.3"], state: "BACKEND_STATE_UNSPECIFIED" });
    await f.pod("default/d", { app: "other" }, { addresses: ["10.0.1.4"] });
    await f.pod("other/e", { app: "web" }, { addresses: ["10.0.1.5"] });
    await f.pod("default/f", { app: "web" }, { addresses: ["10.0.1.6"], ports: [] });
    assert.deepEqual(await f.backends("default/web"), ["10.0.1.1:8080 ACTIVE", "10.0.1.2:9090 ACTIVE"]);
    await f.pod("default/a", { app: "web" }, { addresses: ["10.0.1.1"], state: "TERMINATING" });
    assert.deepEqual(await f.backends("default/web"), ["10.0.1.1:8080 TERMINATING", "10.0.1.2:9090 ACTIVE"]);
    const shown = await f.service("default/web");
    assert.deepEqual([shown.backends, shown.activeBackends], [2, 1]);
    await f.deletePod("default/a");
    await f.pod("default/b", { app: "no" }, { addresses: ["10.0.1.2"] });
    assert.deepEqual(await f.backends("default/web"), []);
    assert.equal((await f.service("default/web")).conditions[0].reason, "NoActiveBackends");
    const excluded = async () =>
      (await f.service("default/web")).excluded.map(({ pod, reason }) => [pod, reason]);
    assert.deepEqual(await excluded(), [
      ["default/c", "it is not ready"],
      ["default/f", "none of its containers has a TCP port named http: they have no named port"],
    ]);
    const because = async () => (await f.service("default/web")).conditions[0].message;
    assert.equal(
      await because(),
      "80/TCP: default/c has the labels app=web, and it is not ready (and 1 more)",
    );
    const message = "its readinessProbe fails: nothing listens on 8080/TCP";
    await f.pod("default/c", { app: "web" }, {
      addresses: ["10.0.1.3"],
      state: "BACKEND_STATE_UNSPECIFIED",
      message,
    });
    assert.deepEqual((await excluded())[0], ["default/c", `it is not ready: ${message}`]);
    await f.pod("default/c", { app: "web" }, { addresses: ["10.0.1.3"] });
    assert.deepEqual((await excluded()).map(([pod]) => pod), ["default/f"]);
    await f.deletePod("default/c");
    await f.deletePod("default/f");
    assert.equal(await because(), "80/TCP: no pod of namespace default has the labels app=web");
    await f.remove(service("web"));
    assert.equal((await f.ports("default/web")).length, 0);
  }],
  ["allocates node ports, keeps what it gave, and refuses a node port that another has", async (f) => {
    await f.apply(service("a", { type: "NodePort" }), service("b", { type: "NodePort" }));
    const [a] = await f.ports("default/a"), [b] = await f.ports("default/b");
    assert.deepEqual([frontends(a)[1], frontends(b)[1]], ["NODE_PORT *:30086", "NODE_PORT *:30087"]);
    await assert.rejects(
      f.apply(service("c", { type: "NodePort", ports: [{ port: 80, nodePort: 30086 }] })),
      { code: "NODE_PORT_TAKEN", message: /default\/c.*30086\/TCP: default\/a/ },
    );
    await assert.rejects(
      f.apply(service("c", { type: "NodePort", ports: [{ port: 80, nodePort: 80 }] })),
      { code: "NODE_PORT_OUT_OF_RANGE" },
    );
    const twice = [{ name: "x", port: 80, nodePort: 30100 }, { name: "y", port: 81, nodePort: 30100 }];
    await assert.rejects(f.apply(service("c", { type: "NodePort", ports: twice })), {
      code: "NODE_PORT_TAKEN",
    });
    assert.equal(f.lb.tables.services.has("default/c"), false);
    // All or none: b keeps its numbers although it comes before the fault.
    await assert.rejects(f.apply(
      service("b", { type: "NodePort", ports: [{ port: 81, nodePort: 30200 }] }),
      service("c", { type: "NodePort", ports: [{ port: 80, nodePort: 30086 }] }),
    ));
    assert.deepEqual((await f.ports("default/b")).map(frontends), [frontends(b)]);
    await f.apply(service("d", { type: "NodePort", ports: [{ port: 80, nodePort: 30200 }] }));
    // The same again changes nothing; another port is a new one, and the old one's id is not its.
    const { items } = await f.apply(service("a", { type: "NodePort" }));
    assert.equal(items[0].change, "unchanged");
    await f.apply(service("a", { type: "NodePort", ports: [{ port: 80, name: "web" }] }));
    assert.deepEqual((await f.ports("default/a")).map(({ id, portName }) => [id, portName]), [[a.id, "web"]]);
    assert.deepEqual((await f.ports("default/a")).map(frontends), [frontends(a)]);
  }],
  ["serves both families where asked, and backends of the families it has", async (f) => {
    await f.apply(
      service("web", {
        ipFamilyPolicy: "PreferDualStack",
        ipFamilies: ["IPv6"],
        publishNotReadyAddresses: true,
      }),
    );
    const [port] = await f.ports("default/web");
    assert.match(frontends(port).join(), /^CLUSTER_IP fd00:10:96::[0-9a-f]+:80,CLUSTER_IP 10\.96\./);
    await f.pod("default/a", { app: "web" }, {
      addresses: ["10.0.1.1", "fd00::1"],
      state: "BACKEND_STATE_UNSPECIFIED",
    });
    assert.deepEqual(await f.backends("default/web"), ["10.0.1.1:8080 ACTIVE", "fd00::1:8080 ACTIVE"]);
    const shown = await f.service("default/web");
    assert.deepEqual([shown.backends, shown.activeBackends, shown.clusterIps.length], [1, 1, 2]);
    await f.apply(service("web", { ipFamilies: ["IPv6"], publishNotReadyAddresses: true }));
    assert.deepEqual(await f.backends("default/web"), ["fd00::1:8080 ACTIVE"]);
  }],
  [
    "reads slices: conditions, hints, ports by name, and Endpoints only where there is no slice",
    async (f) => {
      const ports = [{ name: "web", port: 80, targetPort: 1 }, { name: "dns", port: 53, protocol: "UDP" }];
      await f.apply(
        service("ext", { selector: null, ports, trafficDistribution: "PreferClose" }),
        {
          apiVersion: "v1",
          kind: "Endpoints",
          metadata: { name: "ext" },
          subsets: [{ addresses: [{ ip: "192.0.2.9" }], ports: [{ name: "web", port: 99 }] }],
        },
      );
      assert.deepEqual(await f.backends("default/ext"), ["192.0.2.9:99 ACTIVE"]);
      const endpoints = [
        { addresses: ["192.0.2.1"], nodeName: "n1", zone: "a", hints: { forZones: [{ name: "b" }] } },
        { addresses: ["192.0.2.2"], conditions: { ready: false } },
        {
          addresses: ["192.0.2.3"],
          conditions: { ready: false, serving: true, terminating: true },
          zone: "c",
        },
        { addresses: ["192.0.2.4"], conditions: { ready: false, serving: false, terminating: true } },
        // Of a service with publishNotReadyAddresses.
        { addresses: ["192.0.2.5"], conditions: { ready: true, serving: false, terminating: true } },
      ];
      const of = (more = {}) =>
        slice("s1", "ext", endpoints, {
          ports: [{ name: "web", port: 8080 }, { name: "dns", port: 5353, protocol: "UDP" }],
          ...more,
        });
      await f.apply(of());
      const [web, dns] = await f.ports("default/ext");
      const { items } = await f.client.collection("backends", Backend).list();
      const said = items.filter(({ service }) => service === web.id).map((one) =>
        [one.address, one.port, one.state, one.serving, one.node, one.hintZones.join()].join(" ")
      ).sort();
      assert.deepEqual(said, [
        "192.0.2.1 8080 ACTIVE true n1 b",
        "192.0.2.3 8080 TERMINATING true  c",
        "192.0.2.4 8080 TERMINATING false  ",
        "192.0.2.5 8080 ACTIVE false  ",
      ]);
      assert.equal(items.filter(({ service }) => service === dns.id).length, 4);
      assert.deepEqual([web.topologyHints, dns.protocol], [true, "UDP"]);
      await f.remove(of());
      assert.deepEqual(await f.backends("default/ext"), ["192.0.2.9:99 ACTIVE"]);
    },
  ],
  ["gives an address:port to the oldest, says so to the other, and passes it on", async (f) => {
    const given = { clusterIP: "10.96.7.7", ports: [{ port: 80 }] };
    await f.apply(service("old", given));
    await f.apply(service("new", given));
    await f.apply(service("other", { ...given, ports: [{ port: 81 }] }));
    const closed = async () => {
      const all = [
        ...await f.ports("default/old"),
        ...await f.ports("default/new"),
        ...await f.ports("default/other"),
      ];
      return all.flatMap((port) => port.frontends.map(({ closed }) => `${port.service} ${closed}`));
    };
    assert.deepEqual(
      await closed(),
      ["old true", "other false"],
      "one frontend of an address closes its other ports",
    );
    const conflict = (await f.service("default/new")).conditions.find(({ type }) => type === "Conflict")!;
    assert.match(conflict.message, /10\.96\.7\.7:80\/TCP belongs to default\/old.*default\/new gets it/);
    await f.remove(service("old"));
    assert.deepEqual(await closed(), ["new true", "other false"]);
    assert.equal((await f.service("default/new")).conditions.some(({ type }) => type === "Conflict"), false);
  }],
  ["gives LoadBalancer services addresses of pools, and says what they wait for", async (f) => {
    const lb = (name: string, spec = {}, metadata = {}) =>
      service(name, { type: "LoadBalancer", ...spec }, metadata);
    await f.apply(lb("a"));
    const waits = async (name: string) => {
      const { conditions, externalIps } = await f.service(`default/${name}`);
      return [externalIps.join(), conditions.find(({ type }) => type === "AddressPool")?.reason].join(" ");
    };
    assert.equal(await waits("a"), " NoPool");
    await f.apply(pool("blue", "192.0.2.0/31"));
    assert.equal(await waits("a"), "192.0.2.0 Given");
    await f.apply(lb("b"), lb("c"));
    assert.equal(await waits("b"), "192.0.2.1 Given");
    assert.equal(await waits("c"), " PoolExhausted");
    const [blue] = (await f.client.collection("addresspools", AddressPool).list()).items;
    assert.deepEqual([blue.status?.used, blue.status?.total, blue.ranges], [2, 2, ["192.0.2.0/31"]]);
    await f.remove(lb("a"));
    assert.equal(await waits("c"), "192.0.2.0 Given", "an address that is given back goes to who waits");
    // Asked for by number, in another pool, only for services of its selector.
    const red = { ranges: ["198.51.100.10-198.51.100.12"], serviceSelector: ["color=red"] };
    await f.client.collection("addresspools", AddressPool).put("red", red);
    const metadata = { annotations: { "lbipam.cilium.io/ips": "198.51.100.11" }, labels: { color: "red" } };
    await f.apply(lb("d", {}, metadata), lb("e", {}, { ...metadata, labels: {} }));
    assert.equal(await waits("d"), "198.51.100.11 Given");
    assert.equal(await waits("e"), " RequestedAddressUnavailable");
    await f.apply(lb("e", { loadBalancerIP: "198.51.100.11" }, { labels: { color: "red" } }));
    assert.match((await f.service("default/e")).conditions[0].message, /belongs to default\/d/);
    // Shared, with different ports.
    const shared = { ...metadata, annotations: { ...metadata.annotations, "weir.io/lb-sharing-key": "k" } };
    await f.apply(lb("d", {}, shared), lb("e", { ports: [{ port: 443 }] }, shared));
    assert.equal(await waits("e"), "198.51.100.11 Given");
    assert.equal((await f.ports("default/d"))[0].frontends.length, 3, "cluster IP, address, node port");
    // Another implementation's class gets none, and keeps what that one gave.
    const status = { loadBalancer: { ingress: [{ ip: "203.0.113.5" }] } };
    await f.apply({
      ...lb("g", { loadBalancerClass: "vendor.example/lb", allocateLoadBalancerNodePorts: false }),
      status,
    });
    assert.deepEqual((await f.ports("default/g")).map(frontends)[0][1], "LOAD_BALANCER 203.0.113.5:80");
    // An overlapping pool is not used; a pool that goes takes its addresses along.
    await f.apply(pool("late", "192.0.2.0/24"));
    const late = (await f.client.collection("addresspools", AddressPool).get("late"))!;
    assert.match(late.status!.conditions[0].message, /overlap with those of blue/);
    await f.client.collection("addresspools", AddressPool).delete("blue");
    assert.match(await waits("c"), /^192\.0\.2\.[01] Given$/, "the later pool serves it now");
  }],
  ["says headless and ExternalName are not served, and serves what a service becomes", async (f) => {
    await f.apply(
      service("h", { clusterIP: "None" }),
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "x" },
        spec: { type: "ExternalName", externalName: "a.b" },
      },
    );
    assert.match((await f.service("default/h")).ignored, /^headless/);
    assert.match((await f.service("default/x")).ignored, /^ExternalName/);
    assert.equal(f.lb.tables.servicePorts.size, 0);
    await f.pod("default/a", { app: "h" }, { addresses: ["10.0.1.1"] });
    await f.apply(service("h"));
    assert.deepEqual(await f.backends("default/h"), ["10.0.1.1:8080 ACTIVE"]);
    await f.apply(service("h", { clusterIP: "None" }));
    assert.equal(f.lb.tables.servicePorts.size + f.lb.tables.backends.size, 0);
  }],
  ["carries policies, affinity, source ranges and annotations to the ports", async (f) => {
    await f.apply(service("web", {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      internalTrafficPolicy: "Local",
      sessionAffinity: "ClientIP",
      loadBalancerSourceRanges: ["192.0.2.0/24"],
      externalIPs: ["198.51.100.7"],
    }, {
      annotations: {
        "service.cilium.io/lb-algorithm": "maglev",
        "weir.io/maglev-table-size": "509",
        "weir.io/forwarding-mode": "dsr",
        "service.cilium.io/src-ranges-policy": "deny",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
      },
    }));
    const [port] = await f.ports("default/web");
    assert.deepEqual(
      [
        port.algorithm,
        port.tableSize,
        port.forwarding,
        port.affinityTimeoutS,
        port.sourceRanges,
        port.sourceRangesDeny,
      ],
      ["MAGLEV", 509, "DSR", 10800, ["192.0.2.0/24"], true],
    );
    assert.deepEqual([port.externalTrafficPolicy, port.internalTrafficPolicy], ["LOCAL", "LOCAL"]);
    const external = port.frontends.find(({ kind }) => kind === "EXTERNAL_IP")!;
    assert.deepEqual([external.address, external.closed], ["198.51.100.7", false]);
  }],
  ["makes a Maglev table larger with its backends and never smaller, also after a restart", async (f) => {
    await f.apply(
      service("web", { ports: [{ port: 80, targetPort: 1 }] }, {
        annotations: { "weir.io/lb-algorithm": "maglev" },
      }),
    );
    const size = async () => (await f.ports("default/web"))[0].tableSize;
    assert.equal(await size(), 251);
    const addresses = Array.from({ length: 30 }, (_, i) => ({ addresses: [`192.0.2.${i + 1}`] }));
    const of = (count: number) =>
      slice("s", "web", addresses.slice(0, count), { ports: [{ name: "", port: 1 }] });
    await f.apply(of(1));
    assert.equal(await size(), 251, "one backend has more than 200 entries");
    await f.apply(of(2));
    assert.equal(await size(), 2039);
    await f.apply(of(10));
    assert.equal(await size(), 2039, "so have ten");
    await f.apply(of(11));
    assert.equal(await size(), 16381);
    await f.apply(of(2));
    assert.equal(await size(), 16381);
    await f.lb.change(() => Promise.resolve());
    const again = createLoadBalancer({ database: f.database });
    again.start();
    await again.waitReady();
    assert.equal(again.tables.servicePorts.list()[0].tableSize, 16381);
    await again.stop();
  }],
  ["serves host ports of pods on their node", async (f) => {
    const ports = [{ name: "web", port: 8080, protocol: "TCP", hostPort: 80, hostIp: "" }];
    await f.pod("default/a", {}, { addresses: ["10.0.1.1"], ports });
    await f.pod("default/b", {}, { addresses: ["10.0.1.2"], ports });
    await f.pod("default/c", {}, { addresses: ["10.0.2.2"], ports, node: "node-2" });
    const [a] = await f.ports("default/a"), [c] = await f.ports("default/c");
    assert.deepEqual(a.frontends.map(({ kind, node, port }) => [kind, node, port]), [[
      "HOST_PORT",
      "node-1",
      80,
    ]]);
    assert.equal(c.frontends[0].node, "node-2");
    assert.deepEqual((await f.ports("default/b"))[0].frontends, [], "the older pod of the node has the port");
    assert.deepEqual(await f.backends("default/a"), ["10.0.1.1:8080 ACTIVE"]);
    await f.pod("default/a", {}, { addresses: ["10.0.1.9"], ports, state: "TERMINATING" });
    assert.deepEqual(await f.backends("default/a"), ["10.0.1.9:8080 TERMINATING"]);
    await f.deletePod("default/a");
    assert.equal((await f.ports("default/b"))[0].frontends.length, 1);
    assert.equal((await f.service("hostport:default/b")).type, "HostPort");
    assert.equal((await f.ports("default/a")).length, 0);
  }],
  ["refuses SCTP with another target port by name, and says what of it is not served", async (f) => {
    const ports = [{ name: "s", protocol: "SCTP", port: 38412, targetPort: 9999 }];
    await assert.rejects(f.apply(service("amf", { ports })), {
      code: "SERVICE_INVALID",
      message: /t\.yaml:1:\d+ spec\.ports\[0\]\.targetPort.*SCTP ports are not rewritten/,
    });
    await f.apply(
      service("amf", { type: "NodePort", ports: [{ protocol: "SCTP", port: 38412, targetPort: "ngap" }] }),
    );
    const named = (port: number) => ({ ports: [{ name: "ngap", port, protocol: "SCTP" }] });
    await f.pod("default/a", { app: "amf" }, { addresses: ["10.0.1.1"], ...named(38412) });
    await f.pod("default/b", { app: "amf" }, { addresses: ["10.0.1.2"], ...named(1000) });
    assert.deepEqual(await f.backends("default/amf"), ["10.0.1.1:38412 ACTIVE"]);
    assert.deepEqual(
      (await f.ports("default/amf")).map((port) => port.frontends.length),
      [1],
      "no node port",
    );
    assert.deepEqual((await f.service("default/amf")).conditions.map(({ reason }) => reason), [
      "SctpNodePort",
      "SctpTargetPort",
    ]);
  }],
  ["lets a person put a backend into maintenance and weigh it", async (f) => {
    await f.apply(service("web"));
    await f.pod("default/a", { app: "web" }, { addresses: ["10.0.1.1"] });
    const overrides = f.client.collection("backendoverrides", BackendOverride);
    await overrides.put("default/web/10.0.1.1", { state: "MAINTENANCE", weight: 7 });
    const one = async () =>
      (await f.client.collection("backends", Backend).list()).items.map((
        { state, weight },
      ) => [state, weight]);
    assert.deepEqual(await one(), [["MAINTENANCE", 7]]);
    assert.equal((await f.service("default/web")).activeBackends, 0);
    await f.pod("default/a", { app: "web" }, { addresses: ["10.0.1.1"], state: "TERMINATING" });
    assert.deepEqual(await one(), [["TERMINATING", 7]]);
    await overrides.delete("default/web/10.0.1.1");
    await f.pod("default/a", { app: "web" }, { addresses: ["10.0.1.1"] });
    assert.deepEqual(await one(), [["ACTIVE", 1]]);
    await assert.rejects(overrides.put("default/web/nowhere", {}), { code: "INVALID_ARGUMENT" });
  }],
  [
    "refuses texts with faults at their places, says unknown fields and leaves other kinds alone",
    async (f) => {
      const text = "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec:\n  ports:\n  - port: 70000\n";
      await assert.rejects(f.post("apply", [text]), {
        code: "SERVICE_INVALID",
        message: /t\.yaml:6:11 spec\.ports\[0\]\.port/,
      });
      await assert.rejects(f.post("apply", ["a: [1"]), { code: "SERVICE_INVALID" });
      await assert.rejects(f.post("apply", ["kind: Pod\nmetadata: {name: x}"]), {
        code: "SERVICE_INVALID",
        message: /holds none/,
      });
      const { items } = await f.apply(
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" } },
        service("a", { selecter: {}, healthCheckNodePort: 30000 }, {
          annotations: { "service.cilium.io/global": "true" },
        }),
      );
      assert.deepEqual(items.map(({ kind, change }) => [kind, change]), [["Deployment", "ignored"], [
        "Service",
        "created",
      ]]);
      assert.match(items[1].warnings.join("\n"), /unknown field "selecter", did you mean selector\?/);
      assert.match(
        items[1].warnings.join("\n"),
        /used by type LoadBalancer with externalTrafficPolicy Local only/,
      );
      assert.match(items[1].warnings.join("\n"), /service.cilium.io\/global is not honoured/);
      const dry = await f.post("apply", [service("b")], { dryRun: true });
      assert.equal(dry.items[0].change, "created");
      assert.equal(f.lb.tables.services.has("default/b"), false);
      await assert.rejects(
        f.client.collection("services", Service).put("default/z", { manifest: JSON.stringify(service("b")) }),
        { code: "SERVICE_NAME_MISMATCH" },
      );
      await f.client.collection("services", Service).put("default/b", {
        manifest: JSON.stringify(service("b")),
      });
      assert.equal(await f.client.collection("services", Service).delete("default/b"), true);
      assert.equal(await f.client.collection("services", Service).delete("default/b"), false);
    },
  ],
  ["comes to the same tables after a restart, and does not give ids again at once", async (f) => {
    await f.apply(
      service("a", { type: "NodePort" }),
      pool("p", "192.0.2.0/30"),
      service("b", { type: "LoadBalancer" }),
    );
    await f.pod("default/x", { app: "a" }, {
      addresses: ["10.0.1.1"],
      ports: [{ name: "http", port: 1, protocol: "TCP", hostPort: 99 }],
    });
    await f.remove(service("b"));
    await f.apply(service("c", { type: "LoadBalancer" }));
    const view = (lb: LoadBalancer) => ({
      services: lb.tables.services.list().sort((a, b) => a.name < b.name ? -1 : 1).map((one) => ({
        ...one,
        createdUnixS: 0,
      })),
      ports: lb.tables.servicePorts.list().sort((a, b) => a.id - b.id),
      backends: lb.tables.backends.list().sort((a, b) => a.name < b.name ? -1 : 1),
      pools: lb.addressPools.list(),
    });
    const again = createLoadBalancer({ database: f.database, clock: f.clock });
    again.start();
    await again.waitReady();
    assert.deepEqual(view(again), view(f.lb));
    await again.stop();
    const ids = (await f.ports("default/c")).map(({ id }) => id);
    assert.equal(ids[0], 4, "b's id 2 is not given again while others are free");
  }],
];

async function checkAll(t: Deno.TestContext, url: () => Promise<string>): Promise<void> {
  for (const [name, step] of STEPS) {
    await t.step(`LoadBalancer ${name}`, async () => {
      const fixture = await new Fixture(await url()).open();
      try {
        await step(fixture);
      } finally {
        await fixture.close();
      }
    });
  }
}

Deno.test("LoadBalancer on SQLite", async (t) => {
  await checkAll(t, () => Promise.resolve("sqlite::memory:"));
});

const missing = postgresMissing();
if (missing) console.log(`SKIP load balancer on PostgreSQL: ${missing}`);

Deno.test({
  name: "LoadBalancer on PostgreSQL",
  ignore: missing !== undefined,
  async fn(t) {
    const postgres = await TestPostgres.start();
    let count = 0;
    try {
      await checkAll(t, () => postgres.createDatabase(`lb${count++}`));
    } finally {
      await postgres.close();
    }
  },
});
