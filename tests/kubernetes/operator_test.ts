/**
 * The operator at a real API server, with the rights of its manifest and no other: what it writes, what it leaves alone, and
 * what it does when somebody is in its way.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { type ApiClient, type KubernetesObject, type Resource, RESOURCES } from "@weir/kubernetes/api";
import { NOT_READY_TAINT, Operator, operatorRights, rulesOf } from "@weir/kubernetes/operator";
import { Identity, Node } from "@weir/proto/identity";
import { KubernetesNode, KubernetesPod, ObjectFault } from "@weir/proto/kubernetes";
import { AddressPool, Service } from "@weir/proto/loadbalancer";
import { NodePolicy, Policy } from "@weir/proto/policy";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { fileOf } from "../../services/kubernetes/held_objects.ts";
import { keepDefinitions } from "../../services/kubernetes/operator/crd_keeper.ts";
import { prunePolicy } from "../../services/kubernetes/reflectors/policies.ts";
import { prunePool } from "../../services/kubernetes/reflectors/pools.ts";
import {
  type AuditEvent,
  missingPrograms,
  RealApiServer,
} from "../../services/kubernetes/testing/real_api_server.ts";
import { WeirServices } from "./weir_services.ts";

const why = missingPrograms();
const NAMESPACE = "weir-system";
const MANAGED = { "app.kubernetes.io/managed-by": "weir" };
const { CiliumIdentity, CiliumEndpoint, CiliumEndpointSlice, CiliumNode, CiliumNetworkPolicy } = RESOURCES;

const RBAC = (kind: string, plural: string, namespaced: boolean): Resource => ({
  group: "rbac.authorization.k8s.io",
  version: "v1",
  kind,
  plural,
  namespaced,
});

/** Everything that a test has. */
interface Bed {
  server: RealApiServer;
  admin: ApiClient;
  weir: WeirServices;
  operator: Operator;
  make: (token: string) => Operator;
}

Deno.test({
  name:
    "The operator writes what Weir knows, with no more rights than it needs, and puts right what others change",
  ignore: why !== undefined,
  fn: async (t) => {
    await using server = await RealApiServer.start({
      users: { "weir-token": "weir", "weir-token-2": "weir" },
      audit: true,
    });
    const admin = server.client();
    await grant(admin);
    const weir = new WeirServices();
    fill(weir);
    const make = (token: string) =>
      new Operator(server.client(token), {
        targets: weir.targets,
        namespace: NAMESPACE,
        holder: `${token}-${crypto.randomUUID()}`,
        singleEndpoints: true,
      }).start();
    await cluster(admin, weir);
    const bed: Bed = { server, admin, weir, operator: make("weir-token"), make };
    try {
      await t.step("objects appear as Weir knows them", () => appear(bed));
      await t.step("nodes are opened, and closed when Weir on them dies", () => nodes(bed));
      await t.step(
        "policies say whether they are valid, and on how many nodes in force",
        () => policies(bed),
      );
      await t.step("services and pools say their addresses; those of others stay", () => services(bed));
      await t.step("what others change is put right, what is theirs is left alone", () => foreign(bed));
      await t.step("a hundred pods that go change few slices", () => shrink(bed));
      await t.step("an API server that was away is caught up with", () => away(bed));
      await t.step("another operator takes over without a change", () => takeOver(bed));
      await t.step("every right is used, and no request was refused", () => rights(bed));
    } finally {
      await bed.operator.stop();
    }
  },
});

async function grant(admin: ApiClient): Promise<void> {
  const { cluster, own } = rulesOf(operatorRights({ singleEndpoints: true }));
  const subject = { kind: "User", name: "weir", apiGroup: "rbac.authorization.k8s.io" };
  const roleRef = (kind: string) => ({ kind, name: "weir", apiGroup: "rbac.authorization.k8s.io" });
  const clusterwide = { metadata: { name: "weir" } },
    local = { metadata: { name: "weir", namespace: NAMESPACE } };
  await admin.create(RESOURCES.Namespace, { metadata: { name: NAMESPACE } });
  await admin.create(RBAC("ClusterRole", "clusterroles", false), { ...clusterwide, rules: cluster });
  await admin.create(RBAC("Role", "roles", true), { ...local, rules: own });
  const binding = RBAC("ClusterRoleBinding", "clusterrolebindings", false);
  await admin.create(binding, { ...clusterwide, subjects: [subject], roleRef: roleRef("ClusterRole") });
  const localBinding = RBAC("RoleBinding", "rolebindings", true);
  await admin.create(localBinding, { ...local, subjects: [subject], roleRef: roleRef("Role") });
}

/** What Weir's services know at the beginning. */
function fill(weir: WeirServices): void {
  for (const [number, app] of [[1000, "web"], [1001, "db"], [1002, "old"]] as const) {
    weir.identities.put(
      `${number}`,
      Identity.create({ number, labels: [`k8s:app=${app}`, "k8s:io.kubernetes.pod.namespace=shop"] }),
    );
  }
  weir.identities.put("2", Identity.create({ number: 2, labels: ["reserved:world"] }));
  for (let i = 0; i < 250; i++) weir.addPod("shop", `web-${i}`, i);
  for (let i = 250; i < 260; i++) weir.addPod("bank", `db-${i}`, i, 1001);
  for (const [name, number] of [["node-1", 11], ["node-2", 12], ["node-3", 13], ["node-4", 14]] as const) {
    weir.nodes.put(
      name,
      Node.create({ name, ipv4: `192.0.2.${number}`, podCidrV4: `10.1.${number}.0/24`, state: "NODE_KNOWN" }),
    );
  }
  for (const node of ["node-1", "node-2"]) {
    weir.nodePolicies.put(node, NodePolicy.create({ node, policyRevision: 7, heardUnixS: 1 }));
  }
}

/** What the API server has at the beginning. */
async function cluster(admin: ApiClient, weir: WeirServices): Promise<void> {
  await keepDefinitions(admin);
  await admin.delete(RESOURCES.CustomResourceDefinition, "ciliumcidrgroups.cilium.io");
  for (const name of ["node-1", "node-2", "node-3"]) {
    const node = await admin.create(RESOURCES.Node, {
      metadata: { name },
      spec: {
        taints: [{ key: NOT_READY_TAINT, effect: "NoSchedule" }, { key: "mine", effect: "NoSchedule" }],
      },
    });
    weir.kubernetesNodes.put(name, KubernetesNode.create({ name, uid: node.metadata.uid }));
  }
  for (const name of ["shop", "bank"]) await admin.create(RESOURCES.Namespace, { metadata: { name } });
  const pod = await admin.create(RESOURCES.Pod, {
    metadata: { name: "web-0", namespace: "shop" },
    spec: { containers: [{ name: "c", image: "none" }] },
  });
  weir.pods.put("shop/web-0", KubernetesPod.create({ name: "shop/web-0", uid: pod.metadata.uid }));
  // Of another network, before Weir came.
  await admin.create(CiliumIdentity, {
    metadata: { name: "1001" },
    "security-labels": { "k8s:theirs": "x" },
  });
  await admin.create(CiliumEndpointSlice, {
    metadata: { name: "ces-theirs" },
    namespace: "shop",
    endpoints: [],
  });
}

const all = async (admin: ApiClient, resource: Resource, namespace?: string): Promise<KubernetesObject[]> => {
  const found: KubernetesObject[] = [];
  for await (const { items } of admin.pages(resource, { namespace })) found.push(...items);
  return found;
};
const ours = async (admin: ApiClient, resource: Resource) =>
  (await all(admin, resource)).filter(({ metadata }) =>
    metadata.labels?.["app.kubernetes.io/managed-by"] === "weir"
  );
const members = (slices: KubernetesObject[]): string[] =>
  slices.flatMap((one) => (one.endpoints as { name: string }[]).map(({ name }) => `${one.namespace}/${name}`))
    .sort();

/** What is there once it is. */
async function found<T>(what: string, get: () => Promise<T | undefined>): Promise<T> {
  let value: T | undefined;
  await until(what, async () => (value = await get()) !== undefined);
  return value!;
}

async function settled({ operator }: Bed): Promise<void> {
  await until(
    "nothing waits to be written",
    () => operator.isLeading && Object.values(operator.waiting).every((one) => one === 0),
  );
}

async function appear({ admin, weir }: Bed): Promise<void> {
  await until(
    "the slices have every endpoint",
    async () => members(await ours(admin, CiliumEndpointSlice)).length === 260,
  );
  const slices = await ours(admin, CiliumEndpointSlice);
  assert.deepEqual(slices.map(({ endpoints }) => (endpoints as unknown[]).length).sort(), [10, 100, 100, 50]);
  assert.ok(slices.every(({ metadata, namespace }) => metadata.name.startsWith(`ces-${namespace}-`)));
  const web = (slices.flatMap(({ endpoints }) => endpoints) as KubernetesObject[]).find((one) =>
    `${one.name}` === "web-7"
  );
  assert.deepEqual(web, {
    name: "web-7",
    id: 1000,
    networking: { addressing: [{ ipv4: "10.100.0.7" }], node: "192.0.2.11" },
    encryption: { key: 0 },
    "named-ports": [{ name: "http", port: 8080, protocol: "TCP" }],
    "service-account": "default",
  });
  const identity = await found("the identity", () => admin.get(CiliumIdentity, "1000"));
  assert.deepEqual(identity["security-labels"], {
    "k8s:app": "web",
    "k8s:io.kubernetes.pod.namespace": "shop",
  });
  assert.deepEqual(identity.metadata.labels, { ...MANAGED, "io.kubernetes.pod.namespace": "shop" });
  const endpoint = await found(
    "the endpoint",
    () => admin.get(CiliumEndpoint, "web-0", { namespace: "shop" }),
  );
  assert.equal(endpoint.metadata.ownerReferences?.[0].kind, "Pod");
  assert.deepEqual([endpoint.status.identity.id, endpoint.status.state], [1000, "ready"]);
  assert.equal((await all(admin, CiliumEndpoint)).length, 1, "of the others nobody knows the pod");
  weir.addPod("shop", "web-0", 0, 1001);
  await until(
    "it has its other identity",
    async () => (await admin.get(CiliumEndpoint, "web-0", { namespace: "shop" })).status.identity.id === 1001,
  );
  await until("1002 is there", async () => (await admin.get(CiliumIdentity, "1002")) !== undefined);
  weir.identities.delete("1002");
  const node = await found("the node", async () => {
    const node = await admin.get(CiliumNode, "node-1");
    return node.status?.conditions && node;
  });
  assert.deepEqual(node.spec, {
    addresses: [{ type: "InternalIP", ip: "192.0.2.11" }],
    ipam: { podCIDRs: ["10.1.11.0/24"] },
  });
  assert.deepEqual(node.metadata.ownerReferences?.[0].kind, "Node");
  assert.equal(node.status.conditions[0].status, "True");
  await found("a node that is none of Kubernetes", () => admin.get(CiliumNode, "node-4"));
  weir.nodes.delete("node-4");
}

const stateOf = ({ spec, status }: KubernetesObject): [string[], string | undefined] => [
  // Kubernetes has its own.
  (spec?.taints ?? []).map(({ key }: { key: string }) => key)
    .filter((key: string) => !key.startsWith("node.kubernetes.io/")).sort(),
  status?.conditions?.find(({ type }: { type: string }) => type === "NetworkUnavailable")?.status,
];

async function nodes({ admin, weir }: Bed): Promise<void> {
  const state = async (name: string) => stateOf(await admin.get(RESOURCES.Node, name));
  const is = async (name: string, taints: string[], condition: string) =>
    await until(
      `${name} has ${taints}`,
      async () => JSON.stringify(await state(name)) === JSON.stringify([taints, condition]),
    );
  await is("node-1", ["mine"], "False");
  await is("node-2", ["mine"], "False");
  // Its datapath has no policies yet.
  assert.deepEqual(await state("node-3"), [["mine", NOT_READY_TAINT], undefined]);
  weir.nodePolicies.put("node-3", NodePolicy.create({ node: "node-3", policyRevision: 7, heardUnixS: 1 }));
  await is("node-3", ["mine"], "False");
  weir.nodes.put("node-2", Node.create({ ...weir.nodes.get("node-2"), state: "NODE_DEAD" }));
  await is("node-2", ["mine", NOT_READY_TAINT], "True");
  await until("its CiliumNode says so", async () => {
    const { status } = await admin.get(CiliumNode, "node-2");
    return status.conditions[0].status === "False";
  });
  weir.nodes.put("node-2", Node.create({ ...weir.nodes.get("node-2"), state: "NODE_KNOWN" }));
  await is("node-2", ["mine"], "False");
}

async function policies({ admin, weir }: Bed): Promise<void> {
  const conditions = async (name: string) =>
    Object.fromEntries(
      ((await admin.get(CiliumNetworkPolicy, name, { namespace: "shop" })).status?.conditions ?? [])
        .map((
          { type, status, reason, message }: Record<string, string>,
        ) => [type, [status, reason, message]]),
    );
  const make = (name: string) =>
    admin.create(CiliumNetworkPolicy, {
      metadata: { name, namespace: "shop" },
      spec: { endpointSelector: {}, ingress: [{}] },
    });
  const held = (resource: Resource, object: KubernetesObject, more: Partial<Policy>) => {
    const wanted = prunePolicy(resource, object);
    return Policy.create({ manifest: wanted.text, file: fileOf(wanted), ...more });
  };
  const good = await make("good");
  await make("bad");
  const { CiliumClusterwideNetworkPolicy } = RESOURCES;
  const all = await admin.create(CiliumClusterwideNetworkPolicy, {
    metadata: { name: "all" },
    spec: { endpointSelector: {}, ingress: [{}] },
  });
  weir.policies.put(
    "ccnp:all",
    held(CiliumClusterwideNetworkPolicy, all, { name: "ccnp:all", policyRevision: 7 }),
  );
  await until("the clusterwide one is valid", async () => {
    const { status } = await admin.get(CiliumClusterwideNetworkPolicy, "all");
    return status?.conditions?.find(({ type }: { type: string }) => type === "Valid")?.status === "True";
  });
  weir.policies.put(
    "cnp:shop/good",
    held(CiliumNetworkPolicy, good, { name: "cnp:shop/good", policyRevision: 8 }),
  );
  weir.objectFaults.put(
    "CiliumNetworkPolicy/shop/bad",
    ObjectFault.create({
      name: "CiliumNetworkPolicy/shop/bad",
      generation: 1,
      code: "POLICY_INVALID",
      error: { error: 'spec.ingress[0].toPorts[0].ports[0].port: "x y", want a port' },
    }),
  );
  await until("the bad one is not valid", async () => (await conditions("bad")).Valid?.[0] === "False");
  assert.deepEqual(await conditions("bad"), {
    Valid: ["False", "PolicyInvalid", 'spec.ingress[0].toPorts[0].ports[0].port: "x y", want a port'],
  });
  await until("the good one is valid", async () => (await conditions("good")).Valid?.[0] === "True");
  assert.deepEqual((await conditions("good")).InForce, [
    "False",
    "NotOnEveryNode",
    "In force on 0 of 3 nodes",
  ]);
  for (const node of ["node-1", "node-2", "node-3"]) {
    weir.nodePolicies.put(node, NodePolicy.create({ node, policyRevision: 8, heardUnixS: 1 }));
  }
  await until("it is in force everywhere", async () => (await conditions("good")).InForce?.[0] === "True");
  assert.equal((await conditions("good")).InForce[2], "In force on 3 of 3 nodes");
}

async function services({ admin, weir }: Bed): Promise<void> {
  const make = (name: string) =>
    admin.create(RESOURCES.Service, {
      metadata: { name, namespace: "shop" },
      spec: { type: "LoadBalancer", ports: [{ port: 80 }], selector: { app: "web" } },
    });
  const put = (name: string, addresses: string[]) =>
    weir.services.put(
      `shop/${name}`,
      Service.create({
        name: `shop/${name}`,
        type: "LoadBalancer",
        ports: [{
          frontends: addresses.map((address) => ({ kind: "LOAD_BALANCER" as const, address, port: 80 })),
        }],
        conditions: addresses.length > 0
          ? [{ type: "AddressPool", ok: true, reason: "Assigned", message: "given" }]
          : [{
            type: "AddressPool",
            ok: false,
            reason: "PoolExhausted",
            message: "pool a has no address left",
          }],
      }),
    );
  const addresses = async (name: string) =>
    ((await admin.get(RESOURCES.Service, name, { namespace: "shop" })).status?.loadBalancer?.ingress ?? [])
      .map(({ ip }: { ip: string }) => ip);
  const is = (name: string, wanted: string[]) =>
    until(`${name} has ${wanted}`, async () => String(await addresses(name)) === String(wanted));
  await make("cart");
  await make("theirs");
  await admin.patch(RESOURCES.Service, "theirs", {
    status: { loadBalancer: { ingress: [{ ip: "203.0.113.9" }] } },
  }, {
    namespace: "shop",
    subresource: "status",
    fieldManager: "cloud",
  });
  put("cart", ["198.51.100.2", "198.51.100.1"]);
  put("theirs", ["198.51.100.7"]);
  await is("cart", ["198.51.100.1", "198.51.100.2"]);
  put("cart", ["198.51.100.1"]);
  await is("cart", ["198.51.100.1"]);
  put("cart", []);
  await is("cart", []);
  const { status } = await admin.get(RESOURCES.Service, "cart", { namespace: "shop" });
  assert.deepEqual(
    [status.conditions[0].type, status.conditions[0].status, status.conditions[0].message],
    ["cilium.io/IPAMRequestSatisfied", "False", "pool a has no address left"],
  );
  assert.deepEqual(await addresses("theirs"), ["203.0.113.9"]);
  const pool = RESOURCES.CiliumLoadBalancerIPPool;
  const spec = { blocks: [{ cidr: "198.51.100.0/30" }] };
  const { text: manifest } = prunePool(await admin.create(pool, { metadata: { name: "a" }, spec }));
  weir.pools.put(
    "a",
    AddressPool.create({ name: "a", file: KUBERNETES_FILE_MARK, manifest, status: { total: 4, used: 1 } }),
  );
  const said = await found("the pool's status", async () => (await admin.get(pool, "a")).status?.conditions);
  const message = (type: string) =>
    said.find((one: { type: string }) => one.type === `cilium.io/${type}`).message;
  assert.deepEqual([message("IPsTotal"), message("IPsAvailable"), message("IPsUsed")], ["4", "3", "1"]);
}

async function foreign(bed: Bed): Promise<void> {
  const { admin, weir } = bed;
  await settled(bed);
  const [slice] = await ours(admin, CiliumEndpointSlice);
  await admin.delete(CiliumEndpointSlice, slice.metadata.name);
  await admin.patch(CiliumIdentity, "1000", { "security-labels": { "k8s:app": "evil" } });
  await admin.patch(CiliumNode, "node-1", { spec: { ipam: { podCIDRs: ["0.0.0.0/0"] } } });
  await until(
    "the slice is back",
    async () => members(await ours(admin, CiliumEndpointSlice)).length === 260,
  );
  await until("the identity is right", async () => {
    const found = await admin.get(CiliumIdentity, "1000");
    return (found["security-labels"] as Record<string, string>)["k8s:app"] === "web";
  });
  await until(
    "the node is right",
    async () => (await admin.get(CiliumNode, "node-1")).spec.ipam.podCIDRs[0] === "10.1.11.0/24",
  );
  // An identity that Weir does not know, under Weir's label, goes; what never was Weir's stays as it was.
  await admin.create(CiliumNode, { metadata: { name: "node-theirs" }, spec: {} });
  await admin.create(CiliumEndpointSlice, {
    metadata: { name: "ces-left", labels: MANAGED },
    namespace: "shop",
    endpoints: [],
  });
  await until(
    "what was left goes",
    async () => !(await all(admin, CiliumEndpointSlice)).some(({ metadata }) => metadata.name === "ces-left"),
  );
  weir.identities.put("1001", Identity.create({ ...weir.identities.get("1001"), referenceCount: 5 }));
  await settled(bed);
  assert.deepEqual((await admin.get(CiliumIdentity, "1001"))["security-labels"], { "k8s:theirs": "x" });
  assert.deepEqual((await admin.get(CiliumEndpointSlice, "ces-theirs")).endpoints, []);
  assert.deepEqual((await admin.get(CiliumNode, "node-theirs")).spec, {});
}

async function shrink(bed: Bed): Promise<void> {
  const { admin, server, weir } = bed;
  await settled(bed);
  const writes = () =>
    server.audit().filter(({ user, verb, objectRef }) =>
      user.username === "weir" && objectRef?.resource === "ciliumendpointslices" &&
      /create|patch|delete/.test(verb)
    ).length;
  const before = writes();
  for (let i = 0; i < 100; i++) weir.removePod(i);
  await until("they are gone", async () => members(await ours(admin, CiliumEndpointSlice)).length === 160);
  for (let i = 300; i < 350; i++) weir.addPod("shop", `new-${i}`, i);
  await until("others have come", async () => members(await ours(admin, CiliumEndpointSlice)).length === 210);
  await settled(bed);
  const slices = (await ours(admin, CiliumEndpointSlice)).filter(({ namespace }) => namespace === "shop");
  assert.ok(slices.length <= 3, `${slices.length} slices`);
  assert.ok(writes() - before <= 6, `${writes() - before} requests for 150 changes`);
}

async function away(bed: Bed): Promise<void> {
  const { server, weir } = bed;
  await server.stopKube();
  for (let i = 400; i < 430; i++) weir.addPod("bank", `late-${i}`, i, 1001);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  server.startKube();
  await server.waitReady();
  await until(
    "what came meanwhile is there",
    async () => members(await ours(bed.admin, CiliumEndpointSlice)).length === 240,
  );
}

async function takeOver(bed: Bed): Promise<void> {
  const { admin, make, operator } = bed;
  await until("it leads again", () => operator.isLeading);
  await settled(bed);
  const versions = async () => {
    const kinds = [
      CiliumIdentity,
      CiliumEndpointSlice,
      CiliumNode,
      CiliumNetworkPolicy,
      RESOURCES.Service,
      RESOURCES.Node,
    ];
    const objects = await Promise.all(kinds.map((kind) => all(admin, kind)));
    return objects.flat().map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`).sort();
  };
  const before = await versions();
  const second = make("weir-token-2");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  assert.deepEqual([operator.isLeading, second.isLeading], [true, false]);
  await operator.stop();
  bed.operator = second;
  await until("the second leads", () => second.isLeading);
  bed.weir.addPod("bank", "after", 500, 1001);
  await until(
    "it writes",
    async () => members(await ours(admin, CiliumEndpointSlice)).includes("bank/after"),
  );
  await settled(bed);
  const changed = (await versions()).filter((one) => !before.includes(one));
  assert.equal(changed.length, 1, `changed: ${changed}`);
  assert.match(changed[0], /^ces-bank-/);
}

async function rights({ server, admin }: Bed): Promise<void> {
  await until(
    "the identity that went is deleted",
    async () => !(await all(admin, CiliumIdentity)).some(({ metadata }) => metadata.name === "1002"),
  );
  await until(
    "the node that went is deleted",
    async () => !(await all(admin, CiliumNode)).some(({ metadata }) => metadata.name === "node-4"),
  );
  const events = server.audit().filter(({ user }) => user.username === "weir");
  assert.ok(events.length > 100);
  const what = ({ verb, objectRef }: AuditEvent) => {
    const { apiGroup = "", resource, subresource } = objectRef ?? {};
    return `${verb} ${apiGroup}/${resource}${subresource === undefined ? "" : `/${subresource}`}`;
  };
  const isRefused = ({ responseStatus }: AuditEvent) => responseStatus?.code === 403;
  const used = new Set(events.filter((event) => !isRefused(event)).map(what));
  // An API server that has just begun refuses for a moment what it grants once it has read the roles.
  assert.deepEqual(events.filter(isRefused).map(what).filter((one) => !used.has(one)), [], "refused");
  const given = new Set(
    operatorRights({ singleEndpoints: true }).flatMap(({ group, resources, verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${verb} ${group}/${resource}`))
    ),
  );
  assert.deepEqual([...used].filter((one) => !given.has(one)).sort(), [], "used and not given");
  // A definition that is not there is made by apply: the log calls that a patch, and the right to create is asked for.
  used.add("create apiextensions.k8s.io/customresourcedefinitions");
  assert.deepEqual([...given].filter((one) => !used.has(one)).sort(), [], "given and not used");
}
