import assert from "node:assert/strict";
import { LabelSet, MapState, thinEntries } from "@weir/common";
import { sectionsOf } from "./check/placed_section.ts";
import { shadowedRules } from "./check/shadowed_rules.ts";
import { explainDirection } from "./explain.ts";
import { readManifests } from "./manifest.ts";
import type { Policy } from "./policy.ts";
import { PolicyRepository } from "./policy_repository.ts";

const NAMESPACE = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"];
const WEB = 1000, API = 1001;

function policiesOf(text: string): readonly Policy[] {
  const { policies, faults } = readManifests(text, { file: "t.yaml" });
  assert.deepEqual(faults, []);
  return policies;
}

const ADMIN = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: guard }
spec:
  tier: Admin
  priority: 7
  subject: { namespaces: {} }
  ingress:
    - name: web-decides
      action: Pass
      from: [{ namespaces: {} }]
      protocols: [{ tcp: { destinationPort: { number: 80 } } }]
    - name: nothing-else
      action: Deny
      from: [{ namespaces: {} }]
`;
const BASELINE = `apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: { name: default }
spec: { subject: { namespaces: {} }, ingress: [{ action: Deny, from: [{ namespaces: {} }] }] }
`;
const ORDINARY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: api } } }] }] }
`;

function repositoryOf(...texts: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  for (const [number, app] of [[WEB, "web"], [API, "api"]] as const) {
    repository.upsertIdentity(number, LabelSet.parse([`k8s:app=${app}`, ...NAMESPACE]));
  }
  for (const text of texts) for (const policy of policiesOf(text)) repository.upsertPolicy(policy);
  return repository;
}

function explain(repository: PolicyRepository, port: number) {
  const [from, to] = [repository.identity(API)!, repository.identity(WEB)!];
  return explainDirection(repository, { from, to, protocol: 6, port, toNamedPorts: [] }, "INGRESS");
}

Deno.test("explainDirection() names tier, priority, rule and line, and what was passed on", () => {
  const denied = explain(repositoryOf(ADMIN), 443);
  assert.equal(
    denied.reason,
    'Denied by clnp:guard spec.ingress[1].from[0].namespaces (t.yaml:15), rule "nothing-else", Admin tier, priority 7',
  );
  assert.equal(denied.change, "Remove clnp:guard spec.ingress[1].from[0].namespaces (t.yaml:15)");
  const passed =
    'clnp:guard spec.ingress[0].from[0].namespaces (t.yaml:11), rule "web-decides", Admin tier, ' +
    "priority 7 passes 80/TCP from the source on to the next tier";
  const baseline = explain(repositoryOf(ADMIN, BASELINE), 80);
  assert.match(baseline.reason, /^Denied by banp:default .*, Baseline tier, priority 0$/);
  assert.deepEqual(baseline.notes, [passed]);
  const ordinary = explain(repositoryOf(ADMIN, BASELINE, ORDINARY), 80);
  assert.match(ordinary.reason, /^Allowed by knp:shop\/web spec.ingress\[0\].from\[0\] \(t.yaml:4\)$/);
  const open = explain(repositoryOf(ADMIN), 80);
  assert.equal(open.allowed, true);
  assert.match(open.reason, /^Allowed: no rule of clnp:guard decides about 80\/TCP from the source/);
  assert.match(open.change, /^Apply a policy/);
});

Deno.test("readManifests() refuses what policies of tiers cannot say, each fault with its place", () => {
  const spec = (kind: string, text: string, name = "a") =>
    readManifests(
      `apiVersion: policy.networking.k8s.io/${kind === "ClusterNetworkPolicy" ? "v1alpha2" : "v1alpha1"}
kind: ${kind}
metadata: { name: ${name} }
spec: ${text}
`,
    ).faults.map(({ path, line, detail }) => `${line} ${path}: ${detail}`);
  const clnp = "ClusterNetworkPolicy", anp = "AdminNetworkPolicy";
  const rule = (text: string) =>
    `{ tier: Admin, priority: 1, subject: { namespaces: {} }, egress: [${text}] }`;
  const cases: [string[], RegExp][] = [
    [
      spec(clnp, "{ tier: Middle, priority: 1001, subject: {} }"),
      /spec.tier: "Middle", want Admin or Baseline/,
    ],
    [
      spec(clnp, "{ tier: Middle, priority: 1001, subject: {} }"),
      /spec.priority: .*want a whole number from 0 to 1000/,
    ],
    [
      spec(clnp, "{ tier: Middle, priority: 1001, subject: {} }"),
      /spec.subject: nothing, want exactly one of/,
    ],
    [spec(anp, "{ tier: Admin, priority: 1, subject: { namespaces: {} } }"), /unknown field "tier"/],
    [
      spec("BaselineAdminNetworkPolicy", "{ subject: { namespaces: {} } }"),
      /^3 metadata.name: "a", want default/,
    ],
    [
      spec(clnp, rule("{ action: Allow, to: [{ namespaces: {} }] }")),
      /action: "Allow", want Accept, Deny or Pass/,
    ],
    [spec(clnp, rule("{ action: Deny, to: [] }")), /to: an empty list, want at least one peer/],
    [
      spec(clnp, rule("{ action: Deny, to: [{ namespaces: {}, nodes: {} }] }")),
      /namespaces and nodes, want exactly/,
    ],
    [
      spec(clnp, rule("{ action: Deny, to: [{ domainNames: [a.example.com] }] }")),
      /only possible in a rule that allows/,
    ],
    [
      spec(clnp, rule("{ action: Accept, to: [{ domainNames: [example] }] }")),
      /domainNames\[0\]: "example" is no domain/,
    ],
    [
      spec(clnp, rule("{ action: Deny, to: [{ nodes: { matchLabels: { a: b } } }] }")),
      /nodes by label is not supported/,
    ],
    [spec(clnp, rule("{ action: Deny, to: [{ networks: [10.0.0.0] }] }")), /networks\[0\]: .*want a prefix/],
    [
      spec(
        clnp,
        rule(
          "{ action: Deny, to: [{ networks: [10.0.0.0/8] }], protocols: [{ destinationNamedPort: web }] }",
        ),
      ),
      /protocols: a named port cannot stand beside/,
    ],
    [
      spec(
        clnp,
        rule(
          "{ action: Deny, to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { range: { start: 9, end: 9 } } } }] }",
        ),
      ),
      /range.end: 9, want more than start 9/,
    ],
  ];
  for (const [faults, wanted] of cases) assert.match(faults.join("\n"), new RegExp(wanted.source, "m"));
});

Deno.test("PolicyRepository keeps a rule of a tier once, and resolves what a change touches", () => {
  const repository = repositoryOf(ADMIN, BASELINE);
  for (let number = 2000; number < 2200; number++) {
    repository.upsertIdentity(number, LabelSet.parse([`k8s:app=x${number}`, ...NAMESPACE]));
  }
  const groups = repository.groupCount;
  let before = repository.work.identitiesResolved;
  repository.upsertIdentity(3000, LabelSet.parse(["k8s:app=new", ...NAMESPACE]));
  assert.ok(repository.work.identitiesResolved - before < 5, "one identity more is one resolved");
  before = repository.work.identitiesResolved;
  repository.upsertPolicy(policiesOf(ORDINARY)[0]);
  assert.equal(repository.groupCount, groups + 1);
  // The Baseline rule is not asked for this subject: what the Admin tier says is its alone.
  const { entries } = repository.mapState(WEB)!;
  assert.equal(thinEntries(entries).length, entries.length);
  const web = MapState.of(repository.mapState(WEB)!), other = MapState.of(repository.mapState(2000)!);
  const asks = (state: MapState, remote: number, port: number) =>
    state.lookup(remote, "INGRESS", 6, port).allowed;
  assert.deepEqual([asks(web, API, 80), asks(web, 2000, 80), asks(web, API, 81)], [true, false, false]);
  assert.deepEqual([asks(other, API, 80), asks(other, API, 81)], [false, false]);
  repository.removePolicy("banp:default");
  const open = MapState.of(repository.mapState(2000)!);
  assert.deepEqual([asks(open, API, 80), asks(open, API, 81)], [true, false]);
  repository.removePolicy("knp:shop/web");
  assert.equal(repository.groupCount, groups);
});

Deno.test("shadowedRules() knows which rule of a tier is asked first, and that a pass may lead past another tier", () => {
  const guard = ADMIN.replace("action: Deny", "action: Accept") + `    - name: late
      action: Deny
      from: [{ namespaces: { matchLabels: { team: a } } }]
    - name: never
      action: Accept
      from: [{ namespaces: { matchLabels: { team: a } } }]
`;
  const policies = [guard, BASELINE, ORDINARY].flatMap((text) => policiesOf(text));
  const { findings } = shadowedRules(sectionsOf(policies));
  // Neither does Baseline deny what Admin accepts, nor Admin what NetworkPolicy allows.
  assert.deepEqual(findings.map(({ id, path }) => `${id} ${path}`), ["denied-allow spec.ingress[3]"]);
});
