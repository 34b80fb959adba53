/** `weir uninstall --kubernetes`: takes Weir off a cluster and every node of it. @module */
import { setTimeout as delay } from "node:timers/promises";
import type { CommandContext } from "../context.ts";
import type { NamedCluster } from "./access.ts";
import { CLEANUP, cleanupObject } from "./cleanup.ts";
import { FIELD_MANAGER, VALUES_MAP } from "./install.ts";
import { kindOf, KINDS } from "./kinds.ts";
import { manifest } from "./manifest.ts";
import type { KubernetesObject } from "./objects.ts";
import { orMissing, removeDefinitions, removeRemains } from "./remains.ts";
import { waitForPart } from "./rollout.ts";

const LOOK_MS = 500;
/** Namespaces of Kubernetes itself, which Weir may have been put into. */
const NOT_OURS: ReadonlySet<string> = new Set(["default", "kube-node-lease", "kube-public", "kube-system"]);

/** Runs it. */
export async function uninstallCluster(
  cluster: NamedCluster,
  { yes, timeoutS, crds }: { yes: boolean; timeoutS: number; crds: boolean },
  context: CommandContext,
): Promise<number> {
  const { client, namespace } = cluster, { io } = context;
  const also = crds ? " Policies, and every other object of Weir's kinds, are deleted." : "";
  const question =
    `Remove Weir from every node of ${client.server}? Pods lose their network until another one is installed.${also}`;
  if (!yes && io.confirm !== undefined && !io.confirm(question)) {
    io.err("weir: nothing was removed\n");
    return 1;
  }
  const wait = { deadlineMs: performance.now() + timeoutS * 1000, signal: io.interrupted };
  const nodes = await orMissing(() => client.get(KINDS.DaemonSet, "weir-node", { namespace }));
  if (nodes !== undefined) {
    // Two of them on one machine: what one removes the other would make again.
    const cleanup = cleanupObject(nodes as never);
    await client.delete(KINDS.DaemonSet, "weir-node", { namespace, propagation: "Foreground" });
    await client.delete(KINDS.Deployment, "weir-control-plane", { namespace, propagation: "Foreground" });
    io.err("Weir's pods end\n");
    if (!await podsAreGone(cluster, wait)) {
      if (io.interrupted.aborted) throw new Error("Interrupted: the same command again goes on from here");
      throw new Error(`Cannot uninstall: pods of Weir do not end within ${timeoutS} s`);
    }
    await client.apply(KINDS.DaemonSet, cleanup as never, { fieldManager: FIELD_MANAGER, force: true });
  }
  if (await orMissing(() => client.get(KINDS.DaemonSet, CLEANUP, { namespace })) !== undefined) {
    io.err("Every node is cleaned\n");
    const state = await waitForPart(cluster, "DaemonSet", CLEANUP, wait);
    if (!state?.whole) {
      if (io.interrupted.aborted) io.err("weir: interrupted: the same command again goes on from here\n");
      io.err(`weir: ${state?.ready ?? 0} of ${state?.wanted ?? "?"} nodes are clean; ${CLEANUP} goes on\n`);
      for (const trouble of state?.troubles ?? []) io.err(`  ${trouble}\n`);
      return 1;
    }
    io.out(`${state.ready} ${state.ready === 1 ? "node is" : "nodes are"} clean\n`);
    await client.delete(KINDS.DaemonSet, CLEANUP, { namespace, propagation: "Foreground" });
  }
  const { objects, statuses, taints, failures } = await removeRemains(client);
  for (const failure of failures) io.err(`weir: ${failure}\n`);
  const definitions = crds ? await removeDefinitions(client) : undefined;
  for (const object of manifest({}, namespace).toReversed()) {
    if (object.kind === "Namespace" && NOT_OURS.has(namespace)) continue;
    await client.delete(kindOf(object as KubernetesObject), object.metadata.name, {
      namespace: object.metadata.namespace,
    });
  }
  for (const name of [VALUES_MAP, "weir-cluster"]) await client.delete(KINDS.ConfigMap, name, { namespace });
  io.out(
    `Taken back: ${objects} objects, what Weir said in the status of ${statuses} others, taints of ${taints} nodes\n`,
  );
  const { left = [] } = definitions ?? {};
  if (left.length > 0) io.out(`Definitions (CRDs) that are not Weir's stay: ${left.join(", ")}\n`);
  const stays = definitions === undefined
    ? "policies and the definitions of their kinds (CRDs) stay; --crds removes them"
    : `${definitions.removed} definitions (CRDs) with all their objects too`;
  io.out(`Weir is gone from ${client.server}; ${stays}\n`);
  return 0;
}

async function podsAreGone(
  { client, namespace }: NamedCluster,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal },
): Promise<boolean> {
  while (performance.now() < deadlineMs && !signal.aborted) {
    const { items } = await client.list(KINDS.Pod, {
      namespace,
      labelSelector: "app.kubernetes.io/name=weir,app.kubernetes.io/component in (node,control-plane)",
    });
    if (items.length === 0) return true;
    await delay(LOOK_MS);
  }
  return false;
}
