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
import { createLoadBalancer, type LoadBalancer, type LoadBalancerOptions } from "./load_balancer.ts";

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
    await f.remove(service("web"));
    assert.equal((await f.ports("default/web")).length, 0);
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

export { AddressPool, BackendOverride, frontends, pool, slice };
