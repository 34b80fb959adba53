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
