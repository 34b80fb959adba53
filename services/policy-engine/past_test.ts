import assert from "node:assert/strict";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, Policy } from "@weir/proto/policy";
import { explainPast } from "./past.ts";

const labels = (app: string) => [
  `k8s:app=${app}`,
  "k8s:io.cilium.k8s.policy.cluster=default",
  "k8s:io.kubernetes.pod.namespace=shop",
];
const facts = {
  cluster: "default",
  identities: [
    Identity.create({ number: 300, labels: labels("cart") }),
    Identity.create({ number: 301, labels: labels("db") }),
  ],
  addresses: [
    IpcacheEntry.create({ prefix: "10.0.0.1/32", identity: 300, namespace: "shop", podName: "cart-1" }),
    IpcacheEntry.create({
      prefix: "10.0.0.2/32",
      identity: 301,
      namedPorts: [{ name: "sql", port: 5432, protocol: "TCP" }],
    }),
  ],
  policies: [Policy.create({
    name: "cnp:shop/db",
    namespace: "shop",
    file: "db.yaml",
    line: 7,
    manifest:
      "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: db, namespace: shop}, spec: {endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{matchLabels: {app: front}}]}]}}",
  })],
};
const TCP = 6;

Deno.test("explainPast() judges by the policies, labels and addresses that it is given, and by nothing else", () => {
  const ask = (request: Parameters<typeof ExplainRequest.create>[0], more: Partial<typeof facts> = {}) =>
    explainPast(ExplainRequest.create({ protocol: TCP, port: 5432, ...request }), { ...facts, ...more });
  const denied = ask({ fromIp: "10.0.0.1", toIp: "10.0.0.2" });
  assert.equal(denied.response.allowed, false);
  assert.match(denied.response.steps[1].reason, /^Denied by default: cnp:shop\/db selects the destination/);
  assert.deepEqual(denied.unread, []);
  const relabelled = {
    identities: [Identity.create({ number: 300, labels: labels("front") }), facts.identities[1]],
  };
  const allowed = ask({ fromIdentity: 300, toIdentity: 301 }, relabelled).response;
  assert.equal(allowed.allowed, true);
  assert.match(allowed.steps[1].reason, /db\.yaml:7/);
  assert.equal(ask({ fromIdentity: 300, toIdentity: 301 }, { policies: [] }).response.allowed, true);
  assert.equal(
    ask({ fromIp: "10.0.0.1", toIp: "10.0.0.2", port: 0, portName: "sql" }).response.allowed,
    false,
  );
  assert.equal(
    ask({ fromLabels: ["app=front", "k8s:io.kubernetes.pod.namespace=shop"], toIdentity: 301 }).response
      .allowed,
    true,
  );
  assert.throws(() => ask({ fromIdentity: 999, toIdentity: 301 }), { code: "INVALID_ARGUMENT" });
});

Deno.test("explainPast() says what it could not read", () => {
  const { unread, response } = explainPast(
    ExplainRequest.create({ protocol: TCP, port: 1, fromIdentity: 300, toIdentity: 301 }),
    {
      ...facts,
      identities: [...facts.identities, Identity.create({ number: 302, labels: ["=", ""] })],
      policies: [
        Policy.create({ name: "cnp:shop/old", manifest: "{" }),
        Policy.create({ ...facts.policies[0], name: "cnp:shop/x" }),
      ],
    },
  );
  assert.equal(response.allowed, true);
  assert.deepEqual(unread.map((text) => text.split(":")[0]), ["identity 302", "policy cnp", "policy cnp"]);
});
