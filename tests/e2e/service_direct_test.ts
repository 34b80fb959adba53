/**
 * Services where pods are reached by plain routing, from outside at XDP too.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { answers, ask, at, client, type From, service, whoami } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`direct${Deno.pid}`);
const NODE_1 = "172.30.0.11", NODE_1_V6 = "fd00:30::b", OUTSIDE = "172.30.0.100";
const POD: From = { pod: "shop/client" };
const ports = ["8080/TCP"];
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("client", 1),
  whoami("web-1", 1, "app: web, only: web-1", ports),
  whoami("web-2", 2, "app: web, only: web-2", ports),
  service(
    "dual",
    `ipFamilyPolicy: RequireDualStack, clusterIPs: [10.96.0.2, "fd00:10:96::2"], type: NodePort, selector: { app: web }, ` +
      `ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]`,
  ),
  service(
    "remote",
    `type: NodePort, selector: { only: web-2 }, ports: [{ port: 80, targetPort: 8080, nodePort: 30081 }]`,
  ),
  service(
    "dsr",
    `type: NodePort, selector: { only: web-2 }, ports: [{ port: 80, targetPort: 8080, nodePort: 30083 }]`,
    "weir.io/forwarding-mode: dsr",
  ),
].join("---\n");

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests, ["--routing", "direct", "--agent", "xdp", "--agent", "masquerade"]);
    await answers(lab, POD, "10.96.0.2", 80);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e("direct routing: services answer pods, nodes and outside, in both families", async () => {
  const cases: [From, string, number][] = [
    [POD, "10.96.0.2", 80],
    [POD, "fd00:10:96::2", 80],
    [{ node: "node-2" }, "10.96.0.2", 80],
    ["outside", NODE_1, 30080],
    ["outside", NODE_1_V6, 30080],
  ];
  for (const [from, address, port] of cases) {
    const seen = await ask(lab, from, "tcp", address, port, 12);
    assert.deepEqual(seen.failed, [], `${JSON.stringify(from)} ${address} ${port}`);
    assert.deepEqual((await ask(lab, from, "bulk", address, port, 3)).failed, []);
  }
});

e2e("at XDP: SNAT shows the node to the backend, DSR the client", async () => {
  await until(
    "status says how XDP is used",
    async () => /XDP (native|generic)/.test(await lab.ok(["status", "--verbose"])),
  );
  // What a veth leaves unfinished goes on to tc; a network card finishes it.
  const finished = await at(lab, "outside", ["ethtool", "-K", "eth0", "tx", "off"]);
  assert.equal(finished.code, 0, finished.err);
  for (const [port, client] of [[30081, NODE_1], [30083, OUTSIDE]] as const) {
    const seen = await ask(lab, "outside", "tcp", NODE_1, port, 8);
    assert.deepEqual([seen.failed, Object.keys(seen.clients)], [[], [client]]);
    assert.deepEqual((await ask(lab, "outside", "bulk", NODE_1, port, 2)).failed, []);
  }
});
