/**
 * Tables of the {@link Store} in the database.
 *
 *     weir_revision   one row: the counter, and the tag of the transaction that moved it last
 *     weir_objects    what there is now
 *     weir_log        the newest changes; all of one transaction carry its tag
 *     weir_epoch      one row per start of a process and per restored database, in this order
 *
 * @module
 */
import { sql, type Transaction } from "kysely";
import type { Migration } from "./database.ts";
import { type EpochStart, randomEpoch } from "./epoch.ts";

/** Changes kept in the log. */
export const STORE_LOG_MAX = 20_000;
/** Epochs kept: a position of an older one is told to list anew. */
const EPOCHS_MAX = 256;

/** The store's own tables. */
export const STORE_MIGRATIONS: readonly Migration[] = [{
  name: "store-1",
  async up(tx, kind) {
    const bytes = sql.raw(kind === "postgres" ? "bytea" : "blob");
    await sql`create table weir_revision (id integer primary key, revision bigint not null)`.execute(tx);
    await sql`insert into weir_revision (id, revision) values (1, 1)`.execute(tx);
    await sql`create table weir_objects (collection text not null, name text not null, revision bigint not null,
      body ${bytes} not null, primary key (collection, name))`.execute(tx);
    await sql`create table weir_log (revision bigint primary key, collection text not null, name text not null,
      body ${bytes})`.execute(tx);
  },
}, {
  name: "store-2-epoch",
  async up(tx) {
    await sql`alter table weir_revision add column tag text not null default ''`.execute(tx);
    await sql`alter table weir_log add column tag text not null default ''`.execute(tx);
    await sql`create table weir_epoch (id integer primary key, epoch text not null,
      from_revision bigint not null)`.execute(tx);
  },
}];

/** A place in the counter: its revision and the tag of the transaction that made it. */
export interface Head {
  revision: number;
  tag: string;
}

/** One row of the log. */
export interface LogRow extends Head {
  collection: string;
  name: string;
  /** null: deleted */
  body: Uint8Array | null;
}

/** One row of what there is. */
export interface ObjectRow {
  collection: string;
  name: string;
  revision: number;
  body: Uint8Array;
}

type Tx = Transaction<unknown>;
/** As both drivers give rows: PostgreSQL has 64-bit integers as texts. */
type Raw<R> = Omit<R, "revision"> & { revision: string | number };

/** The counter, locked until the transaction's end. */
export async function lockHead(tx: Tx): Promise<Head> {
  const { rows } = await sql<Raw<Head>>`
    update weir_revision set revision = revision where id = 1 returning revision, tag`.execute(tx);
  return toNumber(rows[0]);
}

/** Moves the counter, and drops what the log need not hold any more. */
export async function moveHead(tx: Tx, { revision, tag }: Head): Promise<void> {
  await sql`update weir_revision set revision = ${revision}, tag = ${tag} where id = 1`.execute(tx);
  await sql`delete from weir_log where revision <= ${revision - STORE_LOG_MAX}`.execute(tx);
}

/** The counter's revision and tag, and the oldest revision of the log. */
export async function readHead(tx: Tx): Promise<Head & { oldest?: number }> {
  const { rows } = await sql<Raw<Head> & { oldest: string | number | null }>`
    select revision, tag, (select min(revision) from weir_log) as oldest
    from weir_revision where id = 1`.execute(tx);
  const { oldest } = rows[0];
  return { ...toNumber(rows[0]), oldest: oldest === null ? undefined : Number(oldest) };
}

/** Rows that one statement reads: each has a deadline, however large the table is. */
const ROWS_AT_ONCE = 5000;

/** Up to `max` rows of the log from `revision` on. */
export async function readLog(tx: Tx, revision: number, max: number): Promise<LogRow[]> {
  const all: LogRow[] = [];
  while (all.length < max) {
    const wanted = Math.min(ROWS_AT_ONCE, max - all.length);
    const from = all.length === 0 ? revision : all[all.length - 1].revision + 1;
    const { rows } = await sql<Raw<LogRow>>`
      select revision, tag, collection, name, body from weir_log where revision >= ${from}
      order by revision limit ${wanted}`.execute(tx);
    for (const row of rows) all.push(toNumber(row) as LogRow);
    if (rows.length < wanted) break;
  }
  return all;
}

/** Tag of one revision of the log; undefined when it is not there. */
export async function readTag(tx: Tx, revision: number): Promise<string | undefined> {
  const { rows } = await sql<{ tag: string }>`select tag from weir_log where revision = ${revision}`.execute(
    tx,
  );
  return rows[0]?.tag;
}

/** All objects of these collections, in the order of their last changes. */
export async function readObjects(tx: Tx, collections: readonly string[]): Promise<ObjectRow[]> {
  const all: ObjectRow[] = [];
  for (const collection of collections) {
    let after = "", isFirst = true;
    while (true) {
      const { rows } = await sql<Raw<ObjectRow>>`
        select collection, name, revision, body from weir_objects
        where collection = ${collection} and (name > ${after} or ${isFirst ? 1 : 0} = 1)
        order by name limit ${ROWS_AT_ONCE}`.execute(tx);
      for (const row of rows) all.push(toNumber(row) as ObjectRow);
      if (rows.length < ROWS_AT_ONCE) break;
      after = rows[rows.length - 1].name;
      isFirst = false;
    }
  }
  return all.sort((a, b) => a.revision - b.revision);
}

/** All epochs, the oldest first. */
export async function readEpochs(tx: Tx): Promise<EpochStart[]> {
  const { rows } = await sql<{ epoch: string; from_revision: string | number }>`
    select epoch, from_revision from weir_epoch order by id`.execute(tx);
  return rows.map((row) => ({ epoch: row.epoch, fromRevision: Number(row.from_revision) }));
}

/** Begins an epoch. The counter is locked. */
export async function appendEpoch(tx: Tx, fromRevision: number): Promise<void> {
  const { rows } = await sql<{ id: string | number | null }>`select max(id) as id from weir_epoch`.execute(
    tx,
  );
  const id = Number(rows[0].id ?? 0) + 1;
  await sql`insert into weir_epoch (id, epoch, from_revision)
    values (${id}, ${randomEpoch()}, ${fromRevision})`.execute(tx);
  await sql`delete from weir_epoch where id <= ${id - EPOCHS_MAX}`.execute(tx);
}

function toNumber<R extends { revision: string | number }>(row: R): R & { revision: number } {
  return { ...row, revision: Number(row.revision) };
}
