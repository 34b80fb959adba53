/** The definitions of custom resources at a real API server: what they take, what they refuse, what people see. @module */
import assert from "node:assert/strict";
import { type ApiClient, ApiServerError, type KubernetesObject, RESOURCES } from "@weir/kubernetes/api";
import { customResources } from "@weir/kubernetes/operator";
import { parseAllDocuments } from "yaml";
import { keepDefinitions } from "../../services/kubernetes/operator/crd_keeper.ts";
import { missingPrograms, RealApiServer } from "../../services/kubernetes/testing/real_api_server.ts";

const { CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CustomResourceDefinition } = RESOURCES;
const PROJECT = new URL("../../", import.meta.url).pathname;
const why = missingPrograms();

Deno.test({
  name:
    "Weir's custom resources are served, take what the policy engine takes, and refuse what nobody can mean",
  ignore: why !== undefined,
  fn: async (t) => {
    await using server = await RealApiServer.start();
    const client = server.client();
    await t.step("they are applied, and applied again without a change", () => applied(client));
    await t.step("the project's policies are taken as they are", () => projectPolicies(client));
    await t.step("every field of the facts is taken, and kept", () => wholePolicy(client));
    await t.step("what nobody can mean is refused, with the field", () => refused(client));
    await t.step("kubectl get shows age, validity and nodes", () => columns(server));
    await t.step("somebody else's, and a newer Weir's, stay as they are", () => others(client));
  },
});

async function applied(client: ApiClient): Promise<void> {
  const first = await keepDefinitions(client);
  assert.equal(first.length, 9);
  assert.ok(first.every(({ outcome }) => outcome === "applied"));
  const versions = async () =>
    (await client.list(CustomResourceDefinition)).items.map(({ metadata }) => metadata.resourceVersion);
  const before = await versions();
  await keepDefinitions(client);
  assert.deepEqual(await versions(), before);
}

async function projectPolicies(client: ApiClient): Promise<void> {
  let policies = 0;
  for (const directory of ["deploy/examples/star-wars/policies", "tests/ui/shop"]) {
    for (const { name } of Deno.readDirSync(PROJECT + directory)) {
      if (!name.endsWith(".yaml")) continue;
      for (const document of parseAllDocuments(await Deno.readTextFile(`${PROJECT}${directory}/${name}`))) {
        const object = document.toJS() as KubernetesObject | null;
        if (object?.kind !== "CiliumNetworkPolicy" && object?.kind !== "CiliumClusterwideNetworkPolicy") {
          continue;
        }
        const isNamespaced = object.kind === "CiliumNetworkPolicy";
        if (isNamespaced) object.metadata.namespace = "default";
        await client.apply(RESOURCES[object.kind], object, { dryRun: true });
        policies++;
      }
    }
  }
  assert.ok(policies >= 3, `${policies} policies`);
}

/** One policy with each field once. */
const WHOLE = {
  endpointSelector: {
    matchLabels: { "k8s:app": "web" },
    matchExpressions: [{ key: "tier", operator: "Exists" }],
  },
  ingress: [
    { fromEndpoints: [{}, { matchLabels: { "any:app": "x" } }] },
    { fromCIDR: ["192.0.2.0/24"], toPorts: [{ ports: [{ port: "80", endPort: 90, protocol: "TCP" }] }] },
    { fromCIDRSet: [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/8"] }, { cidrGroupRef: "group" }] },
    { fromCIDRSet: [{ cidrGroupSelector: { matchLabels: { a: "b" } } }] },
    { fromEntities: ["world", "kube-apiserver"], authentication: { mode: "required" } },
    {
      fromNodes: [{ matchLabels: { a: "b" } }],
      icmps: [{ fields: [{ family: "IPv6", type: 128 }, { type: "EchoRequest" }] }],
    },
    { fromGroups: [{ aws: { securityGroupsIds: ["sg-1"] } }] },
    {
      toPorts: [{
        ports: [{ port: "http", protocol: "TCP" }],
        rules: {
          http: [{ method: "GET", path: "/.*", headerMatches: [{ name: "a", value: "b", mismatch: "LOG" }] }],
        },
        terminatingTLS: { secret: { namespace: "a", name: "b" } },
        serverNames: ["example.org"],
      }],
    },
    { toPorts: [{ ports: [{ port: "9092" }], rules: { kafka: [{ role: "produce", topic: "t" }] } }] },
    {
      toPorts: [{
        ports: [{ port: "9042" }],
        rules: { l7proto: "cassandra", l7: [{ query_action: "select" }] },
      }],
    },
  ],
  ingressDeny: [{ fromEntities: ["host"], toPorts: [{ ports: [{ port: "22" }] }] }, {}],
  egress: [
    {
      toEndpoints: [{}],
      toPorts: [{ ports: [{ port: "53", protocol: "ANY" }], rules: { dns: [{ matchPattern: "*" }] } }],
    },
    {
      toFQDNs: [{ matchName: "example.org" }, { matchPattern: "*.example.org" }, {
        matchPattern: "**.example.org",
      }],
    },
    {
      toServices: [{ k8sService: { serviceName: "a", namespace: "b" } }, {
        k8sServiceSelector: { selector: {} },
      }],
    },
    {
      toPorts: [{
        ports: [{ port: "443" }],
        listener: { envoyConfig: { kind: "CiliumEnvoyConfig", name: "e" }, name: "l", priority: 1 },
      }],
    },
    { toCIDR: ["2001:db8::/32"], toRequires: [] },
  ],
  egressDeny: [{ toCIDRSet: [{ cidr: "198.51.100.0/24" }] }],
  enableDefaultDeny: { ingress: false, egress: true },
  labels: [{ key: "a", value: "b", source: "k8s" }],
  description: "All of it",
  log: { value: "audit" },
};
const policy = (spec: unknown, more: Partial<KubernetesObject> = {}): KubernetesObject => ({
  metadata: { name: "whole", namespace: "default" },
  spec,
  ...more,
});

async function wholePolicy(client: ApiClient): Promise<void> {
  const kept = await client.create(CiliumNetworkPolicy, policy(WHOLE));
  // The one default that there is.
  // deno-lint-ignore no-explicit-any
  const expected: any = structuredClone(WHOLE);
  expected.ingress[5].icmps[0].fields[1] = { family: "IPv4", type: "EchoRequest" };
  assert.deepEqual(kept.spec, expected);
  const { endpointSelector, ...rest } = WHOLE;
  const clusterwide = { metadata: { name: "whole" }, spec: { ...rest, nodeSelector: endpointSelector } };
  await client.create(CiliumClusterwideNetworkPolicy, clusterwide);
  await client.create(
    CiliumNetworkPolicy,
    policy(undefined, {
      metadata: { name: "several", namespace: "default" },
      specs: [kept.spec, kept.spec],
    }),
  );
}

async function refused(client: ApiClient): Promise<void> {
  const endpointSelector = {};
  const CASES: [string, unknown, string][] = [
    ["no direction", { endpointSelector }, "spec"],
    ["no selector", { ingress: [{}] }, "spec.endpointSelector"],
    [
      "an entity that is none",
      { endpointSelector, ingress: [{ fromEntities: ["universe"] }] },
      "spec.ingress[0].fromEntities[0]",
    ],
    [
      "a port of no host",
      { endpointSelector, egress: [{ toPorts: [{ ports: [{ port: "65536" }] }] }] },
      "spec.egress[0].toPorts[0].ports[0].port",
    ],
    [
      "a port as a number",
      { endpointSelector, egress: [{ toPorts: [{ ports: [{ port: 80 }] }] }] },
      "spec.egress[0].toPorts[0].ports[0].port",
    ],
    ["no protocol of these", {
      endpointSelector,
      egress: [{ toPorts: [{ ports: [{ port: "80", protocol: "QUIC" }] }] }],
    }, "spec.egress[0].toPorts[0].ports[0].protocol"],
    ["two kinds of rules", {
      endpointSelector,
      egress: [{ toPorts: [{ rules: { http: [{}], dns: [{ matchName: "a" }] } }] }],
    }, "spec.egress[0].toPorts[0].rules"],
    ["a prefix and a group", {
      endpointSelector,
      egress: [{ toCIDRSet: [{ cidr: "10.0.0.0/8", cidrGroupRef: "a" }] }],
    }, "spec.egress[0].toCIDRSet[0]"],
    [
      "what was taken out",
      { endpointSelector, ingress: [{ fromRequires: [{}] }] },
      "spec.ingress[0].fromRequires",
    ],
    [
      "a value of a label that is none",
      { endpointSelector: { matchLabels: { a: "b c" } }, ingress: [] },
      "spec.endpointSelector.matchLabels.a",
    ],
    ["too many ports", {
      endpointSelector,
      ingress: [{ toPorts: [{ ports: Array(41).fill({ port: "1" }) }] }],
    }, "spec.ingress[0].toPorts[0].ports"],
  ];
  for (const [what, spec, field] of CASES) {
    const error = await client.create(
      CiliumNetworkPolicy,
      policy(spec, { metadata: { name: "bad", namespace: "default" } }),
    )
      .then(() => undefined, (error) => error);
    assert.ok(error instanceof ApiServerError && error.code === "INVALID", `${what}: ${error ?? "taken"}`);
    const causes = JSON.stringify(error.problem.causes);
    assert.ok(causes.includes(field), `${what}: ${causes}`);
  }
  const both = { metadata: { name: "both" }, spec: { endpointSelector, nodeSelector: {}, ingress: [] } };
  await assert.rejects(client.create(CiliumClusterwideNetworkPolicy, both), { code: "INVALID" });
}

async function columns(server: RealApiServer): Promise<void> {
  const access = server.access();
  using client = Deno.createHttpClient({ caCerts: [...access.authorities] });
  const answer = await fetch(`${access.server}/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies`, {
    headers: {
      authorization: `Bearer ${await access.token!.get()}`,
      accept: "application/json;as=Table;g=meta.k8s.io;v=v1",
    },
    client,
  } as RequestInit);
  const table = await answer.json();
  const names = table.columnDefinitions.map(({ name }: { name: string }) => name);
  assert.deepEqual(names, ["Name", "Age", "Valid", "In force", "Message", "Nodes"]);
}

async function others(client: ApiClient): Promise<void> {
  const [groups, policies] = ["ciliumcidrgroups.cilium.io", "ciliumnetworkpolicies.cilium.io"];
  const label = (name: string, labels: Record<string, string>) =>
    client.patch(CustomResourceDefinition, name, { metadata: { labels } });
  await label(groups, { "app.kubernetes.io/managed-by": "Helm" });
  await label(policies, { "weir.dev/crd-schema-version": "999" });
  const outcomes = new Map((await keepDefinitions(client)).map(({ name, outcome }) => [name, outcome]));
  assert.deepEqual([outcomes.get(groups), outcomes.get(policies)], ["foreign", "newer"]);
  const { spec } = customResources().find(({ metadata }) => metadata.name === groups)!;
  spec.versions = [{ ...spec.versions[0], name: "v1", storage: true }];
  await client.delete(CustomResourceDefinition, groups);
  for (let i = 0; i < 100; i++) {
    const found = await client.list(CustomResourceDefinition);
    if (!found.items.some(({ metadata }) => metadata.name === groups)) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await client.create(CustomResourceDefinition, { metadata: { name: groups }, spec });
  await assert.rejects(keepDefinitions(client), { code: "DEFINITION_WITHOUT_VERSION" });
}
