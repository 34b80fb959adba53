/** CiliumNode: every node that runs Weir, with its addresses, its pods' prefixes and whether it is alive. @module */
import type { Node } from "@weir/proto/identity";
import { RESOURCES } from "../api/mod.ts";
import type { Condition } from "./conditions.ts";
import { ObjectWriter, type Wanted } from "./object_writer.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace } from "./write_queue.ts";

const PACE: Pace = { ratePerS: 10, burst: 50, parallelMax: 4, delayMs: 500 };
/** A node whose directory was lost comes back within its heartbeat. */
const DELETE_DELAY_MS = 60_000;
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** Writes the nodes. */
export function nodePart(context: PartContext): Part {
  const { feeds: { nodes, kubernetesNodes }, client, term } = context;
  const objects = new ObjectWriter(client, term, {
    ...context,
    resource: RESOURCES.CiliumNode,
    fields: ["spec"],
    wanted: (name) => wantedNode(nodes.get(name), kubernetesNodes.get(name)?.uid),
    conditions: (name) => nodeConditions(nodes.get(name)),
    keys: () => nodes.list().map(({ name }) => name),
    isComplete: () => nodes.synced,
    pace: PACE,
    deleteDelayMs: DELETE_DELAY_MS,
  });
  nodes.listen((name) => objects.writer.changed(name));
  kubernetesNodes.listen((name) => objects.writer.changed(name));
  return { writers: [objects.writer], needs: [nodes, kubernetesNodes] };
}

/**
 * The object of a node; undefined when it can have none.
 * @param uid of its Kubernetes node, with which it goes; undefined: it is none
 */
export function wantedNode(node: Node | undefined, uid: string | undefined): Wanted | undefined {
  if (node === undefined || !NAME.test(node.name)) return undefined;
  const { name } = node;
  return {
    metadata: {
      name,
      ...(uid === undefined ? {} : { ownerReferences: [{ apiVersion: "v1", kind: "Node", name, uid }] }),
    },
    body: {
      spec: {
        addresses: [node.ipv4, node.ipv6].filter((ip) => ip !== "").map((ip) => ({ type: "InternalIP", ip })),
        ipam: {
          podCIDRs: [node.podCidrV4, node.podCidrV6].filter((prefix) => prefix !== ""),
          ...poolsOf(node),
        },
      },
    },
  };
}

/** What the node asks and has of named pools, in Cilium's words; nothing where there are none. */
function poolsOf({ requestedPools, pools }: Node): Record<string, unknown> {
  if (requestedPools.length === 0 && pools.length === 0) return {};
  return {
    pools: {
      requested: requestedPools.map(({ pool, neededV4, neededV6 }) => ({
        pool,
        needed: { "ipv4-addrs": neededV4, "ipv6-addrs": neededV6 },
      })),
      allocated: pools.map(({ pool, cidrs }) => ({ pool, cidrs })),
    },
  };
}

function nodeConditions(node: Node | undefined): Condition[] | undefined {
  if (node === undefined) return undefined;
  const isDead = node.state === "NODE_DEAD";
  return [{
    type: "Ready",
    status: isDead ? "False" : "True",
    reason: isDead ? "NodeSilent" : "NodeHeard",
    message: isDead
      ? "Weir's agent on it has not been heard for too long: what it announced was given up"
      : "Weir's agent on it says that it is alive",
  }];
}
