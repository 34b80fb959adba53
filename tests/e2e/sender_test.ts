/**
 * Who may say who they are, in a lab: a machine outside and a process of a node speak VXLAN as a pod that a policy lets in, and
 * a pod asks for another node's NodePort. What each attempt was is told by `weir observe`.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { answers, ask, Asking, at, client, DENIED_S, type From, service, whoami } from "./service.ts";
import { canRun, type Flow, Lab } from "./weir.ts";

const lab = new Lab(`sender${Deno.pid}`);
const NODE_1 = "172.30.0.11", NODE_2 = "172.30.0.12";
const script = new URL("../datapath/testdata/vxlan_send.py", import.meta.url).pathname;
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("good", 2),
  client("bad", 2),
  whoami("web", 1, "app: web", ["8080/TCP", "8080/UDP"]),
  service(
    "web",
    `type: NodePort, selector: { app: web }, ports: [{ name: tcp, port: 80, targetPort: 8080, nodePort: 30080 }, ` +
      `{ name: udp, protocol: UDP, port: 80, targetPort: 8080, nodePort: 30080 }]`,
  ),
  `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: only-good, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress:
    - fromEndpoints: [{ matchLabels: { app: good } }]
`,
].join("---\n");
const pod = (name: string): From => ({ pod: `shop/${name}` });

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests);
    await answers(lab, pod("good"), NODE_1, 30080);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e("another node's NodePort: TCP and UDP reach the backend for who may, and for nobody else", async () => {
  for (const kind of ["tcp", "udp"] as const) {
    for (const node of [NODE_1, NODE_2]) {
      assert.deepEqual((await ask(lab, pod("good"), kind, node, 30080)).failed, [], `good, ${kind} ${node}`);
      const { failed } = await ask(lab, pod("bad"), kind, node, 30080, 1, DENIED_S);
      assert.notDeepEqual(failed, [], `bad, ${kind} ${node}`);
    }
  }
});

e2e("VXLAN from who is no node reaches nobody, and observe says who it was", async () => {
  const rows = async (node: string) =>
    JSON.parse(await lab.ok(["endpoint", "list", "--node", node, "-o", "json"])) as {
      name: string;
      ipv4: string;
      identity: { number: number } | number;
    }[];
  const find = async (node: string, name: string) => {
    const text = JSON.stringify((await rows(node)).find((row) => JSON.stringify(row).includes(name)));
    return { ipv4: /"(10\.\d+\.\d+\.\d+)"/.exec(text)![1], text };
  };
  const web = await find("node-1", "shop/web"), good = await find("node-2", "shop/good");
  const identity = (await lab.flow(
    "good asks web",
    (flow) => flow.source?.pod_name === "good" && (flow.source.identity ?? 0) >= 256,
    "--node",
    "node-1",
  )).source!.identity!;
  const forge = async (from: From, how: string, source: string, vni: number, inner: string) => {
    const args = [how, source, NODE_1, `${vni}`, inner, web.ipv4, "8080"];
    const ran = await at(lab, from, ["python3", script, ...args]);
    assert.equal(ran.code, 0, ran.err);
  };
  const dropped = (node: string, reason: string, more: (flow: Flow & Tunnelled) => boolean) =>
    lab.flow(
      reason,
      (flow) => flow.drop_reason_desc === reason && more(flow as Flow & Tunnelled),
      "--node",
      node,
    );
  await forge("outside", "udp", "-", identity, good.ipv4);
  const stranger = await dropped(
    "node-1",
    "TUNNEL_SENDER_UNKNOWN",
    (flow) => flow.IP?.destination === NODE_1,
  );
  assert.notEqual(stranger.IP!.source, NODE_2);
  await forge({ node: "node-2" }, "udp", "-", identity, good.ipv4);
  await dropped("node-2", "ENCAPSULATION_TRAFFIC_IS_PROHIBITED", (flow) => flow.IP?.source === NODE_2);
  await forge({ node: "node-1" }, "raw", NODE_2, identity, good.ipv4);
  await dropped("node-1", "TUNNEL_PACKET_LOCAL", (flow) => flow.tunnel?.IP?.source === NODE_2);
  // with node 2's address: who could tell? But what it says must fit
  await forge("outside", "raw", NODE_2, 6, good.ipv4);
  await dropped(
    "node-1",
    "INVALID_IDENTITY",
    (flow) => flow.tunnel?.IP?.source === NODE_2 && flow.tunnel.vni === 6,
  );
  await forge("outside", "raw", NODE_2, identity, "10.99.0.1");
  await dropped("node-1", "TUNNEL_SOURCE_ELSEWHERE", (flow) => flow.tunnel?.IP?.source === NODE_2);
  const text = await lab.ok(["observe", "--last", "200", "--node", "node-1", "--verdict", "DROPPED"]);
  assert.match(text, new RegExp(`VXLAN from ${NODE_2.replaceAll(".", "\\.")} VNI ${identity}`));
  // and nothing of it has harmed who is one
  assert.deepEqual((await ask(lab, pod("good"), "tcp", NODE_1, 30080)).failed, []);
});

e2e("pods whose identities change lose no packet between nodes", async () => {
  const address = (await endpoint("shop/web")).ipv4;
  await using asking = new Asking(lab, pod("good"), "connected-udp", address, 8080);
  await asking.heard("web");
  const before = await mismatches();
  // In the directory that they came up from: from another one pods begin anew.
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  for (const rev of [1, 2]) {
    const identities = () => Promise.all(["shop/web", "shop/good"].map(endpoint));
    const old = await identities();
    await Deno.writeTextFile(
      file,
      manifests.replace(/(namespace: shop, labels: \{ app: \w+)/g, `$1, rev: "${rev}"`),
    );
    await lab.ok(["lab", "apply", "-f", file]);
    await until("both are others", async () => {
      const now = await identities();
      return now.every(({ identity }, i) => identity !== old[i].identity);
    });
    const { asked } = await asking.seen();
    await until("it goes on", async () => (await asking.seen()).asked > asked + 20);
  }
  await Deno.remove(file);
  await asking.stop();
  assert.equal(await mismatches(), before);
});

/** An endpoint as its node has it. */
async function endpoint(name: string): Promise<{ identity: number; ipv4: string }> {
  const rows = JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"])) as {
    name: string;
    status: { identity: number; ipv4: string };
  }[];
  return rows.find((row) => row.name === name)!.status;
}

/** Packets that nodes dropped because the tunnel named another sender than they know. */
async function mismatches(): Promise<number> {
  const nodes = JSON.parse(await lab.ok(["bpf", "metrics", "list", "-o", "json"])) as {
    rows: { name: string; packets: string }[];
  }[];
  assert.equal(nodes.length, 2);
  const rows = nodes.flatMap(({ rows }) => rows).filter(({ name }) => name === "INVALID_IDENTITY");
  return rows.reduce((sum, { packets }) => sum + Number(packets), 0);
}

interface Tunnelled {
  tunnel?: { IP?: { source: string }; vni?: number };
}
