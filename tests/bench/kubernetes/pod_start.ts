/**
 * From a pod's sandbox to its first allowed packet, on one cluster, in one run: pods of node 1 by Weir, pods of node 2 by the
 * reference `bridge` and `host-local` plugins, of which nobody decides anything. A deployment on each goes from 1 to N pods at
 * the same time. Weir's pods may reach their server by a policy, so that their identity has to be in force first.
 *
 *     deno run -A tests/bench/kubernetes/pod_start.ts [--pods 50]
 *
 * The sandbox begins and is done when containerd says so in its log; the first packet is when the pod's own first process is
 * connected. Needs root and what tests/kubernetes/build builds.
 * @module
 */
import { parseArgs } from "node:util";
import type { Cluster } from "../../kubernetes/cluster/cluster.ts";
import { waitFor } from "../../kubernetes/cluster/process.ts";
import { WeirCluster } from "../../kubernetes/faults/weir.ts";
import { IMAGES } from "../../kubernetes/parts/images.ts";
import { agnhostPod, list, missing, testCluster } from "../../kubernetes/test_cluster.ts";

const REFERENCE_NETWORK = "10.245.0.0/24";
const KINDS = [{ name: "weir", node: 1 }, { name: "bridge", node: 2 }] as const;
/** Connects as often as it takes, says when it could, and stays. */
const CLIENT =
  "until exec 3<>/dev/tcp/$SERVER/8080; do :; done 2>/dev/null; date +connected:%s%3N; exec sleep infinity";

interface Start {
  /** Unix ms. */
  begunMs: number;
  sandboxMs?: number;
  packetMs?: number;
}

if (missing !== undefined) Deno.exit(1);
const { values } = parseArgs({ options: { pods: { type: "string", default: "50" } } });
const pods = Number(values.pods);
await using cluster = await testCluster();
const weir = new WeirCluster(cluster);
await weir.importImages();
await weir.weir("install", "--wait", "--timeout=540");
await useReference(cluster);
const server = ({ name, node }: typeof KINDS[number]) =>
  agnhostPod(`server-${name}`, node, { livenessProbe: undefined });
const policy = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "server" },
  spec: {
    podSelector: { matchLabels: { app: "server-weir" } },
    policyTypes: ["Ingress"],
    ingress: [{ from: [{ podSelector: { matchLabels: { app: "weir" } } }] }],
  },
};
await cluster.kubectl(["apply", "-f", "-"], list(policy, server(KINDS[0])));
// The runtime says nowhere when it has read the file: a pod's address shows it.
await waitFor("node 2's runtime to use the reference plugins", async () => {
  await cluster.kubectl(["apply", "-f", "-"], list(server(KINDS[1])));
  await cluster.kubectl([
    ...["wait", "--for=condition=Ready", "--timeout=180s"],
    ...KINDS.map(({ name }) => `pod/server-${name}`),
  ]);
  const address = await addressOf("server-bridge");
  if (address.startsWith(REFERENCE_NETWORK.slice(0, REFERENCE_NETWORK.indexOf("0/")))) return true;
  await cluster.kubectl(["delete", "pod", "server-bridge"]);
  throw new Error(`server-bridge has ${address}`);
}, { seconds: 600 });
for (const { name, node } of KINDS) {
  const address = await addressOf(`server-${name}`);
  const labels = { app: name };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas: 1,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          nodeName: `node-${node}`,
          terminationGracePeriodSeconds: 0,
          containers: [{
            name: "client",
            image: IMAGES.agnhost,
            command: ["bash", "-c", CLIENT],
            env: [{ name: "SERVER", value: address }],
          }],
        },
      },
    },
  };
  await cluster.kubectl(["apply", "-f", "-"], list(deployment));
}
const scale = async (replicas: number) => {
  await cluster.kubectl([
    "scale",
    ...KINDS.map(({ name }) => `deployment/${name}`),
    `--replicas=${replicas}`,
  ]);
  await waitFor(`${replicas} pods of each`, async () => {
    const all = await cluster.kubectl(["get", "pods", "--no-headers", "-l", "app in (weir,bridge)"]);
    const rows = all.split("\n").filter((row) => row !== "");
    return rows.length === 2 * replicas && rows.every((row) => row.includes("Running"));
  }, { seconds: 900, everyMs: 500 });
};
await scale(1);
const upMs = performance.now();
await scale(pods);
const upS = (performance.now() - upMs) / 1000;
await waitFor("every pod to be connected", () => KINDS.every((kind) => connected(kind).length >= pods), {
  seconds: 300,
  everyMs: 1000,
});
const results = KINDS.map((kind) => ({ kind, starts: connected(kind) }));

console.log(`${pods} pods on each of two nodes: all run after ${upS.toFixed(0)} s`);
console.log("          pods   sandbox, ms: median    p99   to the first allowed packet, ms: median    p99");
for (const { kind, starts } of results) {
  const of = (value: (start: Start) => number) => starts.map(value).sort((a, b) => a - b);
  const sandbox = of(({ begunMs, sandboxMs }) => sandboxMs! - begunMs);
  const packet = of(({ begunMs, packetMs }) => packetMs! - begunMs);
  const cell = (sorted: number[], part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(0);
  console.log(
    kind.name.padEnd(8),
    `${starts.length}`.padStart(5),
    cell(sandbox, 0.5).padStart(21),
    cell(sandbox, 0.99).padStart(6),
    cell(packet, 0.5).padStart(40),
    cell(packet, 0.99).padStart(6),
  );
}

function addressOf(pod: string): Promise<string> {
  return cluster.kubectl(["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
}

/** Gives node 2's pods the reference plugins: the runtime takes the first configuration by name. */
async function useReference(cluster: Cluster): Promise<void> {
  const ipam = {
    type: "host-local",
    ranges: [[{ subnet: REFERENCE_NETWORK }]],
    routes: [{ dst: "0.0.0.0/0" }],
  };
  const file = `${cluster.directory}/node-2/etc/cni/net.d/00-reference.conflist`;
  await Deno.writeTextFile(
    `${file}.new`,
    JSON.stringify({
      cniVersion: "1.0.0",
      name: "reference",
      plugins: [{ type: "bridge", bridge: "reference0", isGateway: true, ipam }],
    }),
  );
  await Deno.rename(`${file}.new`, file);
}

/** Pods of a kind that were connected, by what containerd and they themselves say. */
function connected({ name, node }: typeof KINDS[number]): Start[] {
  const own = `${cluster.directory}/node-${node}`, starts = new Map<string, Start>();
  for (const line of Deno.readTextFileSync(`${own}/containerd.log`).split("\n")) {
    const [, time, pod, rest] =
      /^time="([^"]+)" .*msg="RunPodSandbox for &PodSandboxMetadata\{Name:([^,]+),.*?\}(.*)"$/i.exec(line) ??
        [];
    if (pod === undefined || !pod.startsWith(`${name}-`)) continue;
    const start = starts.get(pod);
    if (start === undefined) starts.set(pod, { begunMs: Date.parse(time) });
    else if (rest.includes("returns sandbox id")) start.sandboxMs = Date.parse(time);
  }
  for (const { name: directory } of Deno.readDirSync(`${own}/var/log/pods`)) {
    const start = starts.get(directory.split("_")[1] ?? "");
    if (start === undefined) continue;
    let log = "";
    try {
      log = Deno.readTextFileSync(`${own}/var/log/pods/${directory}/client/0.log`);
    } catch { /* it has not begun */ }
    const at = /connected:(\d+)$/m.exec(log)?.[1];
    if (at !== undefined) start.packetMs = Number(at);
  }
  return [...starts.values()].filter(({ sandboxMs, packetMs }) =>
    sandboxMs !== undefined && packetMs !== undefined
  );
}
