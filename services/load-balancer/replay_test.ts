import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import {
  AddressPool,
  ApplyRequest,
  ApplyResponse,
  BackendOverride,
  Pod,
  Service,
} from "@weir/proto/loadbalancer";
import { createLoadBalancer } from "./routes.ts";
import type { LoadBalancer } from "./load_balancer.ts";

/** What readers can see, in an order that does not depend on how it came about. */
function view(lb: LoadBalancer) {
  const sorted = <T extends { name: string }>(items: T[]) =>
    [...items].sort((a, b) => a.name < b.name ? -1 : 1);
  const { services, servicePorts, backends } = lb.tables;
  return {
    ports: sorted(servicePorts.list()),
    backends: sorted(backends.list()),
    services: sorted(services.list()),
    pools: sorted(lb.addressPools.list()),
  };
}

/**
 * The oracle of the incremental tables: whatever was done in whatever order, a load balancer that begins with what is
 * stored comes to the same. `WEIR_SEED=n` repeats a run.
 */
Deno.test("ServiceJoin is after any changes what it is when everything is read at once", async () => {
  const seed = Number(Deno.env.get("WEIR_SEED") ?? 1);
  let state = seed;
  const random = (below: number) => (state = (state * 48271) % 0x7fffffff) % below;
  const pick = <T>(items: readonly T[]): T => items[random(items.length)];
  const clock = new FakeClock();
  const database = new Database("sqlite::memory:");
  const lb = createLoadBalancer({ database, clock });
  lb.start();
  await lb.waitReady();
  const client = new WeirClient({ handler: lb.handler });
  const post = async (verb: string, object: unknown) => {
    const value = { manifest: JSON.stringify(object) };
    await client.call(`/v1/services:${verb}`, {
      request: { message: ApplyRequest, value },
      response: ApplyResponse,
    });
  };
  const service = () => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: `s${random(5)}`,
      annotations: {
        "weir.io/lb-algorithm": pick(["maglev", "random"]),
        ...pick([{}, { "weir.io/lb-sharing-key": "k" }]),
      },
    },
    spec: {
      type: pick(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
      selector: pick([undefined, { app: "a" }, { app: "a", tier: "b" }, { tier: "b" }]),
      ...pick([{}, {}, { clusterIP: "10.96.0.9" }, { clusterIP: "None" }]),
      ipFamilyPolicy: pick(["SingleStack", "PreferDualStack"]),
      ports: pick([
        [{ name: "x", port: 80, targetPort: "http" }],
        [{ name: "x", port: 80, targetPort: 8080 }, { name: "y", port: 443, protocol: pick(["TCP", "UDP"]) }],
        [{ name: "y", port: 443, protocol: "SCTP", targetPort: "http" }],
      ]),
      externalIPs: pick([[], ["198.51.100.1"]]),
      publishNotReadyAddresses: pick([false, true]),
      trafficDistribution: pick([undefined, "PreferClose"]),
    },
  });
  const slice = () => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `e${random(3)}`, labels: { "kubernetes.io/service-name": `s${random(5)}` } },
    addressType: pick(["IPv4"]),
    ports: pick([[{ name: "x", port: 8080 }], [{ name: "y", port: 443, protocol: pick(["UDP", "SCTP"]) }]]),
    endpoints: Array.from({ length: random(4) }, () => ({
      addresses: [`10.0.0.${random(6)}`],
      conditions: { ready: pick([true, false]), terminating: pick([true, false]) },
      zone: "z",
    })),
  });
  const endpoints = () => ({
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: { name: `s${random(5)}` },
    subsets: [{ addresses: [{ ip: `10.0.0.${random(6)}` }], ports: [{ name: "x", port: 99 }] }],
  });
  const pods = client.collection("pods", Pod), pools = client.collection("addresspools", AddressPool);
  const overrides = client.collection("backendoverrides", BackendOverride);
  const steps: (() => Promise<unknown>)[] = [
    () => post("apply", service()),
    () => post("apply", service()),
    () => client.collection("services", Service).delete(`default/s${random(5)}`),
    () => post("apply", slice()),
    () => post("delete", slice()),
    () => post("apply", endpoints()),
    () => post("delete", endpoints()),
    () =>
      pods.put(`default/p${random(5)}`, {
        labels: pick([{ app: "a" }, { app: "a", tier: "b" }, { tier: "c" }]),
        addresses: pick([[], [`10.0.0.${random(6)}`], [`10.0.0.${random(6)}`, `fd00::${random(6)}`]]),
        node: pick(["n1", "n2"]),
        ports: [{
          name: "http",
          port: pick([8080, 443]),
          protocol: pick(["TCP", "SCTP"]),
          hostPort: pick([0, 0, 80]),
        }],
        state: pick(["ACTIVE", "TERMINATING", "BACKEND_STATE_UNSPECIFIED"]),
      }),
    () => pods.delete(`default/p${random(5)}`),
    () =>
      pools.put(`q${random(2)}`, {
        ranges: [`192.0.2.${random(2) * 2}/31`],
        serviceSelector: [],
        disabled: random(5) === 0,
      }),
    () => pools.delete(`q${random(2)}`),
    () =>
      overrides.put(`default/s${random(5)}/10.0.0.${random(6)}`, { state: "MAINTENANCE", weight: random(9) }),
    () => overrides.delete(`default/s${random(5)}/10.0.0.${random(6)}`),
  ];
  try {
    for (let round = 0; round < 12; round++) {
      for (let i = 0; i < 15; i++) {
        await clock.advance(1000);
        await pick(steps)();
      }
      await lb.change(() => Promise.resolve()); // sizes of tables that grew are stored behind the change
      const fresh = createLoadBalancer({ database, clock });
      fresh.start();
      await fresh.waitReady();
      try {
        assert.deepEqual(view(lb), view(fresh), `WEIR_SEED=${seed}, round ${round}`);
      } finally {
        await fresh.stop();
      }
    }
  } finally {
    await lb.stop();
    await database.close();
  }
});
