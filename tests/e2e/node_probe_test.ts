/**
 * What a kubelet's probes need: a node reaches its own pods whatever policies say; another node's host does not, unless one
 * allows remote nodes. With real packets of both families.
 * @module
 */
import assert from "node:assert/strict";
import { at, DENIED_S } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`probe${Deno.pid}`);
const PATIENCE_S = 20;
const MANIFESTS = `apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec:
  nodeName: node-1
  containers: [{ name: web, command: [python3, -m, http.server, "8080", --bind, "::"] }]
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop, labels: { app: client } }
spec: { nodeName: node-1, containers: [{ name: client, command: [sleep, infinity] }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: deny-all, namespace: shop }
spec: { podSelector: {}, policyTypes: [Ingress] }
`;

if (canRun) {
  Deno.test.beforeAll(async () => await lab.up(2, MANIFESTS));
  Deno.test.afterAll(async () => await lab.down());
}

Deno.test({
  name: "a node probes its own pods whatever policies say, and other nodes are judged",
  ignore: !canRun,
  async fn() {
    await lab.inForce();
    const listed = JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"]));
    const { ipv4, ipv6 } = listed.find(({ name }: { name: string }) => name === "shop/web").status;
    const reaches = async (from: Parameters<typeof at>[1], seconds: number) => {
      const codes: number[] = [];
      for (const host of [ipv4, `[${ipv6}]`]) {
        const words = ["curl", "-sS", "-o", "/dev/null", "--max-time", `${seconds}`, `http://${host}:8080/`];
        codes.push((await at(lab, from, words)).code);
      }
      return codes.map((code) => code === 0);
    };
    const NODE_1 = { node: "node-1" }, NODE_2 = { node: "node-2" }, POD = { pod: "shop/client" };
    assert.deepEqual(await reaches(NODE_1, PATIENCE_S), [true, true], "its own node");
    assert.deepEqual(await reaches(NODE_2, DENIED_S), [false, false], "another node");
    assert.deepEqual(await reaches(POD, DENIED_S), [false, false], "a pod of its own node");
    await lab.apply(
      `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: nodes, namespace: shop }\n` +
        `spec: { endpointSelector: {}, ingress: [{ fromEntities: [remote-node] }] }\n`,
    );
    assert.deepEqual(await reaches(NODE_2, PATIENCE_S), [true, true], "another node that a policy allows");
    await lab.apply(
      `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: nodes, namespace: shop }\n` +
        `spec: { endpointSelector: {}, ingressDeny: [{ fromEntities: [all] }] }\n`,
    );
    assert.deepEqual(
      await reaches(NODE_1, PATIENCE_S),
      [true, true],
      "its own node, under a deny of everybody",
    );
    assert.deepEqual(
      await reaches(NODE_2, DENIED_S),
      [false, false],
      "another node, under a deny of everybody",
    );
  },
});
