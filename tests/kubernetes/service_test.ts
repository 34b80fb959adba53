/** The service `kubernetes` with the real services beside it, on a real API server. @module */
import assert from "node:assert/strict";
import { parseJoinToken, setPeer } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { until } from "@weir/common/testing/until";
import { IssueRequest } from "@weir/proto/certificate";
import { EnrollmentRequest } from "@weir/proto/kubernetes";
import { Pod as LbPod } from "@weir/proto/loadbalancer";
import { type ApiClient, type KubernetesObject, type KubernetesService, RESOURCES } from "@weir/kubernetes";
import { keepDefinitions } from "../../services/kubernetes/operator/crd_keeper.ts";
import { missingPrograms, RealApiServer } from "../../services/kubernetes/testing/real_api_server.ts";
import { Plane } from "./plane.ts";

const {
  AdminNetworkPolicy,
  BaselineAdminNetworkPolicy,
  CiliumNetworkPolicy,
  ClusterNetworkPolicy,
  ConfigMap,
  CustomResourceDefinition,
  EndpointSlice,
  Namespace,
  Node,
  Pod,
  Service,
  ServiceAccount,
} = RESOURCES;
const why = missingPrograms();
if (why !== undefined) console.log(`SKIP tests with a real API server: ${why}`);

const pod = (name: string, nodeName: string, more: Record<string, unknown> = {}): KubernetesObject => ({
  metadata: { name, namespace: "shop", labels: { app: name } },
  spec: {
    nodeName,
    containers: [{ name: "c", image: "none", ports: [{ name: "http", containerPort: 8080 }] }],
    ...more,
  },
});
const policy = (name: string, app: string): KubernetesObject => ({
  metadata: { name, namespace: "shop" },
  spec: {
    endpointSelector: { matchLabels: { app } },
    ingress: [{ fromEndpoints: [{}], toPorts: [{ ports: [{ port: "8080", protocol: "TCP" }] }] }],
  },
});

Deno.test({
  name: "What a real API server has reaches the real services, stays while it is away, and nodes enroll",
  ignore: why !== undefined,
  fn: async (t) => {
    await using server = await RealApiServer.start();
    await using plane = new Plane();
    await plane.start();
    const client = server.client();
    await keepDefinitions(client);
    await client.create(Namespace, { metadata: { name: "shop", labels: { team: "a" } } });
    await client.create(Namespace, { metadata: { name: "weir-system" } });
    let service = plane.kubernetes(client);
    await t.step("pods and nodes, to a node its own", async () => {
      await client.create(Node, {
        metadata: { name: "n1", labels: { "topology.kubernetes.io/zone": "z" } },
        spec: { podCIDRs: ["10.244.1.0/24"] },
      });
      await client.create(Pod, pod("web", "n1"));
      await client.create(Pod, pod("db", "n2"));
      const { table } = service.pods;
      await until("they are there", () => table.size === 2 && service.nodes.size === 1, 20);
      assert.ok(table.get("shop/web")?.labels.some((label) => label.endsWith("namespace.labels.team=a")));
      assert.equal(service.nodes.get("n1")?.zone, "z");
      const ask = async (path: string, node: string) => {
        const request = new Request(`http://x${path}`);
        setPeer(request, { role: "node", node });
        const answer = await service.api.fetch(request);
        return { status: answer.status, text: await answer.text() };
      };
      const own = await ask("/v1/pods?node=n1", "n1");
      assert.match(own.text, /shop\/web/);
      assert.doesNotMatch(own.text, /shop\/db/);
      for (
        const path of [
          "/v1/pods",
          "/v1/pods?node=n2",
          "/v1/pods?node=n1&node=n2",
          "/v1/pods/shop%2Fdb",
          "/v1/pods/x",
        ]
      ) {
        assert.equal((await ask(path, "n1")).status, 403, path);
      }
      assert.equal((await ask("/v1/pods/shop%2Fdb", "n2")).status, 200);
    });
    await t.step("a namespace's label changes its pods'", async () => {
      await client.patch(Namespace, "shop", { metadata: { labels: { team: "b" } } });
      const labels = () => service.pods.table.get("shop/web")?.labels ?? [];
      await until("it is there", () => labels().some((label) => label.endsWith("team=b")), 20);
    });
    await t.step("policies, and what is refused of them", async () => {
      await client.create(CiliumNetworkPolicy, policy("a", "web"));
      await client.create(CiliumNetworkPolicy, policy("b", "web"));
      const bad = policy("bad", "web");
      // One that the schema of the definition lets pass, and the engine alone can judge.
      bad.spec.ingress[0].fromCIDR = ["192.0.2.1/99"];
      await client.create(CiliumNetworkPolicy, bad);
      await until("they are there", async () => await plane.policyNames() === "cnp:shop/a,cnp:shop/b", 50);
      const fault = "CiliumNetworkPolicy/shop/bad";
      await until("the fault is told", () => service.faults.table.get(fault)?.generation === 1, 20);
      assert.equal(service.faults.table.get(fault)?.code, "POLICY_INVALID");
    });
    await t.step(
      "policies of administrators, whose definitions come later",
      () => laterPolicies(client, plane, service),
    );
    await t.step("services as the API server made them", async () => {
      const made = await client.create(Service, {
        metadata: { name: "web", namespace: "shop" },
        spec: {
          type: "NodePort",
          selector: { app: "web" },
          ports: [{ name: "http", port: 80, targetPort: "http" }],
        },
      });
      await client.create(EndpointSlice, {
        metadata: { name: "web-1", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
        addressType: "IPv4",
        endpoints: [{ addresses: ["10.244.1.7"], conditions: { ready: true }, nodeName: "n1" }],
        ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      });
      const backends = () => plane.lb.tables.backends.list();
      await until("the backend is there", () => backends().some(({ node }) => node === "n1"), 20);
      const [port] = plane.lb.tables.servicePorts.list().filter(({ namespace }) => namespace === "shop");
      assert.deepEqual(port.frontends.map(({ kind, address, port }) => [kind, address, port]), [
        ["CLUSTER_IP", made.spec.clusterIP, 80],
        ["NODE_PORT", "", made.spec.ports[0].nodePort],
      ]);
    });
    await t.step(
      "host ports of pods, on their node, for as long as the pod is there",
      async () => {
        await hostPorts(client, plane);
        await until("its last pod is gone", () => service.pods.table.get("shop/theirs") === undefined, 20);
      },
    );
    await t.step("the API server away changes nothing", async () => {
      const ours = () => plane.lb.tables.backends.list().filter(({ node }) => node === "n1").length;
      const counts = () => [service.pods.table.size, ours(), service.nodes.size];
      const before = counts();
      await server.stopKube();
      const isAway = () => service.reflections().every(({ state }) => state === "AWAY");
      await until("it is seen", isAway, 50);
      assert.deepEqual(counts(), before);
      assert.equal(await plane.policyNames(), "cnp:shop/a,cnp:shop/b");
      await until("readiness says so, and goes on", async () => {
        const answer = await service.api.fetch(new Request("http://x/readyz?verbose"));
        return answer.status === 200 && /AWAY: .*pods.*Connection refused/.test(await answer.text());
      }, 50);
      server.startKube();
      await server.waitReady();
      await until("it is back", () => service.reflections().every(({ state }) => state === "WATCHING"), 100);
      assert.deepEqual(counts(), before);
    });
    await t.step("a restart finds what went meanwhile, and leaves what people applied", async () => {
      await service.stop();
      await plane.policies.put("cnp:shop/mine", {
        name: "cnp:shop/mine",
        manifest: JSON.stringify({
          apiVersion: "cilium.io/v2",
          kind: "CiliumNetworkPolicy",
          ...policy("mine", "x"),
        }),
        file: "mine.json",
      });
      await client.delete(CiliumNetworkPolicy, "b", { namespace: "shop" });
      await client.delete(EndpointSlice, "web-1", { namespace: "shop" });
      service = plane.kubernetes(client);
      await until("they are gone", async () => await plane.policyNames() === "cnp:shop/a,cnp:shop/mine", 50);
      await until(
        "the backend is gone",
        () => plane.lb.tables.backends.list().every(({ node }) => node !== "n1"),
        50,
      );
      await until("everything was read", () => service.api.health.ready, 50);
    });
    await t.step("a node's pod enrolls by its token, and by no other", () => enroll(client, service, plane));
    await service.stop();
  },
});

/** The kinds of network-policy-api, which Weir does not install. */
async function laterPolicies(client: ApiClient, plane: Plane, service: KubernetesService): Promise<void> {
  const kinds = [AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy];
  const states = () =>
    kinds.map(({ plural, group }) =>
      service.reflections().find(({ name }) => name === `${plural}.${group}`)?.state
    );
  const before = await plane.policyNames();
  await until("they are looked for", () => states().every((state) => state === "ABSENT"), 20);
  assert.equal(service.api.health.ready, true);
  const open = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  for (const { kind, plural, group, version } of kinds) {
    await client.apply(CustomResourceDefinition, {
      metadata: {
        name: `${plural}.${group}`,
        annotations: {
          "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api",
        },
      },
      spec: {
        group,
        scope: "Cluster",
        names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
        versions: [{
          name: version,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: "object", properties: { spec: open, status: open } } },
        }],
      },
    });
  }
  await until("they are read", () => states().every((state) => state === "WATCHING"), 60);
  const spec = {
    subject: { namespaces: {} },
    ingress: [{ action: "Deny", from: [{ namespaces: {} }] }],
  };
  await client.create(AdminNetworkPolicy, { metadata: { name: "a" }, spec: { ...spec, priority: 1 } });
  await client.create(BaselineAdminNetworkPolicy, { metadata: { name: "default" }, spec });
  await client.create(ClusterNetworkPolicy, {
    metadata: { name: "c" },
    spec: { ...spec, tier: "Baseline", priority: 1 },
  });
  const wrong = { metadata: { name: "wrong" }, spec: { ...spec, priority: 1001 } };
  await client.create(AdminNetworkPolicy, wrong);
  const all = [...before.split(","), "anp:a", "banp:default", "clnp:c"].sort().join();
  await until("they are there", async () => await plane.policyNames() === all, 50);
  await until(
    "the fault is told",
    () => service.faults.table.get("AdminNetworkPolicy/wrong")?.code === "POLICY_INVALID",
    20,
  );
  for (const [resource, name] of [[AdminNetworkPolicy, "a"], [AdminNetworkPolicy, "wrong"]] as const) {
    await client.delete(resource, name);
  }
  await client.delete(BaselineAdminNetworkPolicy, "default");
  await client.delete(ClusterNetworkPolicy, "c");
  await until("they are gone", async () => await plane.policyNames() === before, 50);
}

async function hostPorts(client: ApiClient, plane: Plane): Promise<void> {
  const pods = plane.client(plane.lb.handler).collection("pods", LbPod);
  const served = (node: string) =>
    plane.lb.tables.servicePorts.list()
      .flatMap(({ id, frontends }) =>
        frontends.filter((frontend) => frontend.node === node).map((frontend) => [
          frontend.kind,
          frontend.port,
          ...plane.lb.tables.backends.list().filter(({ service }) => service === id)
            .map(({ address, port, state }) => `${address}:${port} ${state}`),
        ])
      );
  const ports = (
    hostPort: number,
  ) => [{ name: "c", image: "none", ports: [{ containerPort: 8443, hostPort }] }];
  const status = { phase: "Running", podIPs: [{ ip: "10.244.2.9" }], podIP: "10.244.2.9" };
  // What people put, under names of their own and under one that a pod in Kubernetes has.
  for (const [hostPort, name] of ["shop/lab", "shop/theirs"].entries()) {
    await pods.put(
      name,
      LbPod.create({ addresses: ["192.0.2.9"], node: "n3", ports: [{ port: 1, hostPort: hostPort + 1 }] }),
    );
  }
  for (const name of ["edge", "theirs"]) {
    await client.create(Pod, pod(name, "n2", { containers: ports(name === "edge" ? 443 : 444) }));
    await client.patch(Pod, name, { status }, { namespace: "shop", subresource: "status" });
  }
  await until("it is served", () => served("n2").length > 0, 20);
  assert.deepEqual(served("n2"), [["HOST_PORT", 443, "10.244.2.9:8443 ACTIVE"]]);
  await pods.delete("shop/edge");
  await until("what somebody deletes comes back", () => served("n2").length > 0, 20);
  await client.delete(Pod, "edge", { namespace: "shop", gracePeriodS: 0 });
  await until("it is gone", () => served("n2").length === 0, 20);
  assert.equal(served("n3").length, 2);
  await client.delete(Pod, "theirs", { namespace: "shop", gracePeriodS: 0 });
  for (const name of ["shop/theirs", "shop/lab"]) await pods.delete(name);
}

async function enroll(client: ApiClient, service: KubernetesService, plane: Plane): Promise<void> {
  const namespace = "weir-system";
  const { data } = await client.get(ConfigMap, "weir-cluster", { namespace }) as {
    data?: Record<string, string>;
  };
  assert.equal(data?.addresses, "192.0.2.1:7440");
  assert.match(data?.["authority.crt"] ?? "", /BEGIN CERTIFICATE/);
  for (const name of ["weir-node", "other"]) {
    await client.create(ServiceAccount, { metadata: { name, namespace } });
  }
  const node = await client.create(Pod, {
    metadata: { name: "weir-node-x", namespace },
    spec: { nodeName: "n1", serviceAccountName: "weir-node", containers: [{ name: "c", image: "none" }] },
  });
  const boundTo = { kind: "Pod", apiVersion: "v1", name: "weir-node-x", uid: node.metadata.uid };
  const tokenOf = async (account: string, audience: string, boundObjectRef?: unknown) => {
    const answer = await client.create(ServiceAccount, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { audiences: [audience], expirationSeconds: 600, boundObjectRef },
    }, { namespace, name: account, subresource: "token" });
    return answer.status.token as string;
  };
  const ask = (token: string, node = "n1") =>
    service.enrollments!.enroll(EnrollmentRequest.create({ token, node }), "192.0.2.7");
  const good = await tokenOf("weir-node", "weir", boundTo);
  await assert.rejects(ask(good, "n2"), { code: "NODE_WRONG" });
  await assert.rejects(ask(await tokenOf("weir-node", "elsewhere", boundTo)), { code: "TOKEN_REFUSED" });
  await assert.rejects(ask(await tokenOf("other", "weir")), { code: "SERVICE_ACCOUNT_WRONG" });
  await assert.rejects(ask(await tokenOf("weir-node", "weir")), { code: "TOKEN_UNBOUND" });
  await assert.rejects(ask(good.slice(0, -4) + "AAAA"), { code: "TOKEN_REFUSED" });
  const { joinToken } = await ask(good);
  const { requestPem } = await createCertificateRequest("n1");
  const { secret } = parseJoinToken(joinToken);
  const issued = await plane.authority.issue(IssueRequest.create({ requestPem, node: "n1", secret }), {
    peer: { role: "anonymous", node: "" },
    address: "192.0.2.7",
  });
  assert.equal(issued.role, "node");
  // With its pod the token ends.
  const last = await tokenOf("weir-node", "weir", boundTo);
  await client.delete(Pod, "weir-node-x", { namespace, gracePeriodS: 0 });
  await until("the token has ended", async () => {
    const error = await ask(last).catch((error) => error);
    return error.code === "TOKEN_REFUSED" || Promise.reject(error);
  }, 1000);
}
