import assert from "node:assert/strict";
import { LabelSet, Prefix } from "@weir/common";
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

Deno.test("explainDirection() says what decides and what would change it", () => {
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
  for (const [name, specs, allowed, reason, change] of cases) {
    const step = explain(repositoryWith(...specs));
    assert.equal(step.allowed, allowed, name);
    assert.match(step.reason, reason, name);
    assert.match(step.change, change, name);
  }
});

Deno.test("explainDirection() promises a change that comes true", () => {
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
  assert.match(explain(many).change, /^Add a rule to cnp:default\/p0 that allows /);
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

Deno.test("explainDirection() shows the rule that almost matched", () => {
  const port = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}], toPorts: [{ports: [{port: "8008"}]}]}]}`,
    ),
  );
  assert.equal(
    port.nearMiss,
    "cnp:default/p0 spec.ingress[0].fromEndpoints[0] (p.yaml:1) allows 8008/TCP; you asked for 80/TCP",
  );
  const peer = explain(
    repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: db}}]}]}`),
  );
  assert.match(peer.nearMiss, /means .*app=db.*; the source is k8s:app=api$/);
});

Deno.test("explainDirection() offers nobody a label that it cannot be given", () => {
  const team = explain(
    repositoryWith(
      `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.team": a}}]}]}`,
    ),
  );
  assert.match(team.change, /^(Give namespace default \(of the source\) label team=a: then|Add a rule)/);
  const world = explain(repositoryWith(`{${SELECT_WEB}, ingress: [{fromEntities: [world]}]}`));
  assert.match(world.nearMiss, /means reserved:world.*; the source is k8s:app=api$/);
  assert.match(world.change, /^Add a rule to cnp:default\/p0/);
});

Deno.test("explainDirection() tells nobody to take on another namespace", () => {
  const repository = repositoryWith(
    `{${SELECT_WEB}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}`,
  );
  const elsewhere = ["k8s:app=api", "k8s:io.kubernetes.pod.namespace=other", COMMON[1]];
  repository.upsertIdentity(1003, LabelSet.parse(elsewhere));
  const [from, to] = [repository.identity(1003)!, repository.identity(WEB)!];
  const step = explainDirection(repository, { from, to, protocol: 6, port: 80, toNamedPorts: [] }, "INGRESS");
  assert.match(
    step.change,
    /^Add a rule to cnp:default\/p0 that allows 80\/TCP from k8s:app=api, .*namespace=other$/,
  );
  assert.match(step.nearMiss, /the source is k8s:app=api,k8s:io\.kubernetes\.pod\.namespace=other$/);
  assert.match(step.manifest, /k8s:io\.kubernetes\.pod\.namespace: other/);
});

Deno.test("explainDirection() offers to narrow a policy that selects more than one identity", () => {
  const wide = explain(repositoryWith(`{endpointSelector: {}, ingress: [{}]}`));
  assert.match(
    wide.alternatives.join(),
    /^Narrow the selector of cnp:default\/p0 spec \(p\.yaml:1\), .* selects 3 identities$/,
  );
  assert.deepEqual(explain(repositoryWith(`{${SELECT_WEB}, ingress: [{}]}`)).alternatives, []);
  const deny = explain(
    repositoryWith(`{endpointSelector: {}, ingressDeny: [{fromEndpoints: [{}]}], ingress: [{}]}`),
  );
  assert.match(deny.alternatives.join(), /^Narrow the selector of cnp:default\/p0/);
});

Deno.test("explainDirection() gives a policy that allows what was asked, and nothing else", () => {
  for (const direction of ["INGRESS", "EGRESS"] as const) {
    const closed = "endpointSelector: {}, ingress: [{}], egress: [{}]";
    for (const protocol of [6, 17, 1]) {
      for (const remoteIs of ["pod", "world", "cidr"] as const) {
        const nobody = "endpointSelector: {matchLabels: {app: nobody}}";
        const repository = repositoryWith(`{${closed}}`, `{${nobody}, egress: [{toCIDR: [192.0.2.0/24]}]}`);
        const pod = repository.identity(WEB)!, other = repository.identity(API)!;
        const remote = {
          pod: other,
          world: repository.identity(9)!,
          cidr: repository.identity(repository.cidrIdentity("192.0.2.0/24")!.identity)!,
        }[remoteIs];
        const [from, to] = direction === "INGRESS" ? [remote, pod] : [pod, remote];
        const query = { from, to, protocol, port: 8, toNamedPorts: [] };
        const denied = explainDirection(repository, query, direction);
        const name = `${direction} ${protocol} ${remoteIs}`;
        assert.equal(denied.allowed, false, name);
        const { policies, faults } = readManifests(denied.manifest, { file: "fix.yaml" });
        assert.deepEqual(faults, [], name);
        repository.upsertPolicy(policies[0]);
        assert.equal(explainDirection(repository, query, direction).allowed, true, name);
        assert.equal(explainDirection(repository, { ...query, port: 9 }, direction).allowed, false, name);
        const third = { ...query, [direction === "INGRESS" ? "from" : "to"]: repository.identity(DB)! };
        assert.equal(explainDirection(repository, third, direction).allowed, false, name);
      }
    }
  }
});

Deno.test("explainDirection() says of a CIDR rule that covers a pod that it does not mean it", () => {
  const rules =
    "ingress: [{fromEntities: [all]}], ingressDeny: [{fromCIDR: [10.0.0.0/8]}, {fromCIDR: [192.0.2.0/24]}]";
  const repository = repositoryWith(`{${SELECT_WEB}, ${rules}}`);
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  const query = { from, to, protocol: 6, port: 80, toNamedPorts: [] };
  const at = (address: string) =>
    explainDirection(repository, query, "INGRESS", (number) => number === API ? [Prefix.parse(address)] : []);
  assert.equal(at("10.0.1.7/32").allowed, true);
  assert.deepEqual(at("10.0.1.7/32").notes, [
    "cnp:default/p0 spec.ingressDeny[0].fromCIDR[0] (p.yaml:1) covers the address of the source and does not deny it: " +
    "a CIDR rule never means pods and nodes, say fromEndpoints or fromEntities",
  ]);
  assert.deepEqual(at("10.0.1.7/32").notes, at("10.0.1.8/32").notes);
  assert.deepEqual(at("198.51.100.1/32").notes, []);
  assert.deepEqual(explain(repository).notes, [], "nobody knows its address");
});

Deno.test("explainDirection() names the label that the remote end is to get, where it can be given one", () => {
  const give = (from: string) =>
    explain(repositoryWith(`{${SELECT_WEB}, ingress: [{fromEndpoints: [${from}]}]}`)).giveLabel;
  assert.equal(give("{matchLabels: {app: db}}"), "app=db");
  assert.equal(give("{matchLabels: {tier: back}}"), "tier=back");
  assert.equal(give("{matchExpressions: [{key: tier, operator: Exists}]}"), "");
  assert.equal(give("{matchExpressions: [{key: tier, operator: In, values: [a, b]}]}"), "");
  assert.equal(give('{matchLabels: {"k8s:io.kubernetes.pod.namespace": prod}}'), "");
});
