import assert from "node:assert/strict";
import type { ProblemError } from "@weir/common";
import { DatapathEndpoint, DatapathPolicy, ServicesUpdateResponse } from "@weir/proto/datapath";
import { Endpoint } from "@weir/proto/endpoint";
import { Identity, type IpcacheEntry, Node } from "@weir/proto/identity";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { type CidrIdentity, MapState } from "@weir/proto/policy";
import { EndpointManager } from "./endpoint_manager.ts";
import { EndpointStore } from "./endpoint_store.ts";
import type {
  AllocatorPort,
  ChangeListener,
  DatapathPort,
  LoadBalancerPort,
  Mirror,
  MirrorListener,
  PolicyPort,
} from "./ports.ts";
import { ChangeTable } from "./testing.ts";

/** A collection that the test writes. */
class Table<T> {
  readonly rows = new Map<string, T>();
  synced = true;
  private readonly listeners = new Set<MirrorListener>();
  put(name: string, row: T) {
    this.rows.set(name, row);
    this.changed();
  }
  changed() {
    for (const l of this.listeners) l.onChange();
  }
  mirror(listener: MirrorListener, only?: string): Mirror<T> & Disposable {
    this.listeners.add(listener);
    const view = {
      synced: true,
      values: () => this.rows.values(),
      get: (name: string) => only === undefined || only === name ? this.rows.get(name) : undefined,
      [Symbol.dispose]: () => void this.listeners.delete(listener),
    };
    return Object.defineProperty(view, "synced", { get: () => this.synced });
  }
}

/** The neighbours in memory, with a log of every call to the datapath. */
class Neighbours implements AllocatorPort, PolicyPort, LoadBalancerPort, DatapathPort {
  readonly nodeTable = new Table<Node>();
  readonly ipcacheTable = new Table<IpcacheEntry>();
  readonly cidrTable = new Table<CidrIdentity>();
  readonly mapStateTable = new Table<MapState>();
  readonly calls: string[] = [];
  readonly endpointsGiven: DatapathEndpoint[] = [];
  fail: string | undefined;
  private readonly numbers = new Map<string, number>();
  private connected = () => {};

  private call(text: string) {
    if (this.fail && text.startsWith(this.fail)) return Promise.reject(new Error(`${text} failed`));
    this.calls.push(text);
    return Promise.resolve();
  }
  async allocate(labels: readonly string[], holder: string) {
    await this.call(`allocate ${holder}`);
    const key = labels.join(";");
    const number = this.numbers.get(key) ?? 256 + this.numbers.size;
    this.numbers.set(key, number);
    this.mapStateTable.put(`${number}`, MapState.create({ identity: number, policyRevision: 1 }));
    return Identity.create({ number, labels: [...labels] });
  }
  release = (holder: string) => this.call(`release ${holder}`);
  async putNode(node: Parameters<AllocatorPort["putNode"]>[0]) {
    await this.call("putNode");
    const full = Node.create({ ...node, podCidrV4: "10.0.1.0/24", podCidrV6: "fd00:1::/112" });
    this.nodeTable.put(full.name, full);
    return full;
  }
  async putIpcache(entry: IpcacheEntry) {
    await this.call(`putIpcache ${entry.prefix} ${entry.identity}`);
    this.ipcacheTable.put(entry.prefix, entry);
  }
  async deleteIpcache(prefix: string) {
    await this.call(`deleteIpcache ${prefix}`);
    this.ipcacheTable.rows.delete(prefix);
    this.ipcacheTable.changed();
  }
  nodes = (l: MirrorListener) => this.nodeTable.mirror(l);
  ipcache = (l: MirrorListener) => this.ipcacheTable.mirror(l);
  cidrs = (l: MirrorListener) => this.cidrTable.mirror(l);
  mapState = (identity: number, l: MirrorListener) => this.mapStateTable.mirror(l, `${identity}`);
  putNodeConfig = () => this.call("putNodeConfig");
  async putEndpoint(endpoint: Parameters<DatapathPort["putEndpoint"]>[0]) {
    await this.call(`putEndpoint ${endpoint.name} ${endpoint.identity} ${endpoint.policy}`);
    const full = DatapathEndpoint.create({ ...endpoint, status: { ready: true, ifindex: 7 } });
    this.endpointsGiven.push(full);
    return full;
  }
  deleteEndpoint = (name: string) => this.call(`deleteEndpoint ${name}`);
  async putPolicy(policy: Parameters<DatapathPort["putPolicy"]>[0]) {
    await this.call(`putPolicy ${policy.name}`);
    return DatapathPolicy.create(policy);
  }
  deletePolicy = (name: string) => this.call(`deletePolicy ${name}`);
  updateIpcache: DatapathPort["updateIpcache"] = (update) =>
    this.call(
      `updateIpcache${update.replace ? " replace" : ""} +${update.upserts!.length} -${
        update.deletes!.length
      }`,
    );
  putRemoteNode: DatapathPort["putRemoteNode"] = (node) => this.call(`putRemoteNode ${node.name}`);
  deleteRemoteNode = (name: string) => this.call(`deleteRemoteNode ${name}`);
  async updateServices(update: Parameters<DatapathPort["updateServices"]>[0]) {
    const { replace, services = [], backends = [] } = update;
    await this.call(`updateServices${replace ? " replace" : ""} +${services.length} +${backends.length}`);
    return ServicesUpdateResponse.create({ services: services.length, backends: backends.length });
  }
  readonly portTable = new ChangeTable<ServicePort>();
  readonly backendTable = new ChangeTable<Backend>();
  servicePorts = (l: ChangeListener<ServicePort>) => this.portTable.mirror(l);
  backends = (l: ChangeListener<Backend>) => this.backendTable.mirror(l);
  sync = () => this.call("sync");
  follow(onConnected: () => void): Disposable {
    this.connected = onConnected;
    return { [Symbol.dispose]: () => {} };
  }
  reconnect() {
    this.connected();
  }
  take(): string[] {
    return this.calls.splice(0);
  }
}

async function withManager(
  body: (
    manager: EndpointManager,
    neighbours: Neighbours,
    restart: () => Promise<EndpointManager>,
  ) => Promise<void>,
  withServices = false,
) {
  const directory = await Deno.makeTempDir();
  const neighbours = new Neighbours();
  const make = () =>
    new EndpointManager({
      config: {
        nodeName: "node-1",
        instance: "test",
        cluster: "default",
        nodeIpv4: "192.0.2.1",
        nodeIpv6: "",
        routingMode: "TUNNEL",
        mtu: 1500,
        devices: [],
        tunnelPort: 0,
        masquerade: false,
        masqueradeExceptions: [],
        xdp: false,
        noBackendDrop: false,
        socketLb: true,
        vlanAllow: [],
        zone: "",
      },
      loadBalancer: withServices ? neighbours : undefined,
      allocator: neighbours,
      policy: neighbours,
      datapath: neighbours,
      store: new EndpointStore(directory),
    });
  let manager = make();
  try {
    await manager.start();
    await manager.idle();
    await body(manager, neighbours, async () => {
      await manager.stop();
      manager = make();
      await manager.start();
      await manager.idle();
      return manager;
    });
  } finally {
    await manager.stop();
    await Deno.remove(directory, { recursive: true });
  }
}

const web = (labels = ["k8s:app=web"]) =>
  Endpoint.create({ name: "default/web", netns: "/run/netns/x", labels });

Deno.test("EndpointManager.put() gives policy before endpoint and tells the cluster last", () =>
  withManager(async (manager, neighbours) => {
    neighbours.take();
    const put = await manager.put("default/web", web());
    assert.equal(put.status?.ipv4, "10.0.1.2");
    await manager.idle();
    const ready = manager.endpoints.get("default/web")!;
    assert.equal(ready.status?.state, "READY");
    assert.equal(ready.status?.identity, 256);
    assert.deepEqual(neighbours.take(), [
      "allocate default/web",
      "putPolicy 256",
      "putEndpoint default/web 256 256",
      "putIpcache 10.0.1.2/32 256",
      "putIpcache fd00:1::2/128 256",
      "updateIpcache +2 -0",
    ]);
    await manager.put("default/web", web());
    await manager.idle();
    assert.deepEqual(neighbours.take(), []);
  }));

Deno.test("EndpointManager.put() with other labels moves the running endpoint to its new identity and drops the old policy", () =>
  withManager(async (manager, neighbours) => {
    await manager.put("default/web", web());
    await manager.idle();
    neighbours.take();
    await manager.put("default/web", web(["k8s:app=db"]));
    await manager.idle();
    assert.deepEqual(neighbours.take(), [
      "allocate default/web",
      "putPolicy 257",
      "putEndpoint default/web 257 257",
      "putIpcache 10.0.1.2/32 257",
      "putIpcache fd00:1::2/128 257",
      "deletePolicy 256",
      "updateIpcache +2 -0",
    ]);
  }));

Deno.test("EndpointManager restores its endpoints with the same numbers and addresses, and syncs after they are in place", () =>
  withManager(async (manager, neighbours, restart) => {
    await manager.put("default/web", web());
    await manager.idle();
    neighbours.take();
    const again = await restart();
    const restored = again.endpoints.get("default/web")!;
    assert.equal(restored.status?.ipv4, "10.0.1.2");
    assert.equal(restored.status?.state, "READY");
    const calls = neighbours.take();
    assert.equal(calls.filter((c) => c === "sync").length, 1);
    assert.ok(calls.indexOf("sync") > calls.indexOf("putEndpoint default/web 256 256"), calls.join(", "));
    assert.ok(calls.some((c) => c.startsWith("updateIpcache replace")));
  }));

Deno.test("EndpointManager touches nothing in the kernel while the control plane is away", () =>
  withManager(async (manager, neighbours, restart) => {
    await manager.put("default/web", web());
    await manager.idle();
    neighbours.fail = "putNode";
    neighbours.nodeTable.synced = false;
    neighbours.take();
    const again = await restart();
    assert.deepEqual(neighbours.take().filter((c) => c !== "putNodeConfig"), []);
    assert.equal(again.endpoints.get("default/web")?.status?.state, "RESTORING");
    assert.ok(again.waitingFor().length > 0);
  }));

Deno.test("EndpointManager gives everything again to a datapath that came back", () =>
  withManager(async (manager, neighbours) => {
    await manager.put("default/web", web());
    await manager.idle();
    neighbours.take();
    neighbours.reconnect();
    await manager.idle();
    const calls = neighbours.take();
    for (const call of ["putNodeConfig", "putPolicy 256", "putEndpoint default/web 256 256", "sync"]) {
      assert.ok(calls.includes(call), `${call} in ${calls}`);
    }
  }));

Deno.test("EndpointManager.delete() frees the kernel first, then the cluster, then the address", () =>
  withManager(async (manager, neighbours) => {
    await manager.put("default/web", web());
    await manager.idle();
    neighbours.take();
    await manager.delete("default/web");
    await manager.idle();
    const calls = neighbours.take();
    assert.equal(calls[0], "deleteEndpoint default/web");
    assert.ok(calls.includes("release default/web") && calls.includes("deleteIpcache 10.0.1.2/32"));
    assert.ok(calls.includes("deletePolicy 256"));
    assert.equal(manager.endpoints.size, 0);
    await assert.rejects(manager.delete("default/web"), (e: ProblemError) => e.status === 404);
  }));

Deno.test("EndpointManager shows a failing attach as state of the endpoint and goes on with the others", () =>
  withManager(async (manager, neighbours) => {
    neighbours.fail = "putEndpoint default/web";
    await manager.put("default/web", web());
    await manager.put(
      "default/other",
      Endpoint.create({ name: "default/other", netns: "/run/netns/y", labels: ["k8s:app=o"] }),
    );
    await manager.idle();
    assert.equal(manager.endpoints.get("default/other")?.status?.state, "READY");
    const failed = manager.endpoints.get("default/web")!.status!;
    assert.equal(failed.state, "REGENERATING");
    assert.match(failed.error!.error, /putEndpoint default\/web 256 256 failed/);
    assert.ok(failed.error!.attempts >= 1);
  }));

Deno.test("EndpointManager.put() refuses what is wrong, all faults at once, and leaves no trace", () =>
  withManager(async (manager) => {
    await manager.put("default/web", web());
    const bad = Endpoint.create({
      name: "bad name",
      device: "a/b",
      cgroup: "x",
      labels: ["=", "any:x=y"],
      ipv4: "1.2.3",
    });
    const cases: [string, Endpoint, string, RegExp][] = [
      [
        "bad name",
        bad,
        "ENDPOINT_INVALID",
        /name: .*expected exactly one.*device:.*mac: found none.*ipv4:.*labels\[0\]/,
      ],
      ["default/x", web(), "NAME_MISMATCH", /names another/],
      ["default/x", { ...web(), name: "" }, "ENDPOINT_TAKEN", /belongs to endpoint default\/web/],
      ["default/web", { ...web(), netns: "/run/netns/z" }, "ENDPOINT_IMMUTABLE", /Cannot change netns/],
      ["default/y", Endpoint.create({ netns: "/n", ipv4: "10.0.1.2" }), "IPAM_TAKEN", /default\/web has it/],
      [
        "default/y",
        Endpoint.create({ netns: "/n", ipv4: "10.9.9.9" }),
        "IPAM_OUTSIDE",
        /no endpoint address/,
      ],
    ];
    for (const [name, endpoint, code, pattern] of cases) {
      await assert.rejects(manager.put(name, endpoint), (e: ProblemError) => {
        assert.equal(e.code, code);
        assert.match(e.message, pattern);
        return true;
      });
    }
    assert.equal(manager.endpoints.size, 1);
  }));

Deno.test("EndpointManager gives services after the node's configuration, and sweeps only after them", () =>
  withManager(
    async (manager, neighbours, restart) => {
      const frontends = [{ kind: "CLUSTER_IP" as const, address: "10.96.0.1", port: 80 }];
      neighbours.portTable.put("1", ServicePort.create({ id: 1, protocol: "TCP", frontends }));
      neighbours.backendTable.put("1/10.0.1.9/80", Backend.create({ service: 1, state: "ACTIVE" }));
      await manager.idle();
      neighbours.portTable.synced = false;
      neighbours.take();
      const again = await restart();
      const before = neighbours.take();
      assert.ok(!before.includes("sync") && !before.some((c) => c.startsWith("updateServices")), `${before}`);
      assert.match(again.waitingFor().join(), /services from the load balancer/);
      neighbours.portTable.sync();
      await again.idle();
      assert.deepEqual(neighbours.take(), ["updateServices replace +1 +1", "sync"]);
      assert.ok(before.includes("putNodeConfig"));
      assert.deepEqual(again.waitingFor(), []);
    },
    true,
  ));

Deno.test("EndpointManager gives services again when the datapath is there anew", () =>
  withManager(
    async (manager, neighbours) => {
      await manager.idle();
      assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
      neighbours.fail = "updateServices";
      neighbours.reconnect();
      await manager.idle();
      assert.ok(!neighbours.take().includes("sync"));
      assert.match(manager.failure("services")!.error.message, /updateServices replace .* failed/);
      neighbours.fail = undefined;
      neighbours.portTable.put(
        "1",
        ServicePort.create({ id: 1, frontends: [{ kind: "NODE_PORT", port: 1 }] }),
      );
      await manager.idle();
      assert.deepEqual(neighbours.take(), ["updateServices replace +1 +0", "sync"]);
    },
    true,
  ));

Deno.test("EndpointManager without a load balancer takes what services there are out of the datapath", () =>
  withManager(async (manager, neighbours) => {
    assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
    neighbours.reconnect();
    await manager.idle();
    assert.ok(neighbours.take().includes("updateServices replace +0 +0"));
    assert.equal(manager.followsServices, false);
  }));
