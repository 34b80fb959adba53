/**
 * What explain asks of the cluster and the nodes, all at once: what exists, as each service tells it. A service that does not
 * answer is a fact too: what it would have said is not known.
 *
 * @module
 */
import type { Message } from "@weir/proto";
import { Probes } from "@weir/proto/datapath";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { Endpoint } from "@weir/proto/endpoint";
import { Backend, Service } from "@weir/proto/loadbalancer";
import { NodePolicy } from "@weir/proto/policy";
import { clientOf } from "../clients.ts";
import type { CommandContext, NodeTarget, ServiceName } from "../context.ts";
import { question } from "@weir/client/status";

/** An endpoint and where it is. */
export interface PlacedEndpoint {
  readonly node: string;
  readonly target: NodeTarget;
  readonly endpoint: Endpoint;
}

/** All that is known; empty lists where {@link ClusterFacts.silent} says that nobody answered. */
export interface ClusterFacts {
  readonly ipcache: readonly IpcacheEntry[];
  readonly nodes: readonly Node[];
  readonly endpoints: readonly PlacedEndpoint[];
  readonly services: readonly Service[];
  readonly backends: readonly Backend[];
  /** What each node has in force. */
  readonly policies: readonly NodePolicy[];
  /** The ways between nodes, by the node that probes; undefined where its datapath does not answer. */
  readonly probes: ReadonlyMap<string, Probes | undefined>;
  /** Who did not answer, "endpoint-manager of node-2", and how it did not. */
  readonly silent: ReadonlyMap<string, string>;
}

/** Asks all of it. Ends within the deadline of a question. */
export async function clusterFacts(context: CommandContext): Promise<ClusterFacts> {
  const silent = new Map<string, string>();
  const list = async <T>(
    service: ServiceName,
    collection: string,
    type: Message<T>,
    target?: NodeTarget,
  ): Promise<T[]> => {
    const answer = await question(
      clientOf(context, service, target),
      async (client) => (await client.collection(collection, type).list()).items,
    );
    if (answer.kind === "answered") return answer.value;
    const who = target === undefined ? service : `${service} of ${target.node}`;
    silent.set(who, answer.error);
    return [];
  };
  const [ipcache, nodes, services, backends, policies, placed, probes] = await Promise.all([
    list("identity-allocator", "ipcache", IpcacheEntry),
    list("identity-allocator", "nodes", Node),
    list("load-balancer", "services", Service),
    list("load-balancer", "backends", Backend),
    list("policy-engine", "nodepolicies", NodePolicy),
    Promise.all(
      context.nodes().map(async (target) => {
        const endpoints = await list("endpoint-manager", "endpoints", Endpoint, target);
        return endpoints.map((endpoint): PlacedEndpoint => ({ node: target.node, target, endpoint }));
      }),
    ),
    Promise.all(
      context.nodes().map(async (target): Promise<[string, Probes | undefined]> => {
        const answer = await question(
          clientOf(context, "datapath", target),
          (client) => client.call("/v1/probes", { method: "GET", response: Probes }),
        );
        return [target.node, answer.kind === "answered" ? answer.value : undefined];
      }),
    ),
  ]);
  return {
    ipcache,
    nodes,
    services,
    backends,
    policies,
    endpoints: placed.flat(),
    probes: new Map(probes),
    silent,
  };
}
