/**
 * What a lab does with manifests as Kubernetes would: names of services before names of pods, pods with `hostNetwork` as
 * backends of services and to policy, and port names where pods of one identity differ; manifests come from pipes.
 * @module
 */
import assert from "node:assert/strict";
import { answers, ask, at, client, DENIED_S, type From, service, whoami } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`names${Deno.pid}`);
const NODE_1 = "172.30.0.11", NODE_2 = "172.30.0.12";
const POD: From = { pod: "shop/client" };
const host = (name: string, node: number) =>
  whoami(name, node, "app: host", ["7080/TCP", "7080/UDP"], "ports: [{ name: web, containerPort: 7080 }]")
    .replace("nodeName:", "hostNetwork: true\n  nodeName:");

const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("client", 1),
  whoami("api", 2, "app: other", ["8080/TCP"]),
  whoami("backend", 2, "app: backend", ["8080/TCP"]),
  service("api", "clusterIP: 10.96.0.31, selector: { app: backend }, ports: [{ port: 8080 }]"),
  host("host-1", 1),
  host("host-2", 2),
  service(
    "hosts",
    "type: NodePort, clusterIP: 10.96.0.32, selector: { app: host }, ports: [{ name: t, port: 80, targetPort: web, nodePort: 30170 }, " +
      "{ name: u, port: 80, protocol: UDP, targetPort: 7080, nodePort: 30170 }]",
  ),
  whoami("old", 2, "app: server", ["8080/TCP", "9090/TCP"], "ports: [{ name: web, containerPort: 8080 }]"),
  whoami("new", 2, "app: server", ["8080/TCP", "9090/TCP"], "ports: [{ name: web, containerPort: 9090 }]"),
].join("---\n");

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests, ["--agent", "masquerade"]);
    await answers(lab, POD, "10.96.0.31", 8080);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e("a name is the service's where a pod has the same one, in the service's own namespace", async () => {
  const address = async (name: string) =>
    (await at(lab, POD, ["getent", "ahostsv4", name])).out.split(/\s/)[0];
  for (const name of ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local"]) {
    assert.equal(await address(name), "10.96.0.31", name);
  }
  assert.match(await address("backend"), /^10\.0\./, "a pod's name that is no service's");
  assert.deepEqual(Object.keys((await ask(lab, POD, "tcp", "api", 8080, 3)).by), ["backend"]);
});

e2e("pods with hostNetwork have their node's addresses, and serve as backends from everywhere", async () => {
  const { out } = await at(lab, { pod: "shop/host-2" }, ["ip", "-4", "-o", "address", "show", "eth0"]);
  assert.match(out, new RegExp(NODE_2));
  for (
    const [from, address, port] of [[POD, "10.96.0.32", 80], [{ node: "node-2" }, "10.96.0.32", 80], [
      "outside",
      NODE_1,
      30170,
    ]] as const
  ) {
    // UDP from pods is left out: a server that binds to every address of its node answers from one of its choice.
    for (const how of from === "outside" ? ["tcp", "udp"] as const : ["tcp"] as const) {
      const seen = await ask(lab, from, how, address, port, 24);
      assert.deepEqual(seen.failed, [], `${how} ${address}`);
      assert.deepEqual(Object.keys(seen.by).sort(), ["host-1", "host-2"], `${how} ${address}`);
    }
  }
});

e2e("policy takes a pod with hostNetwork for its node", async () => {
  const only = (entity: string) =>
    `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: out, namespace: shop }\n` +
    `spec: { endpointSelector: { matchLabels: { app: client } }, egress: [{ toEntities: [${entity}] }] }\n`;
  try {
    for (const [entity, open] of [["host", [true, false]], ["remote-node", [false, true]]] as const) {
      await lab.apply(only(entity));
      for (const [index, node] of [NODE_1, NODE_2].entries()) {
        const { failed } = await ask(lab, POD, "tcp", node, 7080, 1, open[index] ? undefined : DENIED_S);
        assert.equal(failed.length === 0, open[index], `${entity}: ${node}`);
      }
    }
  } finally {
    await lab.drop("cnp:shop/out");
  }
});

e2e("a port name on egress opens each pod's own number, applied from a pipe", async () => {
  const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web-out, namespace: shop }
spec:
  podSelector: { matchLabels: { app: client } }
  policyTypes: [Egress]
  egress: [{ to: [{ podSelector: { matchLabels: { app: server } } }], ports: [{ port: web }] }]
`;
  const weir = new URL("../../scripts/weir", import.meta.url).pathname;
  const piped = (verb: string) =>
    new Deno.Command("bash", {
      args: ["-c", `"$0" lab ${verb} --lab "$1" -f <(printf '%s' "$2")`, weir, lab.name, policy],
      stdin: "null",
    }).output();
  const ran = await piped("apply");
  assert.equal(ran.code, 0, new TextDecoder().decode(ran.stderr));
  await lab.inForce();
  try {
    const pods = JSON.parse(await lab.ok(["lab", "status", "-o", "json"])).pods;
    const address = (name: string) => pods.find((pod: { name: string }) => pod.name === name).ipv4;
    for (const [name, open] of [["old", 8080], ["new", 9090]] as const) {
      for (const port of [8080, 9090]) {
        const { failed } = await ask(
          lab,
          POD,
          "tcp",
          address(name),
          port,
          1,
          port === open ? undefined : DENIED_S,
        );
        assert.equal(failed.length === 0, port === open, `${name} ${port}`);
      }
    }
  } finally {
    assert.equal((await piped("delete")).code, 0);
  }
});
