import assert from "node:assert/strict";
import { ApiServer, Health, Logger, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { WeirClient } from "@weir/client";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { Pod } from "@weir/proto/loadbalancer";
import { createLoadBalancer } from "./routes.ts";
import type { LoadBalancer } from "./load_balancer.ts";
import { readManifests } from "./manifest.ts";
import { ManifestDirectory } from "./manifest_directory.ts";
import { applyObjects } from "./routes.ts";

const service = (name: string, more = "") =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: { selector: { app: ${name} }, ports: [{ port: 80, targetPort: http }]${more} }\n`;

async function until(what: () => boolean, ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function open(url: string, identityAllocator?: WeirClient) {
  const database = new Database(url);
  const lb = createLoadBalancer({ database, identityAllocator });
  lb.start();
  return { lb, close: async () => (await lb.stop(), await database.close()) };
}

async function apply(lb: LoadBalancer, text: string): Promise<void> {
  await applyObjects(lb, readManifests(text).objects, "", "api");
}

function states(lb: LoadBalancer): string[] {
  return lb.tables.backends.list().map(({ address, port, state, zone }) =>
    `${address}:${port} ${state} ${zone}`.trim()
  )
    .sort();
}

Deno.test("ManifestDirectory follows its files: what they say is there, what they no longer say goes", async () => {
  const directory = await Deno.makeTempDir();
  const { lb, close } = open("sqlite::memory:");
  const health = new Health();
  const manifests = new ManifestDirectory(directory, { lb, log: Logger.silent(), health });
  const names = () => lb.tables.services.list().map(({ name }) => name).sort();
  try {
    await Deno.writeTextFile(`${directory}/a.yaml`, service("a") + "---\n" + service("b"));
    await lb.waitReady();
    await apply(lb, service("mine"));
    manifests.start();
    await until(() => names().length === 3);
    assert.deepEqual([lb.tables.services.get("default/b")!.file, lb.tables.services.get("default/b")!.line], [
      `${directory}/a.yaml`,
      6,
    ]);
    const pool =
      "apiVersion: weir.io/v1\nkind: AddressPool\nmetadata: { name: p }\nspec: { ranges: [192.0.2.0/30] }\n";
    await Deno.writeTextFile(`${directory}/c.yaml`, service("c", ", type: LoadBalancer") + "---\n" + pool);
    await until(() => lb.tables.services.get("default/c")?.externalIps[0] === "192.0.2.0");
    // A fault is said with its place; what the file said before stays, and the other files count.
    await Deno.writeTextFile(`${directory}/a.yaml`, "kind: Service\nmetadata: {}\n");
    await Deno.writeTextFile(`${directory}/d.yaml`, service("d"));
    await until(() => names().includes("default/d"));
    const said = () => health.list().find(({ name }) => name === "manifests")!.message;
    await until(() => said().includes("a.yaml:1:1: apiVersion is missing"));
    assert.deepEqual(names(), ["default/a", "default/b", "default/c", "default/d", "default/mine"]);
    await Deno.writeTextFile(`${directory}/a.yaml`, service("b"));
    await Deno.remove(`${directory}/c.yaml`);
    await until(() => names().length === 3);
    assert.deepEqual(names(), ["default/b", "default/d", "default/mine"]);
    assert.equal(lb.addressPools.size, 0);
  } finally {
    await manifests.stop();
    await close();
    await Deno.remove(directory, { recursive: true });
  }
});

/** The identity allocator as the load balancer sees it. */
class TestIdentityAllocator {
  readonly ipcache = new WatchedTable<IpcacheEntry>({ name: "ipcache" });
  readonly nodes = new WatchedTable<Node>({ name: "nodes" });
  readonly api = new ApiServer({ name: "identity-allocator" });
  constructor() {
    this.api.collection({ name: "ipcache", message: IpcacheEntry, table: this.ipcache });
    this.api.collection({ name: "nodes", message: Node, table: this.nodes });
  }
  entry(prefix: string, more: Partial<IpcacheEntry>): void {
    this.ipcache.put(prefix, IpcacheEntry.create({ prefix, node: "n1", ...more }));
  }
}

Deno.test("EndpointSource makes backends of endpoints, with their node's zone; a pod that is put counts before", async () => {
  const allocator = new TestIdentityAllocator();
  const labels = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"];
  const namedPorts = [{ name: "http", port: 8080, protocol: "TCP" }];
  const web = { endpoint: "default/w", namespace: "default", podName: "w", labels, namedPorts };
  allocator.entry("10.0.0.1/32", web);
  allocator.entry("fd00::1/128", web);
  allocator.entry("192.0.2.0/24", {});
  allocator.nodes.put("n1", Node.create({ name: "n1", labels: ["topology.kubernetes.io/zone=a"] }));
  const { lb, close } = open("sqlite::memory:", new WeirClient({ handler: allocator.api.fetch }));
  try {
    await lb.waitReady();
    await apply(lb, service("web"));
    await until(() => states(lb).join() === "10.0.0.1:8080 ACTIVE a");
    // A cgroup endpoint without a namespace is of the default one.
    allocator.entry("10.0.0.2/32", { endpoint: "nginx", labels: ["unspec:app=web"], namedPorts });
    await until(() => states(lb).length === 2);
    const pod = (state: Pod["state"]) =>
      Pod.create({
        name: "default/w",
        namespace: "default",
        labels: { app: "web" },
        addresses: ["10.0.0.1"],
        node: "n1",
        ports: namedPorts,
        state,
      });
    await lb.change((change) => change.putPod(pod("TERMINATING")));
    assert.deepEqual(states(lb), ["10.0.0.1:8080 TERMINATING a", "10.0.0.2:8080 ACTIVE a"]);
    allocator.ipcache.delete("10.0.0.1/32");
    allocator.ipcache.delete("fd00::1/128");
    allocator.ipcache.delete("10.0.0.2/32");
    await until(() => states(lb).length === 1);
    await lb.change((change) => change.deletePod("default/w"));
    assert.deepEqual(states(lb), []);
  } finally {
    await close();
  }
});

Deno.test("LoadBalancer refuses by name when its numbers are used up, and goes on with what is given back", async () => {
  const { lb, close } = open("sqlite::memory:");
  try {
    await lb.waitReady();
    await apply(lb, service("first"));
    for (let id = 1; id <= 65_535; id++) {
      if (lb.assignments.ids.ownerOf(id) === undefined) lb.assignments.ids.take(id, "x");
    }
    await assert.rejects(apply(lb, service("second")), {
      code: "SERVICE_PORTS_EXHAUSTED",
      message: "Cannot give default/second an id of its port: all 65535 are taken",
    });
    assert.equal(lb.tables.services.has("default/second"), false);
    lb.assignments.ids.release(700, "x");
    await apply(lb, service("second"));
    assert.equal(lb.tables.services.get("default/second")!.ports[0].id, 700);
  } finally {
    await close();
  }
});

Deno.test("LoadBalancer tells a watcher of one changed backend and of nothing else, among many services", async () => {
  const { lb, close } = open("sqlite::memory:");
  try {
    await lb.waitReady();
    await apply(lb, Array.from({ length: 500 }, (_, i) => service(`s${i}`)).join("---\n"));
    const pod = (i: number) =>
      Pod.create({
        name: `default/p${i}`,
        namespace: "default",
        labels: { app: `s${i % 500}`, tier: "x" },
        addresses: [`10.0.${i >> 8}.${i & 255}`],
        ports: [{ name: "http", port: 1, protocol: "TCP" }],
        state: "ACTIVE",
      });
    for (let i = 0; i < 600; i++) await lb.change((change) => change.putPod(pod(i)));
    const before = [lb.tables.backends, lb.tables.servicePorts, lb.tables.services].map(({ revision }) =>
      revision
    );
    await lb.change((change) => change.putPod({ ...pod(7), state: "TERMINATING" }));
    const after = [lb.tables.backends, lb.tables.servicePorts, lb.tables.services].map(({ revision }) =>
      revision
    );
    assert.deepEqual(after.map((revision, i) => revision - before[i]), [1, 0, 1]);
  } finally {
    await close();
  }
});

const missing = postgresMissing();
if (missing) console.log(`SKIP two load balancers on PostgreSQL: ${missing}`);

Deno.test({
  name:
    "LoadBalancer on one PostgreSQL with another never gives a number twice, and both come to the same tables",
  ignore: missing !== undefined,
  async fn() {
    const postgres = await TestPostgres.start();
    try {
      const url = await postgres.createDatabase("two");
      const a = open(url), b = open(url);
      await Promise.all([a.lb.waitReady(), b.lb.waitReady()]);
      await Promise.all(
        Array.from({ length: 40 }, (_, i) => apply((i % 2 ? a : b).lb, service(`s${i}`, ", type: NodePort"))),
      );
      const view = (lb: LoadBalancer) =>
        JSON.stringify(
          lb.tables.servicePorts.list().map((port) => ({ ...port })).sort((x, y) => x.id - y.id),
        );
      await until(() => a.lb.tables.servicePorts.size === 40 && view(a.lb) === view(b.lb));
      const ports = a.lb.tables.servicePorts.list();
      assert.equal(new Set(ports.map(({ id }) => id)).size, 40);
      assert.equal(
        new Set(ports.flatMap(({ frontends }) => frontends.map((one) => `${one.address}:${one.port}`))).size,
        80,
      );
      await a.close();
      await b.close();
    } finally {
      await postgres.close();
    }
  },
});

Deno.test("Backends of a service keep their place in the order of readers: the port first, gone last", async () => {
  const { lb, close } = open("sqlite::memory:");
  const order: string[] = [];
  try {
    await lb.waitReady();
    lb.tables.servicePorts.onChange(({ type }) => order.push(`port ${type}`));
    lb.tables.backends.onChange(({ type }) => order.push(`backend ${type}`));
    const slice = JSON.stringify({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "s", labels: { "kubernetes.io/service-name": "web" } },
      addressType: "IPv4",
      ports: [{ port: 80 }],
      endpoints: [{ addresses: ["192.0.2.1"] }],
    });
    await apply(lb, `${service("web")}---\n${slice}`);
    await lb.change((change) => change.deleteObject("Service", "default/web"));
    assert.deepEqual(order, ["port PUT", "backend PUT", "backend DELETED", "port DELETED"]);
    assert.equal(lb.tables.backends.size, 0);
  } finally {
    await close();
  }
});
