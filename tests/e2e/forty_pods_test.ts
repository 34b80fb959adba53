/**
 * Two nodes with twenty pods each: for every kind of rule the result of real traffic, and the flow that explains it.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { PodStream } from "./stream.ts";
import { canRun, Lab, names } from "./weir.ts";

const lab = new Lab(`e2e${Deno.pid}`);
const server = new URL("testdata/server.py", import.meta.url).pathname;
const PODS_PER_NODE = 20;

/** Pods server-1-1 .. server-2-10 answer, client-1-1 .. client-2-10 ask; the last digit is their number on the node. */
function manifests(): string {
  const documents = [
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { team: retail } }\n",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: other, labels: { team: visitors } }\n",
  ];
  for (const node of [1, 2]) {
    for (let i = 1; i <= PODS_PER_NODE; i++) {
      const serves = i <= PODS_PER_NODE / 2;
      const n = serves ? i : i - PODS_PER_NODE / 2;
      const name = `${serves ? "server" : "client"}-${node}-${n}`;
      // The http port has another number on node 2, so that a named port means the endpoint's own.
      const http = node === 1 ? 8080 : 8081;
      const command = serves
        ? `["python3", "${server}", "80/TCP", "8080/TCP", "8081/TCP", "9000/TCP", "9001/TCP", "9002/TCP", "53/UDP"]`
        : `["sleep", "infinity"]`;
      const ports = serves
        ? `, ports: [{ name: http, containerPort: ${http} }, { name: dns, containerPort: 53, protocol: UDP }]`
        : "";
      documents.push(
        `apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\n  namespace: ${
          n === 10 ? "other" : "shop"
        }\n` +
          `  labels: { app: ${serves ? "server" : "client"}, number: "${n}" }\n` +
          `spec:\n  nodeName: node-${node}\n  containers:\n    - { name: main, command: ${command}${ports} }\n`,
      );
    }
  }
  return documents.join("---\n");
}

const policy = (name: string, spec: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n`;
const clusterwide = (name: string, spec: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: { name: ${name} }\nspec: ${spec}\n`;
const line = (from: string, to: string, port: string | number, expect: string, more = "") =>
  `from: ${from}, to: ${to}, port: ${port}, expect: ${expect}${more && `, ${more}`}`;
const SERVER_1 = "{ matchLabels: { app: server, number: '1' } }";

if (canRun) {
  Deno.test.beforeAll(async () => await lab.up(2, manifests()));
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

e2e(
  "without policy everybody reaches everybody, on one node and across, IPv4 and IPv6, TCP, UDP and ICMP",
  async () => {
    const lines: string[] = [];
    for (let n = 1; n <= 10; n++) {
      const ns = (k: number) => k === 10 ? "other" : "shop";
      const to = n % 10 + 1;
      for (const [from, node] of [[1, 1], [1, 2], [2, 1], [2, 2]]) {
        lines.push(
          line(
            `${ns(n)}/client-${from}-${n}`,
            `${ns(to)}/server-${node}-${to}`,
            80,
            "allow",
            n % 2 ? "family: 6" : "",
          ),
        );
      }
    }
    for (const to of ["shop/server-1-1", "shop/server-2-1"]) {
      for (const family of [4, 6]) {
        lines.push(line("shop/client-1-1", to, "53/UDP", "allow", `family: ${family}`));
        lines.push(line("shop/client-1-1", to, "ICMP", "allow", `family: ${family}`));
      }
    }
    await lab.expect(lines);
    const flow = await lab.flow(
      "client-1-2 reaching server-2-3",
      (f) => f.verdict === "FORWARDED" && f.IP?.ipVersion === "IPv4",
      "--from-pod",
      "shop/client-1-2",
      "--to-pod",
      "shop/server-2-3",
    );
    assert.ok(flow.source?.labels?.includes("k8s:app=client"));
  },
);

e2e("an allow closes the direction for everybody else, and both verdicts name the policy", async () => {
  await lab.apply(
    policy(
      "only-client-1",
      `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEndpoints: [{ matchLabels: { app: client, number: '1' } }], toPorts: [{ ports: [{ port: "80", protocol: TCP }] }] }] }`,
    ),
  );
  try {
    const lines: string[] = [];
    for (const to of ["shop/server-1-1", "shop/server-2-1"]) {
      for (const family of [4, 6]) {
        lines.push(line("shop/client-1-1", to, 80, "allow", `family: ${family}`));
        lines.push(line("shop/client-2-1", to, 80, "allow", `family: ${family}`));
        lines.push(line("shop/client-1-2", to, 80, "deny", `family: ${family}`));
        lines.push(line("shop/client-2-2", to, 80, "deny", `family: ${family}`));
        lines.push(line("shop/client-1-1", to, 9000, "deny", `family: ${family}`));
      }
    }
    lines.push(line("shop/client-1-2", "shop/server-1-2", 80, "allow"));
    await lab.expect(lines);
    for (const [client, target] of [["client-1-2", "server-1-1"], ["client-1-2", "server-2-1"]]) {
      const dropped = await lab.flow(
        "the default deny",
        (f) => f.verdict === "DROPPED" && names(f.ingress_denied_by, "only-client-1"),
        "--from-pod",
        `shop/${client}`,
        "--to-pod",
        `shop/${target}`,
      );
      assert.equal(dropped.drop_reason_desc, "POLICY_DENIED");
      assert.equal(dropped.traffic_direction, "INGRESS");
    }
    await lab.flow(
      "the allow by name",
      (f) => f.verdict === "FORWARDED" && names(f.ingress_allowed_by, "only-client-1"),
      "--from-pod",
      "shop/client-2-1",
      "--to-pod",
      "shop/server-1-1",
    );
  } finally {
    await lab.drop("cnp:shop/only-client-1");
  }
  await lab.expect([line("shop/client-1-2", "shop/server-1-1", 80, "allow")]);
});

e2e("a deny wins over an allow and says so", async () => {
  await lab.apply(
    policy(
      "allow-clients",
      `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }`,
    ),
  );
  await lab.apply(
    policy(
      "not-client-3",
      `{ endpointSelector: ${SERVER_1}, ingressDeny: [{ fromEndpoints: [{ matchLabels: { number: '3' } }] }] }`,
    ),
  );
  try {
    await lab.expect([
      line("shop/client-1-2", "shop/server-1-1", 80, "allow"),
      line("shop/client-1-3", "shop/server-1-1", 80, "deny"),
      line("shop/client-2-3", "shop/server-1-1", 80, "deny", "family: 6"),
    ]);
    const dropped = await lab.flow(
      "the deny rule",
      (f) => f.verdict === "DROPPED" && names(f.ingress_denied_by, "not-client-3"),
      "--from-pod",
      "shop/client-1-3",
      "--to-pod",
      "shop/server-1-1",
    );
    assert.equal(dropped.drop_reason_desc, "POLICY_DENY");
  } finally {
    await lab.drop("cnp:shop/allow-clients", "cnp:shop/not-client-3");
  }
});

e2e(
  "default deny of a NetworkPolicy closes egress, and replies still pass for those who may come in",
  async () => {
    await lab.apply(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: no-way-out, namespace: shop }\n" +
        "spec: { podSelector: { matchLabels: { app: server, number: '2' } }, policyTypes: [Egress] }\n",
    );
    try {
      await lab.expect([
        line("shop/client-1-1", "shop/server-1-2", 80, "allow"),
        line("shop/server-1-2", "shop/server-1-1", 80, "deny"),
        line("shop/server-1-2", "shop/server-2-1", 80, "deny"),
      ]);
      const dropped = await lab.flow(
        "the egress default deny",
        (f) => f.verdict === "DROPPED" && names(f.egress_denied_by, "no-way-out"),
        "--from-pod",
        "shop/server-1-2",
      );
      assert.equal(dropped.traffic_direction, "EGRESS");
    } finally {
      await lab.drop("knp:shop/no-way-out");
    }
  },
);

e2e("ports: a range, a name that means the endpoint's own number, UDP apart from TCP", async () => {
  await lab.apply(
    policy(
      "ports",
      `{ endpointSelector: ${SERVER_1}, ingress: [{ toPorts: [{ ports: [{ port: "9000", endPort: 9001, protocol: TCP }, { port: http, protocol: TCP }, { port: "53", protocol: UDP }] }] }] }`,
    ),
  );
  try {
    await lab.expect([
      line("shop/client-1-1", "shop/server-1-1", 9000, "allow"),
      line("shop/client-1-1", "shop/server-1-1", 9001, "allow", "family: 6"),
      line("shop/client-1-1", "shop/server-1-1", 9002, "deny"),
      line("shop/client-1-1", "shop/server-1-1", 8080, "allow"),
      line("shop/client-1-1", "shop/server-1-1", 8081, "deny"),
      line("shop/client-1-1", "shop/server-2-1", 8080, "deny"),
      line("shop/client-1-1", "shop/server-2-1", 8081, "allow"),
      line("shop/client-1-1", "shop/server-2-1", "53/UDP", "allow"),
      line("shop/client-1-1", "shop/server-2-1", 80, "deny"),
    ]);
    await lab.flow(
      "UDP allowed by name",
      (f) => f.l4?.UDP?.destination_port === 53 && names(f.ingress_allowed_by, "ports"),
      "--from-pod",
      "shop/client-1-1",
      "--to-pod",
      "shop/server-2-1",
      "--protocol",
      "udp",
    );
  } finally {
    await lab.drop("cnp:shop/ports");
  }
});

e2e("ICMP rules let echo requests through and nothing else", async () => {
  await lab.apply(
    policy(
      "ping-only",
      `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEndpoints: [{}], icmps: [{ fields: [{ type: 8, family: IPv4 }] }] }] }`,
    ),
  );
  try {
    await lab.expect([
      line("shop/client-1-1", "shop/server-1-1", "ICMP", "allow"),
      line("shop/client-1-1", "shop/server-2-1", "ICMP", "allow"),
      line("shop/client-1-1", "shop/server-1-1", "ICMP", "deny", "family: 6"),
      line("shop/client-1-1", "shop/server-1-1", 80, "deny"),
    ]);
    await lab.flow(
      "the echo request allowed by name",
      (f) => f.l4?.ICMPv4?.type === 8 && names(f.ingress_allowed_by, "ping-only"),
      "--from-pod",
      "shop/client-1-1",
      "--to-pod",
      "shop/server-2-1",
    );
  } finally {
    await lab.drop("cnp:shop/ping-only");
  }
});

e2e("entities: the world, the cluster, the host", async () => {
  await lab.apply(
    policy("cluster-only", `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEntities: [cluster] }] }`),
  );
  try {
    await lab.expect([
      line("shop/client-1-1", "shop/server-1-1", 80, "allow"),
      line("other/client-2-10", "shop/server-1-1", 80, "allow"),
      line("node-1", "shop/server-1-1", 80, "allow"),
      line("node-2", "shop/server-1-1", 80, "allow"),
      line("outside", "shop/server-1-1", 80, "deny"),
    ]);
  } finally {
    await lab.drop("cnp:shop/cluster-only");
  }
  await lab.apply(
    policy("host-only", `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEntities: [host] }] }`),
  );
  try {
    await lab.expect([
      line("node-1", "shop/server-1-1", 80, "allow"),
      line("shop/client-1-1", "shop/server-1-1", 80, "deny"),
      line("node-2", "shop/server-1-1", 80, "deny"),
    ]);
  } finally {
    await lab.drop("cnp:shop/host-only");
  }
});

e2e("CIDR rules carve the outside, and never select pods", async () => {
  const listed = await lab.ok([
    "lab",
    "exec",
    "--outside",
    "--",
    "ip",
    "-4",
    "-o",
    "addr",
    "show",
    "scope",
    "global",
  ]);
  const outside = /inet ([0-9.]+)\//.exec(listed)?.[1] ?? "";
  assert.match(outside, /^\d+\.\d+\.\d+\.\d+$/, listed);
  const wide = outside.replace(/\.\d+$/, ".0/24");
  await lab.apply(
    policy(
      "to-outside",
      `{ endpointSelector: { matchLabels: { app: client, number: '4' } }, egress: [{ toCIDRSet: [{ cidr: ${wide} }] }] }`,
    ),
  );
  try {
    await lab.expect([
      line("shop/client-1-4", outside, "ICMP", "allow"),
      line("shop/client-1-4", "shop/server-1-1", 80, "deny"),
      line("shop/client-2-5", outside, "ICMP", "allow"),
    ]);
    await lab.drop("cnp:shop/to-outside");
    await lab.apply(
      policy(
        "to-outside",
        `{ endpointSelector: { matchLabels: { app: client, number: '4' } }, egress: [{ toCIDRSet: [{ cidr: ${wide}, except: [${outside}/32] }] }] }`,
      ),
    );
    await lab.expect([line("shop/client-1-4", outside, "ICMP", "deny")]);
    const dropped = await lab.flow(
      "the excepted address",
      (f) =>
        f.verdict === "DROPPED" && f.IP?.destination === outside && names(f.egress_denied_by, "to-outside"),
      "--from-pod",
      "shop/client-1-4",
    );
    assert.equal(dropped.drop_reason_desc, "POLICY_DENIED");
  } finally {
    await lab.drop("cnp:shop/to-outside");
  }
});

e2e("namespaces: a clusterwide policy admits one team only", async () => {
  await lab.apply(
    clusterwide(
      "retail-only",
      `{ endpointSelector: { matchLabels: { app: server, number: '1' } }, ingress: [{ fromEndpoints: [{ matchLabels: { "k8s:io.cilium.k8s.namespace.labels.team": retail } }] }] }`,
    ),
  );
  try {
    await lab.expect([
      line("shop/client-2-1", "shop/server-1-1", 80, "allow"),
      line("other/client-2-10", "shop/server-1-1", 80, "deny"),
      line("other/client-1-10", "shop/server-1-1", 80, "deny", "family: 6"),
    ]);
  } finally {
    await lab.drop("ccnp:retail-only");
  }
});

e2e("relabelling a running pod changes what it may do", async () => {
  await lab.apply(
    policy(
      "guests",
      `{ endpointSelector: ${SERVER_1}, ingress: [{ fromEndpoints: [{ matchLabels: { guest: "yes" } }] }] }`,
    ),
  );
  try {
    for (const [node, name] of [["node-1", "shop/client-1-5"], ["node-2", "shop/client-2-5"]]) {
      await lab.expect([line(name, "shop/server-1-1", 80, "deny")]);
      await lab.ok(["endpoint", "label", name, "--node", node, "k8s:guest=yes"]);
      await until(
        `${name} may`,
        async () =>
          (await lab.weir(["lab", "test", "-"], `- { ${line(name, "shop/server-1-1", 80, "allow")} }\n`))
            .code === 0,
      );
      await lab.ok(["endpoint", "label", name, "--node", node, "k8s:guest-"]);
      await until(
        `${name} may not`,
        async () =>
          (await lab.weir(["lab", "test", "-"], `- { ${line(name, "shop/server-1-1", 80, "deny")} }\n`))
            .code === 0,
      );
    }
  } finally {
    await lab.drop("cnp:shop/guests");
  }
});

e2e("a deny that is added stops a running stream; removing it lets a new connection through", async () => {
  for (const target of ["server-1-6", "server-2-6"]) {
    const number = target.at(-1);
    const address = await lab.ok([
      "endpoint",
      "get",
      `shop/${target}`,
      "--node",
      `node-${target[7]}`,
      "-o",
      "json",
    ]);
    const ip = JSON.parse(address).status.ipv4 as string;
    await using running = new PodStream(lab, "shop/client-1-6", ip, 80);
    await until("the stream runs", () => running.count > 5);
    try {
      await lab.apply(
        policy(
          "stop-it",
          `{ endpointSelector: { matchLabels: { app: server, number: '${number}' } }, ingressDeny: [{ fromEndpoints: [{ matchLabels: { app: client } }] }] }`,
        ),
      );
      await until("the stream stops", () => running.stopped);
      await lab.flow(
        "the stream's packets dropped by the deny",
        (f) =>
          f.verdict === "DROPPED" && f.drop_reason_desc === "POLICY_DENY" &&
          names(f.ingress_denied_by, "stop-it"),
        "--from-pod",
        "shop/client-1-6",
        "--to-pod",
        `shop/${target}`,
      );
    } finally {
      await lab.drop("cnp:shop/stop-it");
    }
    await lab.expect([line("shop/client-1-6", `shop/${target}`, 80, "allow")]);
  }
});
