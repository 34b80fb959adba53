/**
 * The tables of the history, on SQLite and PostgreSQL alike.
 *
 * | table                 | row                                                                                     |
 * | --------------------- | --------------------------------------------------------------------------------------- |
 * | weir_history_block    | up to 256 flows (kind f) or connections (kind c: since_ms is when the first began), packed  |
 * | weir_history_posting  | a word and the items of a block that have it: finds items without opening blocks           |
 * | weir_history_end      | one end of flows with its labels                                                        |
 * | weir_history_rollup   | sums of 1, 10 or 60 minutes, packed; late ones make further parts                         |
 * | weir_history_minute   | what came from a node in a minute, and what was kept of it                                |
 * | weir_history_loss     | what never came                                                                         |
 * | weir_history_gap      | when a node was not followed                                                            |
 * | weir_history_held     | a policy, identity or address and the time in which it held                               |
 * | weir_history_open     | connections that go on, as of the last checkpoint                                         |
 * | weir_history_state    | the newest time of each node; when the history last wrote                                 |
 *
 * Times are whole Unix milliseconds, or seconds where the name says so.
 * @module
 */
import { sql } from "kysely";
import type { Migration } from "@weir/common/state";

/** Row of weir_history_state: number and time, "ID UNTIL_MS", of the newest block without the words of history-3 and 4. */
export const OLD_WORDS = "old-words";

/** Steps of the schema, append-only. */
export const MIGRATIONS: readonly Migration[] = [{
  name: "history-1",
  async up(tx, kind) {
    const bytes = sql.raw(kind === "postgres" ? "bytea" : "blob");
    // SQLite: the row lives in the index itself, once.
    const only = sql.raw(kind === "postgres" ? "" : "without rowid");
    await sql`create table weir_history_block (id bigint primary key, kind text not null,
      since_ms bigint not null, until_ms bigint not null, items integer not null, bytes integer not null,
      terms text not null, body ${bytes} not null)`.execute(tx);
    // With all that is added up of blocks, so that their bodies are not read for it.
    await sql`create index weir_history_block_time on weir_history_block
      (kind, until_ms, id, since_ms, items, bytes)`.execute(tx);
    await sql`create table weir_history_posting (term text not null, until_ms bigint not null,
      block bigint not null, items text not null, primary key (term, until_ms, block)) ${only}`.execute(tx);
    await sql`create table weir_history_end (id integer primary key, body ${bytes} not null,
      last_ms bigint not null)`.execute(tx);
    await sql`create table weir_history_rollup (level integer not null, start_s bigint not null,
      part integer not null, bytes integer not null, body ${bytes} not null,
      primary key (level, start_s, part))`.execute(tx);
    await sql`create index weir_history_rollup_bytes on weir_history_rollup (level, start_s, bytes)`.execute(
      tx,
    );
    await sql`create table weir_history_minute (minute_s bigint not null, node text not null,
      seen bigint not null, stored bigint not null, sampled_out bigint not null,
      primary key (minute_s, node))`.execute(tx);
    await sql`create table weir_history_loss (minute_s bigint not null, node text not null, source text not null,
      lost bigint not null, primary key (minute_s, node, source))`.execute(tx);
    await sql`create table weir_history_gap (node text not null, since_ms bigint not null, until_ms bigint,
      primary key (node, since_ms))`.execute(tx);
    await sql`create table weir_history_held (kind text not null, name text not null, since_ms bigint not null,
      until_ms bigint, since_exact integer not null, until_exact integer not null, body ${bytes} not null,
      primary key (kind, name, since_ms))`.execute(tx);
    await sql`create index weir_history_held_until on weir_history_held (until_ms)`.execute(tx);
    await sql`create table weir_history_open (part integer primary key, body ${bytes} not null)`.execute(tx);
    await sql`create table weir_history_state (name text primary key, value text not null)`.execute(tx);
  },
}, {
  name: "history-2",
  async up(tx) {
    // The sum of all rows of a part, as StoredRollup in JSON; null in what is older.
    await sql`alter table weir_history_rollup add column totals text`.execute(tx);
  },
}, {
  name: "history-3",
  async up(tx) {
    // Blocks up to here lack the words that came with this version: DNS names, and how long connections were.
    await sql`insert into weir_history_state (name, value)
      select ${OLD_WORDS}, max(id) || ' ' || max(until_ms) from weir_history_block having max(id) is not null`
      .execute(tx);
  },
}, {
  name: "history-4",
  async up(tx) {
    // Nor does since_ms of their connections say when the first began.
    await sql`insert into weir_history_state (name, value)
      select ${OLD_WORDS}, max(id) || ' ' || max(until_ms) from weir_history_block having max(id) is not null
      on conflict (name) do update set value = excluded.value`.execute(tx);
  },
}];
