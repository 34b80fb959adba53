/**
 * One changed ipcache entry among many: what it costs a node, before (commit bb843b6: the whole join anew, and the
 * difference) and after (the prefixes that the change touches), in one run and over the same entries.
 *
 *     deno run -A tests/bench/control/ipcache_join.ts [ENTRIES] [CHANGES]      needs git and the commit
 *
 * What it should show: below 1 ms per change at 100,000 entries, whatever their number.
 */
import { Node } from "@weir/proto/identity";
import { IpcacheEntry } from "@weir/proto/identity";
import { IpcacheJoin } from "../../../services/endpoint-manager/ipcache_join.ts";

const BASE = "bb843b6";
const entriesCount = Number(Deno.args[0] ?? 100_000), changes = Number(Deno.args[1] ?? 2_000);
const nodesCount = Math.max(2, Math.ceil(entriesCount / 10));

interface Before {
  joinIpcache(sources: unknown): Map<string, unknown>;
  diffIpcache(a: Map<string, unknown>, b: Map<string, unknown>): { upserts: unknown[]; deletes: string[] };
}

/** The module as it was, beside the one of now, so that its imports are found. */
async function loadBefore(): Promise<Before> {
  const shown = await new Deno.Command("git", {
    args: ["show", `${BASE}:services/endpoint-manager/ipcache_join.ts`],
    cwd: new URL(".", import.meta.url).pathname,
  }).output();
  if (!shown.success) throw new Error(`Cannot show ${BASE}: ${new TextDecoder().decode(shown.stderr)}`);
  const path = new URL(`.before_${Deno.pid}.ts`, import.meta.url);
  await Deno.writeFile(path, shown.stdout);
  try {
    return await import(path.href);
  } finally {
    await Deno.remove(path);
  }
}

const nodeOf = (i: number) => `node-${i % nodesCount}`;
const nodes = Array.from({ length: nodesCount }, (_, i) =>
  Node.create({
    name: nodeOf(i),
    ipv4: `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
    podCidrV4: `10.${(i >> 8) & 255}.${i & 255}.0/24`,
  }));
const entries = new Map<string, IpcacheEntry>();
for (let i = 0; i < entriesCount; i++) {
  const n = i % nodesCount, k = Math.floor(i / nodesCount) + 2;
  const prefix = `10.${(n >> 8) & 255}.${n & 255}.${k}/32`;
  entries.set(
    prefix,
    IpcacheEntry.create({ prefix, identity: 256 + i % 60_000, node: nodeOf(n), nodeIpv4: nodes[n].ipv4 }),
  );
}
const prefixes = [...entries.keys()];
const changed = (i: number): IpcacheEntry => {
  const entry = entries.get(prefixes[(i * 7919) % prefixes.length])!;
  return { ...entry, identity: 256 + (entry.identity + 1 + i) % 60_000 };
};
const quantile = (values: number[], q: number) => values.sort((a, b) => a - b)[Math.floor(values.length * q)];

const memory = () => Deno.memoryUsage().heapUsed / 1e6;
const { joinIpcache, diffIpcache } = await loadBefore();

const join = new IpcacheJoin({ nodeName: nodeOf(0), nodeIpv4: nodes[0].ipv4, nodeIpv6: "" });
const heap = memory();
let started = performance.now();
for (const node of nodes) join.setNode(node.name, node);
for (const [name, entry] of entries) join.setEntry(name, entry);
const told = join.takeAll().length;
const fill = performance.now() - started, held = memory() - heap;

const after: number[] = [], before: number[] = [];
const whole = () =>
  joinIpcache({
    nodeName: nodeOf(0),
    gateways: [],
    ipcache: entries.values(),
    nodes,
    cidrs: [],
  });
started = performance.now();
let applied = whole();
const fillBefore = performance.now() - started;
let mismatches = 0;
const rounds = Math.max(3, Math.min(15, Math.ceil(changes / 100)));
for (let i = 0; i < changes; i++) {
  const entry = changed(i);
  entries.set(entry.prefix, entry);
  started = performance.now();
  join.setEntry(entry.prefix, entry);
  const batch = join.take(10_000);
  after.push(performance.now() - started);
  if (batch.upserts.length !== 1) mismatches++;
  // The old way now and then, interleaved, so that both see the same machine.
  if (i % Math.ceil(changes / rounds) !== 0) continue;
  started = performance.now();
  const next = whole();
  diffIpcache(applied, next);
  before.push(performance.now() - started);
  applied = next;
}
const now = whole();
for (const [prefix, row] of now) {
  const mine = join.get(prefix), theirs = row as { identity: number; nodeIpv4: string };
  if (mine?.identity !== theirs.identity || mine.nodeIpv4 !== theirs.nodeIpv4) mismatches++;
}
const ms = (value: number) => value.toFixed(value < 1 ? 4 : 1);
console.log(`${entriesCount} entries, ${nodesCount} nodes, ${told} prefixes, ${changes} changes`);
console.log(
  `one change   before ${ms(quantile(before, 0.5))} ms   after p50 ${ms(quantile(after, 0.5))} ms, p99 ${
    ms(quantile(after, 0.99))
  } ms   ratio ${Math.round(quantile(before, 0.5) / quantile(after, 0.5))}`,
);
console.log(
  `from nothing before ${ms(fillBefore)} ms   after ${ms(fill)} ms; the join holds ${held.toFixed(0)} MB`,
);
console.log(mismatches === 0 ? "both ways agree on every prefix" : `${mismatches} prefixes differ`);
if (mismatches > 0) Deno.exit(1);
