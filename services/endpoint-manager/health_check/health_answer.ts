/**
 * What load balancers in front of the cluster hear of a service whose external traffic stays on the node: how many ready backends
 * this node has. Pure.
 * @module
 */
import { IpAddress } from "@weir/common";
import type { ServiceState } from "../service_delta.ts";
import { isServedHere, type NodePlace } from "../service_view.ts";

/** What is said of one service. */
export interface HealthAnswer {
  readonly namespace: string;
  readonly name: string;
  /** Ready backends of the service on this node; one of two families, or of several ports, is one. */
  readonly localEndpoints: number;
  /** The kernel serves the service as it should. */
  readonly isServed: boolean;
}

/** What is said of the service whose ports these are; undefined: this node does not serve it. */
export function healthAnswerOf(states: readonly ServiceState[], place: NodePlace): HealthAnswer | undefined {
  const [first, ...rest] = states.flatMap(({ port }) => port ?? []);
  if (first === undefined || !isServedHere(first, place)) return undefined;
  const { namespace, service: name } = first;
  // A port number that two services claim is the first one's.
  const others = rest.filter((port) => port.namespace !== namespace || port.service !== name);
  const own = states.filter(({ port }) => port !== undefined && !others.includes(port));
  const local = { 4: new Set<string>(), 6: new Set<string>() };
  for (const { backends } of own) {
    for (const { address, node, state } of backends.values()) {
      const isReady = state === "ACTIVE" || state === "BACKEND_STATE_UNSPECIFIED";
      if (isReady && node === place.nodeName) local[IpAddress.parse(address).family].add(address);
    }
  }
  return {
    namespace,
    name,
    localEndpoints: Math.max(local[4].size, local[6].size),
    isServed: own.every(({ given, failure }) => given !== undefined && failure === undefined),
  };
}

/** Status, header fields and body of the answer over HTTP, as kube-proxy gives them. */
export function httpAnswer(answer: HealthAnswer): { status: 200 | 503; headers: string[]; body: string } {
  const { namespace, name, localEndpoints, isServed } = answer;
  return {
    status: localEndpoints > 0 && isServed ? 200 : 503,
    headers: [
      "Content-Type: application/json",
      "X-Content-Type-Options: nosniff",
      `X-Load-Balancing-Endpoint-Weight: ${localEndpoints}`,
    ],
    body: JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy: isServed }),
  };
}
