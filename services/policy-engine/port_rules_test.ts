import assert from "node:assert/strict";
import { LabelSet, MapState } from "@weir/common";
import { compileRuleSet, unionOfRuleSets } from "@weir/l7-rules";
import type { RuleSet } from "@weir/proto/l7";
import { MapState as Message } from "@weir/proto/policy";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

const WEB = 1000, API = 1001, DB = 1002;
const TO_80 = 'ports: [{port: "80", protocol: TCP}]';

function repositoryWith(...specs: string[]): PolicyRepository {
  const repository = new PolicyRepository();
  for (const [number, app] of [[WEB, "web"], [API, "api"], [DB, "db"]] as const) {
    repository.upsertIdentity(
      number,
      LabelSet.parse([
        `k8s:app=${app}`,
        "k8s:io.kubernetes.pod.namespace=default",
        "k8s:io.cilium.k8s.policy.cluster=default",
      ]),
    );
  }
  for (const [index, spec] of specs.entries()) put(repository, index, spec);
  return repository;
}

function put(repository: PolicyRepository, index: number, spec: string): void {
  const text = `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p${index}},
 spec: {endpointSelector: {matchLabels: {app: web}}, ${spec}}}`;
  const { policies, faults } = readManifests(text, { file: "p.yaml" });
  assert.deepEqual(faults, []);
  repository.upsertPolicy(policies[0]);
}

/** How one GET is judged: "open" (no proxy), or the path of the rule that allows or denies it, "!" before a denial. */
function judged(repository: PolicyRepository, remote: number, path = "/a", port = 80): string {
  const state = MapState.of(repository.mapState(WEB)!), found = state.lookup(remote, "INGRESS", 6, port);
  if (!found.allowed) return "!connection";
  if (found.ruleSets.length === 0) return "open";
  const sets = found.ruleSets.map((id) => state.message.ruleSets.find((set) => set.id === id) as RuleSet);
  const judgement = compileRuleSet(unionOfRuleSets(sets, found.plainCookie))
    .judge({ kind: "HTTP", method: "GET", path, host: "web", header: () => undefined });
  const [source] = repository.cookies.get(judgement.cookie)?.sources ?? [];
  return `${
    judgement.allowed ? "" : "!"
  }${source?.policyName} ${source?.path} ${source?.file}:${source?.line}`;
}

const from = (app: string) => `fromEndpoints: [{matchLabels: {app: ${app}}}]`;
const http = (path: string) => `toPorts: [{${TO_80}, rules: {http: [{path: ${path}}]}}]`;

Deno.test("A request is judged by the rules of everybody who allows its connection, and each is named with its place", () => {
  const rule = "spec.ingress[0].toPorts[0].rules.http";
  const cases: [string, string[], [number, string, string][]][] = [
    ["one rule", [`ingress: [{${from("api")}, ${http("/a")}}]`], [
      [API, "/a", `p0 ${rule}[0] p.yaml:2`],
      [API, "/b", `!p0 ${rule} p.yaml:2`],
      [DB, "/a", "!connection"],
    ]],
    ["rules of two policies", [`ingress: [{${from("api")}, ${http("/a")}}]`, `ingress: [{${http("/b")}}]`], [
      [API, "/a", `p0 ${rule}[0] p.yaml:2`],
      [API, "/b", `p1 ${rule}[0] p.yaml:2`],
      [DB, "/a", `!p1 ${rule} p.yaml:2`],
    ]],
    ["rules for all, one peer without", [
      `ingress: [{${http("/a")}}, {${from("api")}, toPorts: [{${TO_80}}]}]`,
    ], [
      [API, "/b", "p0 spec.ingress[1].fromEndpoints[0] p.yaml:2"],
      [DB, "/b", `!p0 ${rule} p.yaml:2`],
    ]],
    ["rules for one, all without", [`ingress: [{${from("api")}, ${http("/a")}}, {toPorts: [{${TO_80}}]}]`], [
      [API, "/b", "p0 spec.ingress[1] p.yaml:2"],
      [DB, "/b", "open"],
    ]],
    ["rules for all, one peer every port", [`ingress: [{${http("/a")}}, {${from("api")}}]`], [
      [API, "/b", "p0 spec.ingress[1].fromEndpoints[0] p.yaml:2"],
      [DB, "/b", `!p0 ${rule} p.yaml:2`],
    ]],
    ["a deny beside", [`ingress: [{${http("/a")}}], ingressDeny: [{${from("api")}}]`], [
      [API, "/a", "!connection"],
      [DB, "/a", `p0 ${rule}[0] p.yaml:2`],
    ]],
    ["without default deny", [
      `enableDefaultDeny: {ingress: false}, ingress: [{${from("api")}, ${http("/a")}}]`,
    ], [
      [API, "/a", `p0 ${rule}[0] p.yaml:2`],
      [API, "/b", "p0 spec.ingress[0].fromEndpoints[0] p.yaml:2"],
      [DB, "/b", "open"],
    ]],
    ["a range around a plain port", [
      `ingress: [{toPorts: [{ports: [{port: "64", endPort: 127, protocol: TCP}], rules: {http: [{path: /a}]}}]}, {toPorts: [{${TO_80}}]}]`,
    ], [[API, "/b", "p0 spec.ingress[1] p.yaml:2"]]],
    ["an empty list", [`ingress: [{${from("api")}, toPorts: [{${TO_80}, rules: {http: []}}]}]`], [[
      API,
      "/b",
      "open",
    ]]],
  ];
  for (const [name, specs, wanted] of cases) {
    // The order of policies says nothing.
    for (const repository of [repositoryWith(...specs), repositoryWith(...specs.toReversed())]) {
      for (const [remote, path, expected] of wanted) {
        const found = judged(repository, remote, path);
        const swapped = expected.replace(/p[01] /, (name) => name === "p0 " ? "p1 " : "p0 ");
        const ok = found === expected || (specs.length === 2 && found === swapped);
        assert.ok(ok, `${name}: ${remote} ${path}: ${found}, want ${expected}`);
      }
    }
  }
});

Deno.test("Equal rule sets have one number, which a change of the policy around them does not move", () => {
  const spec = `ingress: [{${from("api")}, ${http("/a")}}, {${from("db")}, ${http("/a")}}]`;
  const repository = repositoryWith(spec);
  const numbers = () => repository.mapState(WEB)!.ruleSets.map(({ id }) => id);
  const [before] = numbers();
  assert.ok(before > 0);
  put(repository, 1, `ingress: [{${from("api")}, toPorts: [{ports: [{port: "443"}]}]}]`);
  assert.ok(numbers().includes(before));
  // Readers get them with the entries, as bytes too.
  const state = Message.decode(Message.encode(repository.mapState(WEB)!));
  for (const { ruleSet } of state.entries) {
    if (ruleSet !== 0) assert.ok(state.ruleSets.some(({ id }) => id === ruleSet));
  }
  repository.takeChanges();
  repository.sweepCookies();
  assert.equal(judged(repository, API), "p0 spec.ingress[0].toPorts[0].rules.http[0] p.yaml:2");
});

Deno.test("Rules of two protocols for one peer and port are put in force for nobody; for different peers they are fine", () => {
  const kafka = `toPorts: [{${TO_80}, rules: {kafka: [{role: produce}]}}]`;
  const repository = repositoryWith(
    `ingress: [{${from("api")}, ${http("/a")}}]`,
    `ingress: [{${from("db")}, ${kafka}}]`,
  );
  assert.equal(repository.mapState(WEB)!.error, "");
  put(repository, 2, `ingress: [{${from("api")}, ${kafka}}]`);
  const { error, entries, enforceIngress } = repository.mapState(WEB)!;
  assert.match(
    error,
    /^Cannot resolve policy of identity 1000: rules of several protocols for port 80\/TCP of identity 1001, want one: cnp:default\/p0 spec\.ingress\[0\]\.fromEndpoints\[0\] \(p\.yaml:2\) and cnp:default\/p2/,
  );
  assert.deepEqual([entries, enforceIngress], [[], true]);
  repository.removePolicy("cnp:default/p2");
  assert.equal(repository.mapState(WEB)!.error, "");
});
