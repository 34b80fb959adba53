/**
 * Services without kube-proxy: every type from a pod, from a node, from outside, and what happens when backends change.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import {
  answers,
  ask,
  Asking,
  at,
  client,
  DENIED_S,
  type From,
  program,
  service,
  whoami,
} from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`svc${Deno.pid}`);
const NODE_1 = "172.30.0.11", NODE_2 = "172.30.0.12", OUTSIDE = "172.30.0.100";
const NODE_1_V6 = "fd00:30::b", OUTSIDE_V6 = "fd00:30::100";
const POD: From = { pod: "shop/client" };
const ports = ["8080/TCP", "8053/UDP"];
const web = (selector: string, more = "") =>
  `selector: { ${selector} }, ports: [{ name: http, port: 80, targetPort: 8080 }]${more && `, ${more}`}`;

const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("client", 1),
  whoami("web-1", 1, "app: web, only: web-1", ports, "ports: [{ name: web, containerPort: 8080 }]"),
  whoami("web-2", 2, "app: web, only: web-2", ports, "ports: [{ name: web, containerPort: 8080 }]"),
  whoami(
    "web-3",
    2,
    "app: web, only: web-3",
    ports,
    "ports: [{ name: web, containerPort: 8080, hostPort: 9090 }]",
  ),
  service("all", `clusterIP: 10.96.0.1, ${web("app: web")}`),
  service(
    "dual",
    `ipFamilyPolicy: RequireDualStack, clusterIPs: [10.96.0.2, "fd00:10:96::2"], type: NodePort, selector: { app: web }, ` +
      `ports: [{ name: http, port: 80, targetPort: web, nodePort: 30080 }, { name: dns, protocol: UDP, port: 53, targetPort: 8053, nodePort: 30053 }]`,
  ),
  service(
    "remote",
    `type: NodePort, selector: { only: web-2 }, ports: [{ port: 80, targetPort: 8080, nodePort: 30081 }]`,
  ),
  service(
    "local",
    `type: NodePort, externalTrafficPolicy: Local, selector: { only: web-2 }, ports: [{ port: 80, targetPort: 8080, nodePort: 30082 }]`,
  ),
  service(
    "direct",
    `type: NodePort, selector: { only: web-2 }, ports: [{ port: 80, targetPort: 8080, nodePort: 30083 }]`,
    "service.cilium.io/forwarding-mode: dsr",
  ),
  service("sticky", `clusterIP: 10.96.0.5, ${web("app: web", "sessionAffinity: ClientIP")}`),
  service("mine", `clusterIP: 10.96.0.6, ${web("only: web-1")}`),
  service("nobody", `clusterIP: 10.96.0.7, ${web("app: nobody")}`),
  service("outer", `clusterIP: 10.96.0.8, externalIPs: [198.18.0.8], ${web("app: web")}`),
  service(
    "guarded",
    `type: LoadBalancer, clusterIP: 10.96.0.9, loadBalancerSourceRanges: [203.0.113.0/24], ` +
      `selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080, nodePort: 30084 }]`,
  ),
  service("open", `type: LoadBalancer, clusterIP: 10.96.0.10, ${web("app: web")}`),
  service("inner", `clusterIP: 10.96.0.11, internalTrafficPolicy: Local, ${web("app: web")}`),
  service("headless", `clusterIP: None, ${web("app: web")}`),
  `apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: { name: pool }\nspec: { blocks: [{ cidr: 198.18.1.0/28 }] }\n`,
].join("---\n");

/** Addresses and ports of the virtual kind reach the lab's nodes from outside by these routes. */
async function routeOutside(): Promise<void> {
  for (const prefix of ["198.18.0.0/24", "198.18.1.0/28"]) {
    const ran = await at(lab, "outside", ["ip", "route", "replace", prefix, "via", NODE_1]);
    assert.equal(ran.code, 0, ran.err);
  }
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, manifests, ["--agent", "masquerade"]);
    await routeOutside();
    await answers(lab, POD, "10.96.0.1", 80);
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });
const names = (answers: { by: Record<string, number> }) => Object.keys(answers.by).sort();
const EVERYBODY = ["web-1", "web-2", "web-3"];

e2e("a ClusterIP spreads a pod's connections over every backend, on its node and on the other", async () => {
  const seen = await ask(lab, POD, "tcp", "10.96.0.1", 80, 60);
  assert.deepEqual(seen.failed, []);
  assert.deepEqual(names(seen), EVERYBODY);
});

e2e(
  "every service type answers a pod, a node and an outside host, by IPv4 and IPv6, TCP and UDP",
  async () => {
    const node: From = { node: "node-1" };
    const cases: [From, "tcp" | "udp", string, number][] = [
      [POD, "tcp", "10.96.0.2", 80],
      [POD, "tcp", "fd00:10:96::2", 80],
      [POD, "udp", "10.96.0.2", 53],
      [POD, "udp", "fd00:10:96::2", 53],
      [POD, "tcp", NODE_1, 30080],
      [POD, "tcp", "198.18.0.8", 80],
      [node, "tcp", "10.96.0.2", 80],
      [node, "tcp", "fd00:10:96::2", 80],
      [node, "udp", "10.96.0.2", 53],
      [node, "udp", "fd00:10:96::2", 53],
      [node, "tcp", "127.0.0.1", 30080],
      [node, "tcp", NODE_1, 30080],
      [node, "tcp", NODE_2, 30080],
      [node, "tcp", "198.18.0.8", 80],
      ["outside", "tcp", NODE_1, 30080],
      ["outside", "tcp", NODE_2, 30080],
      ["outside", "tcp", NODE_1_V6, 30080],
      ["outside", "udp", NODE_1, 30053],
      ["outside", "udp", NODE_1_V6, 30053],
      ["outside", "tcp", "198.18.0.8", 80],
      ["outside", "tcp", NODE_2, 9090],
    ];
    const wrong: string[] = [];
    for (const [from, how, address, port] of cases) {
      const seen = await ask(lab, from, how, address, port, 12);
      if (seen.failed.length > 0 || seen.asked !== 12) {
        wrong.push(`${JSON.stringify(from)} ${how} ${address} ${port}: ${seen.failed.slice(0, 2)}`);
      }
    }
    assert.deepEqual(wrong, []);
  },
);

e2e("megabytes pass a service both ways unharmed, with the devices' offloads on", async () => {
  const cases: [From, string, number][] = [
    [POD, "10.96.0.6", 80],
    [POD, "fd00:10:96::2", 80],
    [{ node: "node-1" }, "10.96.0.1", 80],
    ["outside", NODE_1, 30081],
    ["outside", NODE_1, 30083],
    ["outside", NODE_1_V6, 30080],
  ];
  for (const [from, address, port] of cases) {
    const seen = await ask(lab, from, "bulk", address, port, 3);
    assert.deepEqual(seen.failed, [], `${JSON.stringify(from)} ${address} ${port}`);
  }
});

e2e("a LoadBalancer service has an address of the pool, shown by weir service list", async () => {
  const services = JSON.parse(await lab.ok(["service", "list", "-n", "shop", "-o", "json"])) as {
    serviceName: string;
    externalIps?: string[];
    ignored?: string;
  }[];
  const open = services.find((s) => s.serviceName === "open");
  assert.match(open?.externalIps?.[0] ?? "", /^198\.18\.1\./);
  const seen = await ask(lab, "outside", "tcp", open!.externalIps![0], 80, 12);
  assert.deepEqual(seen.failed, []);
  assert.match(services.find((s) => s.serviceName === "headless")?.ignored ?? "", /headless/i);
});

e2e("loadBalancerSourceRanges keeps others out, and the drop says so", async () => {
  const services = JSON.parse(await lab.ok(["service", "list", "-n", "shop", "-o", "json"]));
  const guarded = services.find((s: { serviceName: string }) => s.serviceName === "guarded");
  const seen = await ask(lab, "outside", "tcp", guarded.externalIps[0], 80, 1, DENIED_S);
  assert.equal(seen.failed.length, 1);
  const inside = await ask(lab, POD, "tcp", "10.96.0.9", 80, 3);
  assert.deepEqual(inside.failed, []);
  // The ranges are the load balancer's, which comes to the node port with an address of its own.
  assert.deepEqual((await ask(lab, "outside", "tcp", NODE_1, 30084, 3)).failed, []);
  const flow = await lab.flow("the refused client", (f) => f.IP?.source === OUTSIDE, "--verdict", "DROPPED");
  assert.match(flow.drop_reason_desc ?? "", /SRC_RANGE/);
});

e2e(
  "a backend on another node sees the node that let the client in, or with DSR and Local the client itself",
  async () => {
    const snat = await ask(lab, "outside", "tcp", NODE_1, 30081, 5);
    assert.deepEqual(snat.failed, []);
    assert.deepEqual(Object.keys(snat.clients), [NODE_1]);
    const dsr = await ask(lab, "outside", "tcp", NODE_1, 30083, 5);
    assert.deepEqual(dsr.failed, []);
    assert.deepEqual(Object.keys(dsr.clients), [OUTSIDE]);
    const local = await ask(lab, "outside", "tcp", NODE_2, 30082, 5);
    assert.deepEqual(local.failed, []);
    assert.deepEqual(Object.keys(local.clients), [OUTSIDE]);
    const elsewhere = await ask(lab, "outside", "tcp", NODE_1, 30082, 1, DENIED_S);
    assert.equal(
      elsewhere.failed.length,
      1,
      "externalTrafficPolicy Local serves on nodes with a backend only",
    );
  },
);

e2e("internalTrafficPolicy Local stays on the node", async () => {
  const seen = await ask(lab, POD, "tcp", "10.96.0.11", 80, 20);
  assert.deepEqual(seen.failed, []);
  assert.deepEqual(names(seen), ["web-1"]);
});

e2e("session affinity keeps a client on one backend", async () => {
  const seen = await ask(lab, POD, "tcp", "10.96.0.5", 80, 30);
  assert.deepEqual(seen.failed, []);
  assert.equal(names(seen).length, 1);
});

e2e("a pod reaches itself through its own service", async () => {
  const seen = await ask(lab, { pod: "shop/web-1" }, "tcp", "10.96.0.6", 80, 5);
  assert.deepEqual(seen.failed, []);
  assert.deepEqual(names(seen), ["web-1"]);
});

e2e("a service without backends refuses at once, from a pod and from a node", async () => {
  for (const from of [POD, { node: "node-1" }] as From[]) {
    for (const how of ["tcp", "udp"] as const) {
      const seen = await ask(lab, from, how, "10.96.0.7", 80, 1);
      // Of a datagram no second one is sent.
      assert.match(`${seen.failed}`, how === "tcp" ? /refused, 0 sent again/i : /refused/i, how);
    }
    // What was refused names the service, and who asked for it.
    const source = from === POD ? "client" : "";
    for (const kind of ["TCP", "UDP"] as const) {
      const flow = await lab.flow(
        `the refused ${kind}`,
        (f) =>
          f.destination_service?.name === "nobody" && (f.source?.pod_name ?? "") === source && !!f.l4?.[kind],
        "--verdict",
        "DROPPED",
      );
      assert.deepEqual([flow.is_reply, flow.traffic_direction], [false, "EGRESS"]);
    }
  }
  const { out } = await lab.weir([
    "observe",
    "--verdict",
    "DROPPED",
    "--to-service",
    "shop/nobody",
    "--last",
    "20",
  ]);
  assert.match(out, /shop\/client:\d+ \(ID:\d+\) -> shop\/nobody:80 \(service\) Service backend not found/);
});

e2e("a process on the node sees the service as its peer", async () => {
  const seen = await ask(lab, { node: "node-1" }, "peer", "10.96.0.1", 80, 1);
  assert.equal(seen.by.peer as unknown, "10.96.0.1 80");
});

e2e("policy is asked about the backend, and the flow names the service", async () => {
  await lab.apply(
    `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: only-2, namespace: shop }\n` +
      `spec: { endpointSelector: { matchLabels: { only: web-1 } }, ingress: [{ fromEndpoints: [{ matchLabels: { app: friend } }] }] }\n`,
  );
  try {
    const seen = await ask(lab, POD, "tcp", "10.96.0.6", 80, 1, DENIED_S);
    assert.equal(seen.failed.length, 1);
    const flow = await lab.flow(
      "the denial",
      (f) => f.destination?.pod_name === "web-1" && f.source?.pod_name === "client",
      "--verdict",
      "DROPPED",
    );
    assert.equal(flow.destination_service?.name, "mine");
  } finally {
    await lab.drop("cnp:shop/only-2");
  }
  assert.deepEqual((await ask(lab, POD, "tcp", "10.96.0.1", 80, 3)).failed, []);
  const named = await lab.flow(
    "an allowed connection with its service",
    (f) => f.destination_service?.name === "all",
    "--to-service",
    "shop/all",
  );
  assert.equal(named.source?.pod_name, "client");
});

/** Something outside of the cluster that says whom it sees. */
async function answersOutside(port: number): Promise<AsyncDisposable> {
  const words = ["python3", program("whoami.py"), "outside", `${port}/TCP`];
  const { code, out, err } = await at(lab, "outside", [
    "sh",
    "-c",
    '"$@" >/dev/null 2>&1 & echo $!',
    "sh",
    ...words,
  ]);
  assert.equal(code, 0, err);
  await answers(lab, "outside", "127.0.0.1", port);
  return { [Symbol.asyncDispose]: () => Promise.resolve(Deno.kill(Number(out), "SIGKILL")) };
}

e2e("pods that leave the cluster wear their node's address, and keep it among themselves", async () => {
  await using _outside = await answersOutside(7777);
  const seen = await ask(lab, POD, "tcp", "198.51.100.10", 7777, 1);
  assert.deepEqual(seen.failed, []);
  assert.deepEqual(Object.keys(seen.clients), [NODE_1]);
  const nat = await lab.ok(["bpf", "nat", "list", "--node", "node-1"]);
  assert.match(nat, /7777/);
  const inside = await ask(lab, POD, "tcp", "10.96.0.1", 80, 6);
  assert.ok(!Object.keys(inside.clients).includes(NODE_1));
});

e2e("rolling replacement of all backends under load fails no connection", async () => {
  await lab.ok(
    ["service", "apply", "-f", "-"],
    service("rolling", `clusterIP: 10.96.0.20, ${web("app: rolling")}`),
  );
  const put = (name: string, node: number) => lab.put(whoami(name, node, "app: rolling", ports));
  await put("old-1", 1);
  await put("old-2", 2);
  await until(
    "both backends answer",
    async () => names(await ask(lab, POD, "tcp", "10.96.0.20", 80, 20, DENIED_S)).length === 2,
  );
  await using loads = new AsyncDisposableStack();
  const asking = [POD, { node: "node-2" }].map((from) =>
    loads.use(new Asking(lab, from, "tcp", "10.96.0.20", 80))
  );
  const heard = (...names: string[]) => Promise.all(asking.map((each) => each.heard(...names)));
  await heard("old-1", "old-2");
  for (const n of [1, 2]) {
    await put(`new-${n}`, n);
    await lab.ok(["lab", "delete", `pod/shop/old-${n}`]);
  }
  await heard("new-1", "new-2");
  for (const seen of await Promise.all(asking.map((each) => each.stop()))) {
    assert.deepEqual(seen.failed, []);
    assert.ok(seen.asked > 50, `${seen.asked} connections`);
  }
  const after = await ask(lab, POD, "tcp", "10.96.0.20", 80, 30);
  assert.deepEqual(names(after), ["new-1", "new-2"]);
});

e2e("a UDP client moves on when its backend dies", async () => {
  const udp = (name: string) => whoami(name, 2, "app: dns", ["8053/UDP"]);
  await lab.put([udp("dns-1"), udp("dns-2")].join("---\n"));
  await lab.ok(
    ["service", "apply", "-f", "-"],
    service(
      "dns",
      `clusterIP: 10.96.0.21, selector: { app: dns }, ports: [{ protocol: UDP, port: 53, targetPort: 8053 }]`,
    ),
  );
  await until(
    "both answer",
    async () => names(await ask(lab, POD, "udp", "10.96.0.21", 53, 12, DENIED_S)).length === 2,
  );
  await using clients = new AsyncDisposableStack();
  const asking = [POD, { node: "node-1" }].map((from) =>
    clients.use(new Asking(lab, from, "connected-udp", "10.96.0.21", 53))
  );
  for (const each of asking) await until("it is answered", async () => (await each.seen()).order.length > 0);
  // Which of the two a socket has is not known: both are replaced.
  for (const [name, heir] of [["dns-1", "dns-3"], ["dns-2", "dns-4"]]) {
    await lab.put(udp(heir));
    await lab.ok(["lab", "delete", `pod/shop/${name}`]);
  }
  for (const each of asking) {
    let seen = await each.seen();
    await until(() => `it moves on: ${JSON.stringify(seen)}`, async () => {
      seen = await each.seen();
      const heir = seen.order.at(-1)!;
      return ["dns-3", "dns-4"].includes(heir) && seen.by[heir] >= 20;
    });
    await each.stop();
  }
});

e2e("two services that claim one address and port: the older keeps it, the other is told", async () => {
  const out = await lab.weir(
    ["service", "apply", "-f", "-"],
    service("thief", `clusterIP: 10.96.0.1, ${web("only: web-2")}`),
  );
  assert.match(out.out + out.err, /10\.96\.0\.1/);
  assert.match(out.out + out.err, /shop\/all/);
  assert.deepEqual(names(await ask(lab, POD, "tcp", "10.96.0.1", 80, 60)), EVERYBODY);
  await lab.weir(["service", "delete", "shop/thief"]);
});

e2e("weir bpf lb list shows what the kernel holds, and a deleted service is gone from it", async () => {
  assert.match(await lab.ok(["bpf", "lb", "list", "--node", "node-2"]), /10\.96\.0\.1:80/);
  await lab.ok(["service", "delete", "shop/mine"]);
  await until(
    "the frontend is gone",
    async () => !/10\.96\.0\.6:80/.test(await lab.ok(["bpf", "lb", "list", "--node", "node-2"])),
  );
});

e2e("IPv6 masquerade", async () => {
  await using _outside = await answersOutside(7778);
  const seen = await ask(lab, POD, "tcp", OUTSIDE_V6, 7778, 1);
  assert.deepEqual(seen.failed, []);
  assert.deepEqual(Object.keys(seen.clients), [NODE_1_V6]);
});
