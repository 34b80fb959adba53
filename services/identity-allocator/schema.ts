/**
 * The allocator's own tables beside the watched objects. The indexes are what makes two allocators agree: labels and
 * numbers are unique, a pod CIDR belongs to one node, a holder holds one identity.
 *
 * | table               | row                                                                              |
 * | ------------------- | -------------------------------------------------------------------------------- |
 * | weir_identity       | a number and its labels                                                          |
 * | weir_identity_cursor | where the search for the next free number begins                                |
 * | weir_holder         | an endpoint and its number                                                       |
 * | weir_claimed_number | a number that an endpoint uses until it has moved to another: not to be handed out |
 * | weir_claim_grace    | until when nothing but claims makes new numbers                                  |
 * | weir_pod_cidr       | a node's pod CIDR                                                                |
 * | weir_pool_block     | a block of a named pool, and the node that has it                                |
 * | weir_heartbeat      | when a node was heard of                                                         |
 * @module
 */
import { sql, type Transaction } from "kysely";
import { Holder, Holdings } from "@weir/proto/identity";
import { SetDigest } from "@weir/common";
import type { Migration } from "@weir/common/state";

/** Steps of the schema, append-only. */
export const MIGRATIONS: readonly Migration[] = [{
  name: "identity-1",
  async up(tx) {
    const real = sql.raw("double precision");
    await sql`create table weir_identity (
      number integer primary key,
      labels text not null unique,
      released_unix_s ${real} not null)`.execute(tx);
    await sql`create table weir_identity_cursor (id integer primary key, next integer not null)`.execute(tx);
    await sql`create table weir_holder (
      node text not null,
      holder text not null,
      number integer not null references weir_identity (number),
      primary key (node, holder))`.execute(tx);
    await sql`create index weir_holder_number on weir_holder (number)`.execute(tx);
    await sql`create table weir_pod_cidr (
      cidr text primary key,
      node text not null,
      family integer not null,
      unique (node, family))`.execute(tx);
    await sql`create table weir_heartbeat (node text primary key, unix_s ${real} not null)`.execute(tx);
  },
}, {
  name: "identity-2",
  async up(tx) {
    const real = sql.raw("double precision");
    await sql`create table weir_claimed_number (
      number integer primary key,
      node text not null,
      until_unix_s ${real} not null)`.execute(tx);
    await sql`create table weir_claim_grace (id integer primary key, until_unix_s ${real} not null)`.execute(
      tx,
    );
    await sumHoldings(tx);
  },
}, {
  name: "identity-3",
  async up(tx) {
    await sql`create table weir_pool_block (
      cidr text primary key,
      node text not null,
      pool text not null,
      family integer not null)`.execute(tx);
    await sql`create index weir_pool_block_node on weir_pool_block (node)`.execute(tx);
  },
}];

/** Sums of what was held before there were sums. */
async function sumHoldings(tx: Transaction<unknown>): Promise<void> {
  const { rows } = await sql<Holder>`select node, holder, number from weir_holder`.execute(tx);
  const byNode = new Map<string, SetDigest>();
  for (const row of rows) {
    const digest = byNode.get(row.node) ?? new SetDigest();
    digest.add(Holder.encode(row));
    byNode.set(row.node, digest);
  }
  for (const [node, { count, text }] of byNode) {
    const body = Holdings.encode({ node, holdersCount: count, holdersDigest: text });
    await sql`insert into weir_objects (collection, name, revision, body)
      values ('holdings', ${node}, (select revision from weir_revision where id = 1), ${body})`.execute(tx);
  }
}
