/** One process that plays many nodes against the real services; tells its progress in lines of JSON. @module */
import { WeirClient } from "@weir/client";
import { SimulatedNode } from "./simulated_node.ts";
import type { WorkerLoad, WorkerState, WorkerTrouble } from "./worker_messages.ts";

const STATE_MS = 500;

if (import.meta.main) {
  const load = JSON.parse(Deno.args[0]) as WorkerLoad;
  const troubles = new Map<string, number>();
  const trouble = (kind: WorkerTrouble["kind"], what: string) => {
    const count = (troubles.get(what) ?? 0) + 1;
    troubles.set(what, count);
    console.log(JSON.stringify({ kind, what, count } satisfies WorkerTrouble));
  };
  const around = {
    load,
    allocator: new WeirClient({ socket: load.allocator }, { deadlineMs: 120_000 }),
    engine: new WeirClient({ socket: load.engine }, { deadlineMs: 120_000 }),
    numbers: new Map<number, Promise<number>>(),
    failed: (what: string, error: unknown) =>
      trouble("failure", `${what}: ${(error as { code?: string }).code ?? (error as Error).message}`),
    cut: (why: string) => trouble("cut", why),
  };
  // In order, so that a profile is written.
  Deno.addSignalListener("SIGTERM", () => Deno.exit());
  const nodes: SimulatedNode[] = [];
  let begun = 0, next = 0;
  setInterval(() => console.log(JSON.stringify(stateOf(nodes, begun))), STATE_MS);
  await Promise.all(Array.from({ length: load.atOnce }, async () => {
    while (next < load.nodes.length) {
      const at = next++, node = new SimulatedNode(load.nodes[at], around);
      nodes.push(node);
      await node.begin(at < load.mirrors);
      begun++;
    }
  }));
}

function stateOf(nodes: readonly SimulatedNode[], begun: number): WorkerState {
  const state: WorkerState = {
    kind: "state",
    begun,
    ipcache: {},
    revision: Infinity,
    bytes: 0,
    reads: 0,
    acknowledgements: 0,
    reopened: 0,
  };
  for (const node of nodes) {
    const { bytes, reads, reopened } = node.taken, { ipcache } = node;
    state.ipcache[ipcache] = (state.ipcache[ipcache] ?? 0) + 1;
    state.revision = Math.min(state.revision, node.revision);
    state.bytes += bytes;
    state.reads += reads;
    state.reopened += reopened;
    state.acknowledgements += node.acknowledgements;
  }
  return state;
}
