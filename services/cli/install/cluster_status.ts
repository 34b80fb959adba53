/** `weir status --kubernetes`: how far Weir has come on a cluster, and what keeps pods from being ready. @module */
import { setTimeout as delay } from "node:timers/promises";
import type { CommandContext } from "../context.ts";
import { type Column, type OutputForm, render } from "../output.ts";
import type { NamedCluster } from "./access.ts";
import { KINDS } from "./kinds.ts";
import { type PartState, partState } from "./rollout.ts";

const PARTS = [["Deployment", "weir-control-plane"], ["DaemonSet", "weir-node"]] as const;
const PAUSE_MS = 1000;
const COLUMNS: Column<PartState>[] = [
  { title: "PART", cell: ({ name }) => name },
  { title: "READY", cell: ({ ready, wanted }) => `${ready}/${wanted}` },
  { title: "UPDATED", cell: ({ updated, wanted }) => `${updated}/${wanted}` },
];

interface ClusterState {
  readonly healthy: boolean;
  readonly parts: readonly PartState[];
  /** Nodes that Kubernetes calls ready, of all. */
  readonly nodes: { readonly ready: number; readonly all: number };
}

/** Shows the state, with `wait` when it is healthy or the time is over. Exit code 0: healthy. */
export async function showClusterStatus(
  cluster: NamedCluster,
  { wait, timeoutS, form }: { wait: boolean; timeoutS: number; form: OutputForm },
  context: CommandContext,
): Promise<number> {
  const { io } = context;
  const deadlineMs = performance.now() + timeoutS * 1000;
  let state = await look(cluster);
  while (wait && !state.healthy && performance.now() < deadlineMs && !io.interrupted.aborted) {
    await delay(PAUSE_MS);
    state = await look(cluster);
  }
  if (form === "json" || form === "yaml") {
    io.out(render([], [], form, state));
    return state.healthy ? 0 : 1;
  }
  io.out(render([...state.parts], COLUMNS, form, state));
  for (const trouble of state.parts.flatMap(({ troubles }) => troubles)) io.out(`  ${trouble}\n`);
  const { ready, all } = state.nodes;
  io.out(`${ready} of ${all} nodes are ready\n${state.healthy ? "Weir is ready" : "Weir is not ready"}\n`);
  return state.healthy ? 0 : 1;
}

async function look(cluster: NamedCluster): Promise<ClusterState> {
  const parts: PartState[] = [];
  for (const [kind, name] of PARTS) {
    const missing = {
      name,
      wanted: 1,
      ready: 0,
      updated: 0,
      troubles: [`${name}: it is not installed`],
      whole: false,
    };
    parts.push(await partState(cluster, kind, name) ?? missing);
  }
  let ready = 0, all = 0;
  for await (const { items } of cluster.client.pages(KINDS.Node)) {
    all += items.length;
    ready += items.filter(({ status }) =>
      status?.conditions?.some((one: { type: string; status: string }) =>
        one.type === "Ready" && one.status === "True"
      )
    ).length;
  }
  return { healthy: parts.every(({ whole }) => whole), parts, nodes: { ready, all } };
}
