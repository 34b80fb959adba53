/** Nodes and their pod CIDRs, within one transaction of the store. @module */
import { sql } from "kysely";
import { Node } from "@weir/proto/identity";
import { invalidArgument, IpAddress, Prefix, ProblemError, unixSeconds } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AllocatorParts } from "./config.ts";

/** Name of the watched collection. */
export const NODES = "nodes";

/**
 * Upsert of a node. Empty pod CIDRs are filled in: what the node has, else a free one; no labels: those it has. Only a change is published; a
 * repeated PUT is a heartbeat.
 */
export async function putNode(
  store: StoreTransaction,
  parts: AllocatorParts,
  name: string,
  given: Node,
): Promise<Node> {
  const { config } = parts;
  await heartbeat(store, parts, name);
  const before = await store.get<Node>(NODES, name);
  const node = Node.create({
    ...given,
    name,
    ipv4: addressText(given.ipv4, 4),
    ipv6: addressText(given.ipv6, 6),
    podCidrV4: await podCidr(store, name, given.podCidrV4, {
      pool: config.podPoolV4,
      length: config.podLengthV4,
    }, 4),
    podCidrV6: await podCidr(store, name, given.podCidrV6, {
      pool: config.podPoolV6,
      length: config.podLengthV6,
    }, 6),
    labels: given.labels.length === 0 ? before?.labels ?? [] : given.labels,
    heartbeatUnixS: 0,
  });
  if (before === undefined || JSON.stringify(before) !== JSON.stringify(node)) {
    await store.put(NODES, name, node);
  }
  return node;
}

/** Deletes a node and frees its pod CIDRs. False when there was none. */
export async function deleteNode(store: StoreTransaction, name: string): Promise<boolean> {
  await sql`delete from weir_pod_cidr where node = ${name}`.execute(store.tx);
  await sql`delete from weir_heartbeat where node = ${name}`.execute(store.tx);
  return await store.delete(NODES, name);
}

/** The node was heard of now. */
export async function heartbeat(store: StoreTransaction, parts: AllocatorParts, name: string): Promise<void> {
  const now = unixSeconds(parts.clock);
  await sql`insert into weir_heartbeat (node, unix_s) values (${name}, ${now})
    on conflict (node) do update set unix_s = excluded.unix_s`.execute(store.tx);
}

/** When each node was heard of last, in Unix seconds. */
export async function heartbeats(store: Pick<StoreTransaction, "tx">): Promise<Map<string, number>> {
  const { rows } = await sql<{ node: string; unix_s: number }>`select node, unix_s from weir_heartbeat`
    .execute(store.tx);
  return new Map(rows.map((row) => [row.node, Number(row.unix_s)]));
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

async function podCidr(
  store: StoreTransaction,
  node: string,
  wanted: string,
  { pool, length }: { pool: string; length: number },
  family: 4 | 6,
): Promise<string> {
  const own = await sql<{ cidr: string }>`
    select cidr from weir_pod_cidr where node = ${node} and family = ${family}`.execute(store.tx);
  const has = own.rows[0]?.cidr;
  if (wanted === "") {
    if (has !== undefined) return has;
    return pool === "" ? "" : await takeFree(store, node, Prefix.parse(pool), length, family);
  }
  const prefix = Prefix.tryParse(wanted, { bare: false });
  if (prefix?.family !== family) {
    throw invalidArgument("Cannot take the node: its pod CIDR is wrong", {
      found: wanted,
      expected: `an IPv${family} prefix`,
    });
  }
  if (prefix.text === has) return has;
  const { rows } = await sql<{ cidr: string; node: string }>`
    select cidr, node from weir_pod_cidr where family = ${family} and node <> ${node}`.execute(store.tx);
  const clash = rows.find((row) => {
    const other = Prefix.parse(row.cidr);
    return other.contains(prefix) || prefix.contains(other);
  });
  if (clash !== undefined) {
    throw new ProblemError("POD_CIDR_TAKEN", {
      status: 409,
      detail:
        `Cannot give ${prefix.text} to node ${node}: it overlaps with ${clash.cidr} of node ${clash.node}`,
      found: `${clash.cidr} of ${clash.node}`,
      expected: "a prefix of its own",
      action: "Leave the pod CIDR empty to get a free one",
    });
  }
  await sql`delete from weir_pod_cidr where node = ${node} and family = ${family}`.execute(store.tx);
  await insertCidr(store, node, prefix.text, family);
  return prefix.text;
}

/** The first free prefix of the pool. Prefixes that were asked for by hand may have another length. */
async function takeFree(
  store: StoreTransaction,
  node: string,
  pool: Prefix,
  length: number,
  family: 4 | 6,
): Promise<string> {
  const { rows } = await sql<{ cidr: string }>`
    select cidr from weir_pod_cidr where family = ${family}`.execute(store.tx);
  const taken = rows.map((row) => Prefix.parse(row.cidr));
  const exact = new Set(rows.map((row) => row.cidr));
  const odd = taken.filter((prefix) => prefix.length !== length);
  const count = 2 ** Math.min(length - pool.length, 24);
  const step = 1n << BigInt((family === 4 ? 32 : 128) - length);
  for (let i = 0; i < count; i++) {
    const candidate = Prefix.of(pool.address.add(step * BigInt(i)), length);
    if (exact.has(candidate.text)) continue;
    if (odd.some((prefix) => prefix.contains(candidate) || candidate.contains(prefix))) continue;
    await insertCidr(store, node, candidate.text, family);
    return candidate.text;
  }
  throw new ProblemError("POD_CIDRS_EXHAUSTED", {
    status: 507,
    detail: `Cannot give node ${node} a pod CIDR: all ${count} of ${pool.text} are taken`,
    found: count,
    expected: `fewer than ${count} nodes`,
    action: "Delete nodes that are gone, or configure a larger pool",
  });
}

async function insertCidr(
  store: StoreTransaction,
  node: string,
  cidr: string,
  family: number,
): Promise<void> {
  await sql`insert into weir_pod_cidr (cidr, node, family) values (${cidr}, ${node}, ${family})`.execute(
    store.tx,
  );
}
