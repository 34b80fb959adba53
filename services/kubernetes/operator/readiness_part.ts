/**
 * Whether pods may be put on a node: the taint `node.weir.dev/agent-not-ready`, and the condition NetworkUnavailable.
 *
 *     Weir on it is alive, and its datapath has policies ──▶ no taint, NetworkUnavailable=False
 *     it is dead, or was ready and has left the cluster  ──▶ taint, NetworkUnavailable=True
 *     nobody has heard of it, or nobody can tell         ──▶ as it is
 *
 * @module
 */
import type { NodePolicy } from "@weir/proto/policy";
import { type ApiClient, type KubernetesObject, RESOURCES } from "../api/mod.ts";
import {
  applyStatus,
  changedConditions,
  type Condition,
  conditionsOf,
  type StoredCondition,
} from "./conditions.ts";
import type { Feeds } from "./feeds.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace, Write } from "./write_queue.ts";
import { FIELD_MANAGER } from "./field_manager.ts";
import { Writer } from "./writer.ts";

/** Keeps pods away from a node whose Weir is not ready. Kubelets may register with it. */
export const NOT_READY_TAINT = "node.weir.dev/agent-not-ready";
const CONDITION = "NetworkUnavailable";
const READY_REASON = "WeirIsUp", NOT_READY_REASON = "WeirIsDown";
const PACE: Pace = { ratePerS: 10, burst: 50, parallelMax: 4, delayMs: 100 };
/** A node that was ready and is not in the directory any more: so long it may be that the directory was lost, not the node. */
const GONE_MS = 60_000;

interface Taint {
  key: string;
  value?: string;
  effect: string;
  timeAdded?: string;
}
interface Observed {
  name: string;
  uid?: string;
  resourceVersion?: string;
  taints: Taint[];
  condition: StoredCondition | undefined;
}

/** Writes taints and conditions of Nodes. */
export function readinessPart(context: PartContext): Part {
  const { feeds, client, term, clock } = context;
  const { nodes, nodePolicies } = feeds;
  const goneSinceMs = new Map<string, number>();
  const writer = new Writer<Observed>(client, term, {
    ...context,
    resource: RESOURCES.Node,
    prune: observedNode,
    plan: (name, observed) => {
      if (observed === undefined) return void goneSinceMs.delete(name);
      const isReady = readinessOf(name, feeds, observed.condition?.reason === READY_REASON);
      if (isReady !== "gone") goneSinceMs.delete(name);
      if (isReady === undefined) return undefined;
      if (isReady !== "gone") return planOf(client, observed, isReady, clock.nowMs());
      const sinceMs = goneSinceMs.get(name) ?? clock.monotonicMs();
      goneSinceMs.set(name, sinceMs);
      const leftMs = sinceMs + GONE_MS - clock.monotonicMs();
      if (leftMs <= 0) return planOf(client, observed, false, clock.nowMs());
      queueMicrotask(() => writer.changed(name, leftMs));
    },
    pace: PACE,
  });
  nodes.listen((name, value, previous) => value?.state !== previous?.state && writer.changed(name));
  nodePolicies.listen((name, value, previous) =>
    isHeard(value) !== isHeard(previous) && writer.changed(name)
  );
  return { writers: [writer], needs: [nodes, nodePolicies] };
}

/** Whether Weir is ready on a node; "gone": it was, and is not known any more; undefined: nobody can tell. */
export function readinessOf(
  name: string,
  { nodes, nodePolicies }: Pick<Feeds, "nodes" | "nodePolicies">,
  wasReady: boolean,
): boolean | "gone" | undefined {
  const node = nodes.get(name);
  if (node !== undefined) {
    if (node.state === "NODE_DEAD") return false;
    return isHeard(nodePolicies.get(name)) ? true : undefined;
  }
  if (!wasReady) return undefined;
  // A directory in which nobody lives was lost: no node is closed for that.
  return nodes.list().some(({ state }) => state !== "NODE_DEAD") ? "gone" : undefined;
}

/** Whether a node has said what is in force there: the engine lists those too that have not. */
function isHeard(policy: NodePolicy | undefined): boolean {
  return policy !== undefined && policy.heardUnixS > 0;
}

function planOf(client: ApiClient, observed: Observed, isReady: boolean, nowMs: number): Write | undefined {
  const now = new Date(nowMs).toISOString();
  const hasTaint = observed.taints.some(({ key }) => key === NOT_READY_TAINT);
  const condition: Condition = {
    type: CONDITION,
    status: isReady ? "False" : "True",
    reason: isReady ? READY_REASON : NOT_READY_REASON,
    message: isReady ? "Weir is running on this node" : "Weir does not run on this node, or is not heard",
  };
  const conditions = changedConditions(
    observed.condition === undefined ? [] : [observed.condition],
    [condition],
    now,
  );
  // A node is closed before it is said why, and opened after.
  if (!isReady && !hasTaint) return taintWrite(client, observed, [...observed.taints, ourTaint()]);
  if (conditions !== undefined) return applyStatus(client, RESOURCES.Node, observed, { conditions });
  if (isReady && hasTaint) {
    return taintWrite(client, observed, observed.taints.filter(({ key }) => key !== NOT_READY_TAINT));
  }
}

/** The list is one field: it is replaced as it was seen, or not at all. */
function taintWrite(client: ApiClient, { name, resourceVersion }: Observed, taints: Taint[]): Write {
  return {
    verb: "patch",
    run: (options) =>
      client.patch(RESOURCES.Node, name, {
        metadata: { resourceVersion },
        spec: { taints: taints.length === 0 ? null : taints },
      }, { ...options, fieldManager: FIELD_MANAGER }),
  };
}

function ourTaint(): Taint {
  return { key: NOT_READY_TAINT, effect: "NoSchedule" };
}

function observedNode(object: KubernetesObject): Observed {
  const { name, uid, resourceVersion } = object.metadata;
  const taints: unknown = object.spec?.taints;
  return {
    name,
    uid,
    resourceVersion,
    taints: Array.isArray(taints) ? taints : [],
    condition: conditionsOf(object).find(({ type }) => type === CONDITION),
  };
}
