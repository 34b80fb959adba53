/**
 * What `weir policy preview` costs for a million recorded connections: a file of flows as Hubble writes them (100 workloads, addresses outside,
 * some answers and some drops), read, recorded and judged by 100 policies before and after. CPU seconds of this process, and the ratio to
 * `JSON.parse` of the same lines. Aim: below 5 s together. The file is made once, in a temporary directory.
 * @module
 */
import process from "node:process";
import { readInventory } from "@weir/policy-engine/offline";
import {
  FlowFileReader,
  FlowRecorder,
  JudgedCluster,
  newRepository,
  previewPolicies,
} from "@weir/policy-engine/recorded";

const CONNECTIONS = Number(Deno.args[0] ?? 1_000_000), APPS = 100, BYTES = 1 << 18;

const labels = (app: number) => [
  `k8s:app=app${app}`,
  "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
  "k8s:io.cilium.k8s.policy.cluster=default",
  "k8s:io.cilium.k8s.policy.serviceaccount=default",
  "k8s:io.kubernetes.pod.namespace=shop",
];
const pod = (app: number, replica: number) => ({
  ID: 100 + replica,
  identity: 5000 + app,
  cluster_name: "default",
  namespace: "shop",
  labels: labels(app),
  pod_name: `app${app}-6f8c9d7b5c-x2x4${"bcdfg"[replica]}`,
  workloads: [{ name: `app${app}`, kind: "Deployment" }],
});
const WORLD = { identity: 2, labels: ["reserved:world"] };

function line(at: number): string {
  const from = at * 7 % APPS, to = (at * 13 + 1) % APPS, isOut = at % 10 === 0, isDrop = at % 50 === 1;
  const destination = isOut ? `198.51.${at % 7}.${at % 251}` : `10.1.${to}.${at % 5}`;
  const time = `2026-11-22T10:${String(at % 60).padStart(2, "0")}:01.123456789Z`,
    node_name = `default/node-${at % 5}`;
  return JSON.stringify({
    flow: {
      time,
      uuid: `0f4be2a4-ac1d-4fb4-9f21-${String(at).padStart(12, "0")}`,
      verdict: isDrop ? "DROPPED" : "FORWARDED",
      ...isDrop ? { drop_reason: 133 } : {},
      ethernet: { source: "aa:bb:cc:dd:ee:ff", destination: "aa:bb:cc:dd:ee:00" },
      IP: { source: `10.1.${from}.${at >> 16}`, destination, ipVersion: "IPv4" },
      l4: { TCP: { source_port: at & 0xffff, destination_port: 8000 + at % 3, flags: { SYN: true } } },
      source: pod(from, at % 5),
      destination: isOut ? WORLD : pod(to, at % 5),
      Type: "L3_L4",
      node_name,
      event_type: isDrop ? { type: 1, sub_type: 133 } : { type: 4, sub_type: 3 },
      traffic_direction: "EGRESS",
      ...isDrop ? { drop_reason_desc: "POLICY_DENIED" } : { trace_reason: "NEW", is_reply: false },
      Summary: "TCP Flags: SYN",
    },
    node_name,
    time,
  });
}

const policies = (lacking: number) =>
  Array.from({ length: APPS }, (_, app) =>
    `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: p${app}, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: app${app} } }
  ingress:
  - fromEndpoints: [{ matchExpressions: [{ key: app, operator: NotIn, values: [app${
      (app + lacking) % APPS
    }] }] }]
    toPorts: [{ ports: [{ port: "8000", endPort: 8009, protocol: TCP }] }]
  egress:
  - toEndpoints: [{}]
  - toCIDR: [198.51.${lacking}.0/24, 198.51.4.0/22]
`).join("---\n");

function cpuS(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const path = await Deno.makeTempFile({ prefix: "weir-preview-bench-" });
try {
  using file = await Deno.open(path, { write: true });
  const encoder = new TextEncoder();
  for (let at = 0; at < CONNECTIONS; at += 1000) {
    const count = Math.min(1000, CONNECTIONS - at);
    file.writeSync(encoder.encode(Array.from({ length: count }, (_, i) => line(at + i) + "\n").join("")));
  }
  const { size } = await Deno.stat(path), buffer = new Uint8Array(BYTES);
  const readAll = (take: (bytes: Uint8Array) => void) => {
    using file = Deno.openSync(path);
    for (let count; (count = file.readSync(buffer)) !== null;) take(buffer.subarray(0, count));
  };

  const began = cpuS(), recorder = new FlowRecorder(), reader = new FlowFileReader(recorder);
  readAll((bytes) => reader.push(bytes));
  reader.end();
  const read = cpuS();
  const of = (lacking: number) => readInventory([{ file: "p.yaml", text: policies(lacking) }]).policies;
  const repository = newRepository();
  for (const policy of of(1)) repository.upsertPolicy(policy);
  const cluster = new JudgedCluster(repository, recorder.book, { cluster: "default" });
  const { counts, changes } = await previewPolicies(cluster, recorder.connections, of(2), {
    basis: "policies",
  });
  const judged = cpuS();

  const decoder = new TextDecoder();
  let rest = "", parsed = 0;
  readAll((bytes) => {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const text of lines) if (JSON.parse(text).flow !== undefined) parsed++;
  });
  const plain = cpuS() - judged;
  const seconds = (number: number) => `${number.toFixed(2)} s`;
  console.log(
    `${parsed} flows, ${
      (size / (1 << 20)).toFixed(0)
    } MiB, ${recorder.connections.length} kinds of connections`,
  );
  console.log(`${changes.length} changes; ${JSON.stringify(counts)}`);
  console.log(
    `read ${seconds(read - began)}, judged ${seconds(judged - read)}, together ${
      seconds(judged - began)
    } of CPU`,
  );
  console.log(`ratio to JSON.parse alone (${seconds(plain)}): ${((judged - began) / plain).toFixed(2)}`);
  console.log(`memory ${(Deno.memoryUsage().rss / (1 << 20)).toFixed(0)} MiB`);
} finally {
  await Deno.remove(path);
}
