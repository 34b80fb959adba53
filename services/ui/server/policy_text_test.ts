import assert from "node:assert/strict";
import { policyText } from "./policy_text.ts";

Deno.test("policyText() draws rules of both kinds of policy with their lines, peers and ports", () => {
  const cilium = policyText(`apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress:
    - fromEndpoints: [{ matchLabels: { app: cart } }]
      toPorts: [{ ports: [{ port: "80", protocol: TCP }, { port: "8000", endPort: 8010 }] }]
    - {}
  egressDeny:
    - toCIDRSet: [{ cidr: 10.0.0.0/8, except: [10.1.0.0/16] }]
    - toEntities: [world]
`);
  assert.equal(cilium.subject, "app=web");
  assert.deepEqual([cilium.defaultDenyIngress, cilium.defaultDenyEgress], [true, true]);
  assert.deepEqual(cilium.rules, [
    {
      direction: "ingress",
      deny: false,
      path: "spec.ingress[0]",
      line: 7,
      peers: ["app=cart"],
      ports: ["80/TCP", "8000-8010"],
    },
    {
      direction: "ingress",
      deny: false,
      path: "spec.ingress[1]",
      line: 9,
      peers: ["everyone"],
      ports: ["any port"],
    },
    {
      direction: "egress",
      deny: true,
      path: "spec.egressDeny[0]",
      line: 11,
      peers: ["10.0.0.0/8 except 10.1.0.0/16"],
      ports: ["any port"],
    },
    {
      direction: "egress",
      deny: true,
      path: "spec.egressDeny[1]",
      line: 12,
      peers: ["entity world"],
      ports: ["any port"],
    },
  ]);
  const kubernetes = policyText(`kind: NetworkPolicy
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: { matchLabels: { app: cart } }
          namespaceSelector: {}
        - ipBlock: { cidr: 10.0.0.0/8 }
      ports: [{ port: http, protocol: TCP }]
`);
  assert.deepEqual([kubernetes.subject, kubernetes.defaultDenyEgress], ["every endpoint", true]);
  assert.deepEqual(kubernetes.rules[0].peers, ["app=cart in every namespace", "10.0.0.0/8"]);
  for (const broken of ["", "[", "a: b", "spec: 3", "spec: { ingress: 7 }", "- 1\n- 2"]) {
    assert.deepEqual(policyText(broken).rules, [], broken);
  }
});

Deno.test("policyText() draws rules of tiers by their action, in both vocabularies", () => {
  const admin = policyText(`apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: { name: a }
spec:
  priority: 1
  subject: { namespaces: { matchLabels: { team: a } } }
  ingress:
    - { action: Deny, from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: x } } } }], ports: [{ portNumber: { protocol: UDP, port: 53 } }, { portRange: { start: 1, end: 9 } }, { namedPort: web }] }
`);
  assert.deepEqual([admin.subject, admin.defaultDenyIngress], ["every pod in team=a", false]);
  const [{ deny, peers, ports, line }] = admin.rules;
  assert.deepEqual([deny, peers, ports, line], [true, ["app=x in every namespace"], [
    "53/UDP",
    "1-9/TCP",
    "web",
  ], 8]);
  const { rules } = policyText(`kind: ClusterNetworkPolicy
spec:
  tier: Baseline
  subject: { namespaces: {} }
  egress:
    - { action: Pass, to: [{ networks: [10.0.0.0/8] }, { nodes: {} }], protocols: [{ tcp: { destinationPort: { number: 80 } } }] }
    - { action: Accept, to: [{ domainNames: [a.test] }] }
`);
  assert.deepEqual(rules.map(({ deny, peers, ports }) => [deny, peers, ports]), [
    [false, ["10.0.0.0/8: the next tier decides", "node every node: the next tier decides"], ["80/TCP"]],
    [false, ["a.test"], ["any port"]],
  ]);
});
