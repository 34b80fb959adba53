/** How far an installation has come, and what keeps it from being whole. @module */
import { setTimeout as delay } from "node:timers/promises";
import { ApiServerError, type KubernetesObject } from "@weir/kubernetes/api";
import type { NamedCluster } from "./access.ts";
import { KINDS } from "./kinds.ts";

const LOOK_MS = 1000;

/** One part of Weir in the cluster. */
export interface PartState {
  /** "weir-control-plane", "weir-node". */
  readonly name: string;
  readonly wanted: number;
  readonly ready: number;
  /** Of the present version. */
  readonly updated: number;
  /** Why pods are not ready: "weir-node-x on node-1: ImagePullBackOff: ...". */
  readonly troubles: readonly string[];
  /** Every pod is of the present version and ready. */
  readonly whole: boolean;
}

/** The state of a Deployment or DaemonSet of Weir; undefined when there is none. */
export async function partState(
  cluster: NamedCluster,
  kind: "Deployment" | "DaemonSet",
  name: string,
): Promise<PartState | undefined> {
  const { client, namespace } = cluster;
  let object: KubernetesObject;
  try {
    object = await client.get(KINDS[kind], name, { namespace });
  } catch (error) {
    if (error instanceof ApiServerError && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
  const { spec = {}, status = {}, metadata } = object;
  const [wanted, updated, ready] = kind === "Deployment"
    ? [spec.replicas ?? 1, status.updatedReplicas ?? 0, status.availableReplicas ?? 0]
    : [
      status.desiredNumberScheduled ?? 0,
      status.updatedNumberScheduled ?? 0,
      status.numberAvailable ?? 0,
    ];
  const seen = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const old = kind === "Deployment" ? (status.replicas ?? 0) - updated : 0;
  const whole = seen && updated >= wanted && ready >= wanted && old === 0;
  const troubles = whole ? [] : await podTroubles(cluster, spec.selector?.matchLabels ?? {});
  return { name, wanted, ready, updated: seen ? updated : 0, troubles, whole };
}

/** How a wait ends, and who hears of it. */
export interface WaitOptions {
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  /** Told each time when something has changed: "weir-node: 1 of 3 updated, 2 ready". */
  readonly report?: (text: string) => void;
}

/** Waits until a part is whole. @returns its last state */
export async function waitForPart(
  cluster: NamedCluster,
  kind: "Deployment" | "DaemonSet",
  name: string,
  { deadlineMs, signal, report }: WaitOptions,
): Promise<PartState | undefined> {
  for (let told = "";;) {
    const state = await partState(cluster, kind, name), text = progressText(state, kind);
    if (text !== "" && text !== told) report?.(told = text);
    if (state?.whole || performance.now() > deadlineMs || signal.aborted) return state;
    await delay(LOOK_MS);
  }
}

function progressText(state: PartState | undefined, kind: string): string {
  // Of no nodes: the controller has not looked yet.
  if (state === undefined || state.wanted === 0) return "";
  const { name, wanted, updated, ready } = state, what = kind === "DaemonSet" ? "nodes" : "pods";
  return `${name}: ${updated} of ${wanted} ${what} updated, ${ready} ready`;
}

/** What pods wait for, worst first as the API server lists them. */
async function podTroubles(cluster: NamedCluster, labels: Record<string, string>): Promise<string[]> {
  const labelSelector = Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(",");
  const { items } = await cluster.client.list(KINDS.Pod, { namespace: cluster.namespace, labelSelector });
  return items.flatMap((pod) => {
    const text = troubleOf(pod);
    const where = pod.spec?.nodeName ? ` on ${pod.spec.nodeName}` : "";
    return text === undefined ? [] : [`${pod.metadata.name}${where}: ${text}`];
  });
}

function troubleOf({ status = {}, metadata }: KubernetesObject): string | undefined {
  if (metadata.deletionTimestamp !== undefined) return "it is ending";
  const conditions: { type: string; status: string; reason?: string; message?: string }[] =
    status.conditions ??
      [];
  const isTrue = (type: string) => conditions.find((one) => one.type === type)?.status === "True";
  if (isTrue("Ready")) return undefined;
  const scheduled = conditions.find((one) => one.type === "PodScheduled");
  if (scheduled?.status === "False") return `${scheduled.reason}: ${scheduled.message}`;
  const [container] = status.containerStatuses ?? [];
  const waiting = container?.state?.waiting;
  const last = container?.lastState?.terminated?.message?.trim().split("\n").at(-1);
  if (waiting?.reason !== undefined) {
    return [waiting.reason, waiting.message, last].filter((one) => one).join(": ");
  }
  return container?.state?.running === undefined ? status.phase : "it runs, and is not ready yet";
}
