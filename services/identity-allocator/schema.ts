/**
 * The allocator's own tables beside the watched objects. The indexes are what makes two allocators agree: labels and
 * numbers are unique, a pod CIDR belongs to one node, a holder holds one identity.
 * @module
 */
import { sql } from "kysely";
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
}];
