import assert from "node:assert/strict";
import { LabelSet } from "@weir/common";
import { explainDirection } from "./explain.ts";
import { readManifests } from "./manifest.ts";
import { type Direction, peerIdentity } from "./policy.ts";
import { PolicyRepository } from "./policy_repository.ts";

const COMMON = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];
const WEB = 1000, API = 1001, DB = 1002;

function repositoryWith(...specs: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  for (const [number, app] of [[WEB, "web"], [API, "api"], [DB, "db"]] as const) {
    repository.upsertIdentity(number, LabelSet.parse([`k8s:app=${app}`, ...COMMON]));
  }
  for (const [index, spec] of specs.entries()) {
    const text =
      `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p${index}}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text, { file: "p.yaml" });
    assert.deepEqual(faults, []);
    repository.upsertPolicy(policies[0]);
  }
  return repository;
}

function explain(repository: PolicyRepository, direction: Direction = "INGRESS", port = 80) {
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  return explainDirection(repository, { from, to, protocol: 6, port, toNamedPorts: [] }, direction);
}

const SELECT_WEB = "endpointSelector: {matchLabels: {app: web}}";

Deno.test("explainDirection() says what decides and what would flip it", () => {
  const cases: [string, string[], boolean, RegExp, RegExp][] = [
    ["no policy", [], true, /^Allowed: no policy selects the destination for ingress$/, /^Apply a policy/],
    [
      "one allow",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`],
      true,
      /^Allowed by cnp:default\/p0 spec\.ingress\[0\]\.fromEndpoints\[0\] \(p\.yaml:1\)$/,
      /^Remove cnp:default\/p0 spec\.ingress\[0\]\.fromEndpoints\[0\]/,
    ],
    [
      "two allows",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}, {fromEntities: [cluster]}, {fromEntities: [all]}]}`],
      true,
      /^Allowed by cnp:default\/p0/,
      /^Add ingressDeny for 80\/TCP from the source to cnp:default\/p0: a deny beats every allow/,
    ],
    [
      "a deny over an allow",
      [
        `{${SELECT_WEB}, ingress: [{fromEntities: [all]}]}`,
        `{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`,
      ],
      false,
      /^Denied by cnp:default\/p1 spec\.ingressDeny\[0\]/,
      /^Remove cnp:default\/p1 spec\.ingressDeny\[0\]\.fromEndpoints\[0\] \(p\.yaml:1\)$/,
    ],
    [
      "a deny without an allow",
      [`{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`],
      false,
      /^Denied by/,
      /and allow 80\/TCP from the source: no other rule does$/,
    ],
    [
      "another label",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`],
      false,
      /^Denied by default: cnp:default\/p0 selects the destination for ingress and no rule allows 80\/TCP from the source$/,
      /^Give the source label app=db \(it has api\)/,
    ],
    [
      "another port",
      [`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}], toPorts: [{ports: [{port: "443"}]}]}]}`],
      false,
      /^Denied by default/,
      /^Add port 80\/TCP to cnp:default\/p0 spec\.ingress\[0\]/,
    ],
    [
      "nothing near",
      [`{${SELECT_WEB}, ingress: [{}]}`],
      false,
      /^Denied by default/,
      /^Add a rule to cnp:default\/p0 that allows 80\/TCP from k8s:app=api$/,
    ],
    [
      "open on purpose",
      [`{${SELECT_WEB}, enableDefaultDeny: {ingress: false}, ingress: [{fromEntities: [host]}]}`],
      true,
      /^Allowed by cnp:default\/p0 spec\.ingress /,
      /^Set enableDefaultDeny\.ingress to true in cnp:default\/p0$/,
    ],
  ];
  for (const [name, specs, allowed, reason, flip] of cases) {
    const step = explain(repositoryWith(...specs));
    assert.equal(step.allowed, allowed, name);
    assert.match(step.reason, reason, name);
    assert.match(step.flip, flip, name);
  }
});

Deno.test("explainDirection() promises a flip that comes true", () => {
  const denied = repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`);
  const asked = peerIdentity(0xffffffff, LabelSet.parse(["k8s:app=db", "k8s:extra=x", ...COMMON]));
  const to = denied.identity(WEB)!;
  const step = explainDirection(
    denied,
    { from: asked, to, protocol: 6, port: 80, toNamedPorts: [] },
    "INGRESS",
  );
  assert.equal(step.allowed, true, "the label that was asked for");
  assert.equal(step.remoteIdentity, 0, "an identity that nobody has");
  const one = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEntities: [all]}]}`,
    `{${SELECT_WEB}, ingressDeny: [{fromEndpoints: [{}]}]}`,
  );
  assert.equal(explain(one).allowed, false);
  one.removePolicy("cnp:default/p1");
  assert.equal(explain(one).allowed, true);
  // An entity is what it is by its address: nobody can be told to become one.
  const many = repositoryWith(`{${SELECT_WEB}, ingress: [{fromEntities: [multicast]}]}`);
  assert.match(explain(many).flip, /^Add a rule to cnp:default\/p0 that allows /);
});

Deno.test("explainDirection() lists the label facts of both ends and the rule behind the cookie", () => {
  const step = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [db]}, {key: x, operator: DoesNotExist}]}]}]}`,
    ),
  );
  assert.ok(step.labelFacts.includes("k8s:app=web of the destination is what cnp:default/p0 spec selects"));
  assert.ok(
    step.labelFacts.includes(
      "k8s:app=api of the source matches cnp:default/p0 spec.ingress[0].fromEndpoints[0]",
    ),
  );
  assert.ok(
    step.labelFacts.includes(
      "no label x of the source matches cnp:default/p0 spec.ingress[0].fromEndpoints[0]",
    ),
  );
  assert.equal(step.rule?.cookie, step.entry?.cookie);
  assert.deepEqual([step.subjectIdentity, step.remoteIdentity], [WEB, API]);
});

Deno.test("explainDirection() knows ends that are no endpoints", () => {
  const repository = repositoryWith(`{endpointSelector: {}, egress: [{toCIDR: [192.0.2.0/24]}]}`);
  const outside = repository.identity(repository.cidrIdentity("192.0.2.0/24")!.identity)!;
  const from = repository.identity(API)!;
  const query = { from, to: outside, protocol: 6, port: 443, toNamedPorts: [] };
  const out = explainDirection(repository, query, "EGRESS");
  assert.match(out.reason, /^Allowed by cnp:default\/p0 spec\.egress\[0\]\.toCIDR\[0\]/);
  assert.ok(
    out.labelFacts.includes(
      "192.0.2.0/24 of the destination lies in 192.0.2.0/24 of cnp:default/p0 spec.egress[0].toCIDR[0]",
    ),
  );
  const into = explainDirection(repository, query, "INGRESS");
  assert.equal(into.reason, "Allowed: the destination is 192.0.2.0/24, where no policy is enforced");
});
