/**
 * Far more events than anybody can take: every packet is counted, what was lost is said where a person looks, and other pods go on, whoever
 * of those who read events stands still. How fast they go on is measured in tests/bench/README.md; no time is asserted here.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { readExposition } from "@weir/common/testing/exposition";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`over${Deno.pid}`);
const program = new URL("testdata/pressure.py", import.meta.url).pathname;
const FLOOD = 100_000;
const pod = (name: string, command: string) =>
  `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-1, containers: [{ name: c, command: ${command} }] }
`;
const IDLE = `["sleep", "infinity"]`;
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("flood", IDLE),
  pod("victim", IDLE),
  pod("asker", IDLE),
  pod("echo", `["python3", "${program}", "echo", "7"]`),
].join("---\n");
const closed = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: closed, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: victim } }
  ingress: [{ fromEndpoints: [{ matchLabels: { app: asker } }] }]
`;

const addresses = new Map<string, string>();

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(1, manifests);
    await lab.apply(closed);
    const rows = JSON.parse(await lab.ok(["lab", "status", "-o", "json"])).pods;
    for (const { name, ipv4 } of rows) addresses.set(name, ipv4);
  });
  Deno.test.afterAll(async () => await lab.down());
}

async function metric(service: string, name: string, labels: Record<string, string> = {}): Promise<number> {
  const socket = `/run/weir/${lab.name}-node-1/${service}.sock`;
  const { out } = await run("curl", ["-sS", "--max-time", "60", "--unix-socket", socket, "http://x/metrics"]);
  const samples = readExposition(out).get(name)?.samples ?? [];
  return samples.filter((one) => Object.entries(labels).every(([key, value]) => one.labels[key] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

const denied = () => metric("datapath", "weir_datapath_packets", { reason: "POLICY_DENIED" });
const exec = (name: string, ...words: string[]) =>
  lab.ok(["lab", "exec", `shop/${name}`, "--", "python3", program, ...words]);
const flood = async () => Number(await exec("flood", "flood", addresses.get("victim")!, "9", `${FLOOD}`));

const made = () => metric("datapath", "weir_datapath_share_entries", { name: "shop/flood", table: "events" });
const lost = () => metric("datapath", "weir_datapath_lost_events");

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

test("every packet of a flood is counted, and each of its events was made or is told as lost", async () => {
  const before = await denied();
  assert.equal(await flood(), FLOOD);
  await until("all are counted", async () => await denied() - before === FLOOD);
  await until("each event was made or lost", async () => await made() + await lost() === await denied());
});

test("what is lost stands in the history's answers and in the metrics", async () => {
  // How many are lost is the machine's; that some are is the flood's.
  await until("more than can be taken", async () => await lost() > 0 || (await flood(), false));
  const count = await lost(), mine = { source: "perf_event_ring_buffer" };
  await until(
    "weir status tells",
    async () => (await lab.weir(["status"])).out.includes(`${count} events lost`),
  );
  await until(
    "Hubble's counter is as the kernel's",
    async () => await metric("flow-exporter", "hubble_lost_events_total", mine) === count,
  );
  let said = "";
  await until(() => said, async () => {
    said = await lab.ok(["top", "drops", "--since", "1h"]);
    return /sampled, .* [1-9]\d* events lost of default\/node-1 \(PERF_EVENT_RING_BUFFER\)/.test(said);
  });
});

test("other pods are answered, and every packet is counted, while the flow exporter stands still", async () => {
  const status = await lab.ok(["status"]);
  const pid = Number(/flow-exporter +\S+ +(\d+)/.exec(status)?.[1]);
  const before = await denied();
  Deno.kill(pid, "SIGSTOP");
  try {
    assert.equal(await flood(), FLOOD);
    // Missing a question for a second is a slow machine's.
    const [, missed] = (await exec("asker", "ask", addresses.get("echo")!, "7", "200")).split(" ").map(
      Number,
    );
    assert.ok(missed < 200, "somebody is answered");
    await until("all are counted", async () => await denied() - before === FLOOD);
  } finally {
    // The agent starts one anew that answers nothing for long.
    await run("kill", ["-CONT", `${pid}`]);
  }
  await until(
    "it goes on, and learns what it missed",
    async () =>
      await metric("flow-exporter", "hubble_lost_events_total", { source: "perf_event_ring_buffer" }) ===
        await lost(),
  );
});
