import assert from "node:assert/strict";
import { LabelSet } from "@weir/common";
import { ExplainRequest } from "@weir/proto/policy";
import { explainRequest } from "./explain_request.ts";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";

const DNS =
  `{toEndpoints: [{}], toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]}`;
const NAMES =
  `{toFQDNs: [{matchPattern: "*.example.com"}], toPorts: [{ports: [{port: "443", protocol: TCP}]}]}`;
const DENY = `egressDeny: [{toCIDR: [192.0.2.0/24]}]`;

function explain(spec: string, request: Partial<ExplainRequest>) {
  const repository = new PolicyRepository();
  const labels = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"];
  repository.upsertIdentity(1000, LabelSet.parse([...labels, "k8s:io.cilium.k8s.policy.cluster=default"]));
  const { policies, faults } = readManifests(
    `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: names}, spec: {endpointSelector: {}, ${spec}}}`,
  );
  assert.deepEqual(faults, []);
  repository.upsertPolicy(policies[0]);
  const { steps: [step] } = explainRequest(
    ExplainRequest.create({ fromIdentity: 1000, protocol: 6, port: 443, direction: "EGRESS", ...request }),
    { repository, cluster: "default", lookup: () => undefined, prefixesOf: () => [] },
  );
  return step;
}

Deno.test("explainRequest() answers about a name: the selector that means it, and what else the address opens", () => {
  const step = explain(`egress: [${NAMES}, ${DNS}]`, { toName: "WWW.example.com." });
  assert.equal(step.allowed, true);
  assert.match(step.reason, /^Allowed by cnp:default\/names spec\.egress\[0\]\.toFQDNs\[0\]/);
  assert.match(
    step.labelFacts.join(),
    /www\.example\.com of the destination is what \*\.example\.com of .* means/,
  );
  assert.match(step.notes.join(), /every other name with the same address/);
  assert.doesNotMatch(step.notes.join(), /no rule sends the DNS/);
  const unheard = explain(`egress: [${NAMES}]`, { toName: "www.example.com" });
  assert.match(unheard.notes.join(), /www\.example\.com selects no address: no rule sends the DNS/);
});

Deno.test("explainRequest() puts a name and its address together, where a deny of the address decides", () => {
  const spec = `egress: [${NAMES}, ${DNS}], ${DENY}`;
  const at = (toIp: string) => explain(spec, { toName: "www.example.com", toIp });
  assert.equal(at("198.51.100.1").allowed, true);
  const denied = at("192.0.2.1");
  assert.equal(denied.allowed, false);
  assert.match(denied.reason, /^Denied by cnp:default\/names spec\.egressDeny\[0\]\.toCIDR\[0\]/);
});

Deno.test("explainRequest() says of a name that nothing means how to allow it, and refuses what is no name", () => {
  const step = explain(`egress: [${NAMES}, ${DNS}]`, { toName: "a.b.example.com" });
  assert.equal(step.allowed, false);
  assert.match(step.change, /^Add a rule to cnp:default\/names that allows 443\/TCP to a\.b\.example\.com/);
  assert.match(step.manifest, /toFQDNs:\n\s+- matchName: a\.b\.example\.com/);
  const { policies, faults } = readManifests(step.manifest);
  assert.deepEqual([policies.length, faults], [1, []]);
  assert.throws(() => explain(`egress: [${NAMES}]`, { toName: "a b" }), /to_name: .* is no name/);
  assert.throws(
    () => explain(`egress: [${NAMES}]`, { toName: "a.b", toIdentity: 1000 }),
    /to_name is given with/,
  );
});
