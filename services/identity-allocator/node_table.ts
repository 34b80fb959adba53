/** Nodes and their pod CIDRs, within one transaction of the store. @module */
import { sql } from "kysely";
import { Node } from "@weir/proto/identity";
import { invalidArgument, IpAddress, ProblemError, unixSeconds } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AllocatorParts } from "./config.ts";
import type { PodCidrs } from "./pod_cidrs.ts";
import { releaseBlocks, settleBlocks } from "./pool_blocks.ts";

/** Name of the watched collection. */
export const NODES = "nodes";

/** Nodes of one cluster. */
export const NODES_MAX = 16_384;
/** Bytes of one node: every other node gets them. */
export const NODE_BYTES_MAX = 16_384;

/** An upsert of a node. */
export interface NodePut {
  readonly name: string;
  readonly given: Node;
  /** Throws when whoever sent it may not put this; is told what is stored. */
  readonly judge?: (before: Node | undefined) => void;
}

/**
 * Upsert of a node. Empty pod CIDRs are filled in: what the node has, else a free one; no labels: those it has. A node that
 * was dead is known again. Only a change is published; a repeated PUT is a heartbeat.
 */
export async function putNode(
  store: StoreTransaction,
  parts: AllocatorParts,
  cidrs: PodCidrs,
  { name, given, judge }: NodePut,
): Promise<Node> {
  const before = await store.get<Node>(NODES, name);
  judge?.(before);
  const node = Node.create({
    ...given,
    name,
    ipv4: addressText(given.ipv4, 4),
    ipv6: addressText(given.ipv6, 6),
    podCidrV4: await cidrs.give(store, name, given.podCidrV4, 4),
    podCidrV6: await cidrs.give(store, name, given.podCidrV6, 6),
    requestedPools: given.requestedPools,
    pools: await settleBlocks(store, name, given),
    releasedCidrs: [],
    labels: given.labels.length === 0 ? before?.labels ?? [] : given.labels,
    heartbeatUnixS: 0,
    state: "NODE_KNOWN",
    stateSinceUnixS: before?.state === "NODE_DEAD"
      ? Math.floor(unixSeconds(parts.clock))
      : before?.stateSinceUnixS ?? 0,
  });
  checkSize(node);
  if (before === undefined || JSON.stringify(before) !== JSON.stringify(node)) {
    await store.put(NODES, name, node);
  }
  return node;
}

/** Deletes a node and frees its pod CIDRs. False when there was none. */
export async function deleteNode(store: StoreTransaction, cidrs: PodCidrs, name: string): Promise<boolean> {
  await cidrs.release(store, name);
  await releaseBlocks(store, name);
  await sql`delete from weir_heartbeat where node = ${name}`.execute(store.tx);
  return await store.delete(NODES, name);
}

/** The node was given up. False when it is not registered, or was dead already. */
export async function markDead(
  store: StoreTransaction,
  parts: AllocatorParts,
  name: string,
): Promise<boolean> {
  const node = await store.get<Node>(NODES, name);
  if (node === undefined || node.state === "NODE_DEAD") return false;
  await store.put<Node>(NODES, name, {
    ...node,
    state: "NODE_DEAD",
    stateSinceUnixS: Math.floor(unixSeconds(parts.clock)),
  });
  return true;
}

function addressText(text: string, family: 4 | 6): string {
  if (text === "") return "";
  const address = IpAddress.tryParse(text);
  if (address?.family !== family) {
    throw invalidArgument("Cannot take the node: one of its addresses is wrong", {
      found: text,
      expected: `an IPv${family} address`,
    });
  }
  return address.text;
}

function checkSize(node: Node): void {
  const bytes = Node.encode(node).length;
  if (bytes <= NODE_BYTES_MAX) return;
  throw new ProblemError("NODE_TOO_LARGE", {
    status: 413,
    detail: `Cannot take node ${node.name}: it has ${bytes} bytes`,
    found: bytes,
    expected: `at most ${NODE_BYTES_MAX} bytes`,
    action: "Leave out labels that nothing selects",
  });
}
