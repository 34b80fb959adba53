/**
 * The identity allocator with a big cluster's tables: what loading, one change, heartbeats and a node's end cost; beside
 * another version of the tree in the same run.
 *
 *     deno run -A tests/bench/control/allocator.ts [--before FOLDER] [--nodes 10000] [--watchers 1000]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { compare, type Row } from "./compare.ts";
import type { AllocatorFigures } from "./allocator_child.ts";

const ROWS: readonly Row<AllocatorFigures>[] = [
  ["loadMs", "load", "ms"],
  ["loadCpuMs", "the same, CPU", "ms"],
  ["loadedMib", "heap of what was loaded", "MiB"],
  ["putMs", "one prefix changed, nobody watches", "ms"],
  ["putCpuMs", "the same, CPU", "ms"],
  ["putWatchedCpuMs", "one prefix changed, CPU with all watchers (readers included)", "ms"],
  ["hundredMs", "100 prefixes of one node", "ms"],
  ["firstHeartbeatsCpuMs", "the first heartbeat of each node, CPU", "ms"],
  ["heartbeatsMs", "one more heartbeat of each node", "ms"],
  ["heartbeatsCpuMs", "the same, CPU", "ms"],
  ["deleteNodeMs", "one node deleted", "ms"],
  ["sweepMs", "one sweep", "ms"],
  ["allocateMs", "one new identity", "ms"],
];

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      before: { type: "string" },
      nodes: { type: "string", default: "10000" },
      "pods-per-node": { type: "string", default: "10" },
      identities: { type: "string", default: "65000" },
      watchers: { type: "string", default: "1000" },
      rounds: { type: "string", default: "200" },
    },
  });
  await compare<AllocatorFigures>({
    child: new URL("./allocator_child.ts", import.meta.url),
    load: {
      nodes: Number(values.nodes),
      podsPerNode: Number(values["pods-per-node"]),
      identities: Number(values.identities),
      watchers: Number(values.watchers),
      rounds: Number(values.rounds),
    },
    rows: ROWS,
    before: values.before,
  });
}
