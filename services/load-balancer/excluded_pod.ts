/** Why a pod that a service selects gets none of its connections. Pure. @module */
import type { ExcludedPod, Pod } from "@weir/proto/loadbalancer";
import type { Candidates } from "./backend_candidates.ts";
import { portKey, type ServiceSpec } from "./model.ts";

/** Most that a service names. */
export const EXCLUDED_MAX = 16;

/** Undefined: each port of the service has the pod as a backend. */
export function excludedPod(pod: Pod, spec: ServiceSpec, candidates: Candidates): ExcludedPod | undefined {
  const without = spec.ports.filter((port) => (candidates.get(portKey(port)) ?? []).length === 0);
  if (without.length === 0) return undefined;
  return { pod: pod.name, node: pod.node, reason: reasonOf(pod, spec, without) };
}

function reasonOf(pod: Pod, spec: ServiceSpec, without: readonly ServiceSpec["ports"][number][]): string {
  if (pod.state === "BACKEND_STATE_UNSPECIFIED" && !spec.publishNotReady) {
    return pod.message === "" ? "it is not ready" : `it is not ready: ${pod.message}`;
  }
  if (pod.addresses.length === 0) return "it has no address yet";
  const nameless = without.find(({ targetPort, protocol }) =>
    typeof targetPort === "string" &&
    !pod.ports.some((one) => one.name === targetPort && one.protocol === protocol)
  );
  if (nameless !== undefined) {
    const names = pod.ports.filter(({ name }) => name !== "").map(({ name, port }) => `${name} (${port})`);
    return `none of its containers has a ${nameless.protocol} port named ${nameless.targetPort}: they have ${
      names.join(", ") || "no named port"
    }`;
  }
  return without.some(({ protocol }) => protocol === "SCTP")
    ? "its SCTP port is another than the service's, and SCTP ports are not rewritten"
    : "it has no address of the service's family";
}
