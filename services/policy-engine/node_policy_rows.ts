/**
 * What nodes have in force, in the database that all replicas share: rows are written in batches, each with the next number, so that a
 * replica reads what is newer than the last number that it read.
 * @module
 */
import { sql } from "kysely";
import type { Database, Migration } from "@weir/common/state";

/** Points that are kept: so far back a node may be and still be told apart. */
export const POLICY_POINTS_MAX = 4096;
const ROWS_AT_ONCE = 500;

/** Steps of the schema, append-only. */
export const NODE_POLICY_MIGRATIONS: readonly Migration[] = [{
  name: "policy-2-nodes",
  async up(tx) {
    const real = sql.raw("double precision");
    await sql`create table weir_node_policy (node text primary key, epoch text not null, revision bigint not null,
      policy_revision bigint not null, since_unix_s ${real} not null, error text not null, endpoints integer not null,
      heard_unix_s ${real} not null, batch bigint not null)`.execute(tx);
    await sql`create index weir_node_policy_batch on weir_node_policy (batch)`.execute(tx);
    await sql`create table weir_policy_point (epoch text not null, revision bigint not null,
      policy_revision bigint not null, unix_s ${real} not null, batch bigint not null,
      primary key (epoch, policy_revision))`.execute(tx);
    await sql`create index weir_policy_point_batch on weir_policy_point (batch)`.execute(tx);
    await sql`create table weir_node_policy_counter (id integer primary key, batch bigint not null)`.execute(
      tx,
    );
    await sql`insert into weir_node_policy_counter (id, batch) values (1, 0)`.execute(tx);
  },
}];

/** A policy set was published: from this revision of an engine's tables on. */
export interface Point {
  readonly epoch: string;
  readonly revision: number;
  readonly policyRevision: number;
  readonly unixS: number;
  /** The policy set with its tag; undefined where another replica, or an earlier life, published it. */
  readonly policySet?: string;
}

/** What is kept of a node. */
export interface Told {
  node: string;
  epoch: string;
  revision: number;
  policyRevision: number;
  sinceUnixS: number;
  error: string;
  endpoints: number;
  heardUnixS: number;
}

/** What was written since a batch. */
export interface NodePolicyRows {
  readonly nodes: readonly Told[];
  readonly points: readonly Point[];
  /** The newest batch. */
  readonly batch: number;
  /** The database knows fewer batches than were read: it is another copy of itself, and all of it is here. */
  readonly isOlder: boolean;
}

/** Reads what other replicas, or an earlier life, wrote after batch `since`; -1: everything. @throws what the database says */
export async function readNodePolicies(database: Database, since: number): Promise<NodePolicyRows> {
  return await database.query(async (kysely) => {
    const { rows } = await sql<{ batch: string | number }>`
      select batch from weir_node_policy_counter where id = 1`.execute(kysely);
    const batch = Number(rows[0].batch), isOlder = batch < since, from = isOlder ? -1 : since;
    if (batch === from) return { nodes: [], points: [], batch, isOlder };
    const points = await sql<
      Record<string, string | number>
    >`select epoch, revision, policy_revision, unix_s
      from weir_policy_point where batch > ${from} order by policy_revision`.execute(kysely);
    const nodes = await sql<Record<string, string | number>>`select node, epoch, revision, policy_revision,
      since_unix_s, error, endpoints, heard_unix_s from weir_node_policy where batch > ${from}`.execute(
      kysely,
    );
    return {
      nodes: nodes.rows.map((row) => ({
        node: String(row.node),
        epoch: String(row.epoch),
        revision: Number(row.revision),
        policyRevision: Number(row.policy_revision),
        sinceUnixS: Number(row.since_unix_s),
        error: String(row.error),
        endpoints: Number(row.endpoints),
        heardUnixS: Number(row.heard_unix_s),
      })),
      points: points.rows.map((row) => ({
        epoch: String(row.epoch),
        revision: Number(row.revision),
        policyRevision: Number(row.policy_revision),
        unixS: Number(row.unix_s),
      })),
      batch,
      isOlder,
    };
  });
}

/**
 * Writes points and nodes as the next batch, all or nothing.
 * @param nodes by name; undefined: it is gone
 * @throws what the database says
 */
export async function writeNodePolicies(
  database: Database,
  nodes: ReadonlyMap<string, Told | undefined>,
  points: readonly Point[],
): Promise<void> {
  const names = [...nodes.keys()];
  await database.transaction(async (tx) => {
    const { rows } = await sql<{ batch: string | number }>`
      update weir_node_policy_counter set batch = batch + 1 where id = 1 returning batch`.execute(tx);
    const batch = Number(rows[0].batch);
    for (const { epoch, revision, policyRevision, unixS } of points) {
      await sql`insert into weir_policy_point (epoch, revision, policy_revision, unix_s, batch)
        values (${epoch}, ${revision}, ${policyRevision}, ${unixS}, ${batch})
        on conflict (epoch, policy_revision) do nothing`.execute(tx);
    }
    if (points.length > 0) {
      await sql`delete from weir_policy_point where policy_revision < (select min(policy_revision) from
        (select policy_revision from weir_policy_point order by policy_revision desc limit ${POLICY_POINTS_MAX}) newest)`
        .execute(tx);
    }
    for (let i = 0; i < names.length; i += ROWS_AT_ONCE) {
      const part = names.slice(i, i + ROWS_AT_ONCE);
      const told = part.flatMap((name) => nodes.get(name) ?? []);
      const gone = part.filter((name) => nodes.get(name) === undefined);
      if (gone.length > 0) {
        await sql`delete from weir_node_policy where node in (${sql.join(gone)})`.execute(tx);
      }
      if (told.length === 0) continue;
      const values = told.map((each) =>
        sql`(${each.node}, ${each.epoch}, ${each.revision}, ${each.policyRevision}, ${each.sinceUnixS},
          ${each.error}, ${each.endpoints}, ${each.heardUnixS}, ${batch})`
      );
      await sql`insert into weir_node_policy (node, epoch, revision, policy_revision, since_unix_s, error, endpoints,
          heard_unix_s, batch) values ${sql.join(values)}
        on conflict (node) do update set epoch = excluded.epoch, revision = excluded.revision,
          policy_revision = excluded.policy_revision, since_unix_s = excluded.since_unix_s, error = excluded.error,
          endpoints = excluded.endpoints, heard_unix_s = excluded.heard_unix_s, batch = excluded.batch`
        .execute(tx);
    }
  });
}
