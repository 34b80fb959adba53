import assert from "node:assert/strict";
import { MapState as State, ProblemError } from "@weir/common";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { Database } from "@weir/common/state";
import { until } from "@weir/common/testing/until";
import { WeirClient } from "@weir/client";
import { AllocateRequest, AllocateResponse } from "@weir/proto/identity";
import {
  ApplyRequest as LbApply,
  ApplyResponse as LbApplied,
  Backend,
  Pod,
  ServicePeers,
} from "@weir/proto/loadbalancer";
import { ApplyRequest, ApplyResponse, CidrIdentity, MapState, Policy } from "@weir/proto/policy";
import { createIdentityAllocator } from "../identity-allocator/mod.ts";
import { createLoadBalancer } from "../load-balancer/mod.ts";
import { createPolicyEngine } from "./create_policy_engine.ts";

const POLICY =
  `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: out, namespace: shop}, spec: {endpointSelector: {matchLabels: {app: web}}, egress: [{toServices: [{k8sService: {serviceName: db, namespace: shop}}]}]}}`;
const service = (spec: string) =>
  `{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {${spec}, ports: [{port: 5432}]}}`;
const SLICE =
  `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{port: 5432}], endpoints: [{addresses: [192.0.2.7], conditions: {ready: false}}]}`;

/** A control plane's allocator and load balancer, and the numbers of pods app=web, app=db and app=other in shop. */
async function plane() {
  const allocator = createIdentityAllocator({ database: new Database("sqlite::memory:") });
  await allocator.start();
  const identities = new WeirClient({ handler: allocator.api.fetch });
  const numbers: number[] = [];
  for (const app of ["web", "db", "other"]) {
    const labels = [
      `k8s:app=${app}`,
      "k8s:io.kubernetes.pod.namespace=shop",
      "k8s:io.cilium.k8s.policy.cluster=default",
    ];
    const { identity } = await identities.call("/v1/identities:allocate", {
      request: {
        message: AllocateRequest,
        value: AllocateRequest.create({ labels, node: "n", holder: app }),
      },
      response: AllocateResponse,
    });
    numbers.push(identity!.number);
  }
  const lb = createLoadBalancer({ database: new Database("sqlite::memory:") });
  lb.start();
  await lb.waitReady();
  const services = new WeirClient({ handler: lb.handler });
  const put = async (text: string, file = "", verb = "apply") => {
    await services.call(`/v1/services:${verb}`, {
      request: { message: LbApply, value: { manifest: text, file, namespace: "", dryRun: false } },
      response: LbApplied,
    });
  };
  const stop = async () => {
    await lb.stop();
    await allocator.stop();
  };
  return { identities, services, numbers, put, stop };
}

Deno.test("ServiceFeed: policies mean services as the load balancer has them, also while it is away", async () => {
  const { identities, services, numbers: [web, db, other], put, stop } = await plane();
  const database = new Database("sqlite::memory:");
  const engine = createPolicyEngine({ database, allocator: identities, loadBalancer: services });
  engine.start();
  await engine.waitReady();
  const client = new WeirClient({ handler: engine.handler });
  const stateOf = async (from: WeirClient) =>
    State.of((await from.collection("mapstates", MapState).get(String(web)))!);
  const reached = async (from = client) => {
    const state = await stateOf(from);
    return [db, other].filter((number) => state.lookup(number, "EGRESS", 6, 80).allowed);
  };
  const stored = async () =>
    (await client.collection("policies", Policy).list()).items.map(({ name }) => name).sort();
  await put(
    service("selector: {app: db}") + "\n---\n" + service("selector: {app: x}").replace("db", "unnamed"),
  );
  const applied = await client.call("/v1/policies:apply", {
    request: {
      message: ApplyRequest,
      value: { manifest: POLICY, file: "p.yaml", namespace: "", dryRun: false },
    },
    response: ApplyResponse,
  });
  assert.doesNotMatch(JSON.stringify(applied.items), /not there/);
  assert.deepEqual(await reached(), [db], "with the answer");
  assert.deepEqual(await stored(), ["cnp:shop/out", "svc:shop/db"], "others are nobody's business");
  await put(service("selector: {app: other}"));
  await until("the selector is another", async () => (await reached()).join() === `${other}`, 10);

  // Without a selector its slices' addresses, ready or not.
  await put(service("clusterIP: None") + "\n---\n" + SLICE);
  const opened = async () => {
    const { items } = await client.collection("cidridentities", CidrIdentity).list();
    const state = await stateOf(client);
    return items.filter(({ identity }) => state.lookup(identity, "EGRESS", 6, 80).allowed).map(({ prefix }) =>
      prefix
    );
  };
  await until("the address is meant", async () => (await opened()).join() === "192.0.2.7/32", 10);
  assert.deepEqual(await reached(), []);

  // Another engine on the same database, while the load balancer does not answer.
  const away = new WeirClient({
    handler: () => Promise.reject(new ProblemError("UNREACHABLE", { status: 503, detail: "away" })),
  });
  const second = createPolicyEngine({ database, allocator: identities, loadBalancer: away });
  second.start();
  await second.waitReady();
  const { items } = await new WeirClient({ handler: second.handler }).collection(
    "cidridentities",
    CidrIdentity,
  )
    .list();
  assert.deepEqual(items.map(({ prefix }) => prefix), ["192.0.2.7/32"]);
  await second.stop();

  await put(service("clusterIP: None"), "", "delete");
  await until("the service is gone", async () => (await stored()).length === 1, 10);
  await until("nobody is meant", async () => (await opened()).length === 0, 10);
  await put(service("selector: {app: db}"));
  await until("it is back", async () => (await reached()).join() === `${db}`, 10);
  await client.collection("policies", Policy).delete("cnp:shop/out");
  await until("no policy names it", async () => (await stored()).length === 0, 10);
  await engine.stop();
  await database.close();
  await stop();
});

Deno.test("Selectors of Kubernetes' services are for policies: who serves them is in their slices", async () => {
  const { services, put, stop } = await plane();
  const pod = Pod.create({
    name: "shop/db-0",
    namespace: "shop",
    labels: { app: "db" },
    addresses: ["10.0.0.7"],
    state: "ACTIVE",
  });
  await services.collection("pods", Pod).put("shop/db-0", pod);
  await put(service("selector: {app: db}"), KUBERNETES_FILE_MARK);
  const peers = services.collection("servicepeers", ServicePeers);
  assert.deepEqual((await peers.get("shop/db"))!.selector, { app: "db" });
  await put(service("selector: {app: db}"), KUBERNETES_FILE_MARK);
  await put(SLICE.replace("ready: false", "ready: true"), KUBERNETES_FILE_MARK);
  const { selector, addresses } = (await peers.get("shop/db"))!;
  assert.deepEqual([selector, addresses], [{ app: "db" }, []]);
  const { items } = await services.collection("backends", Backend).list();
  assert.deepEqual(items.map(({ address }) => address), ["192.0.2.7"]);
  await stop();
});
