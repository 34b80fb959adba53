/**
 * Rows of the history's tables, each written within the transaction of its batch.
 * @module
 */
import { sql, type Transaction } from "kysely";
import type { Block } from "./block.ts";
import type { CountChanges } from "./counts.ts";
import type { HeldChange } from "./held_objects.ts";
import { totalsOf } from "./rollup_totals.ts";
import { packRows } from "./rollup_columns.ts";
import type { RollupPart } from "./rollup_table.ts";

type Tx = Transaction<unknown>;

/** What a block takes, with its words: a row each, twice (in the table of words, and in its own row). */
export function storedBytes({ body, terms }: Block): number {
  let bytes = body.length + 100;
  for (const [term, items] of terms) bytes += 2 * term.length + 24 + Math.min(64, 2 * items.length);
  return bytes;
}

/** Adds a part to the sums of a stretch of time. */
export async function insertRollup(
  tx: Tx,
  level: number,
  startS: number,
  rows: RollupPart["rows"],
): Promise<void> {
  const body = packRows(rows), totals = JSON.stringify(totalsOf(rows));
  const { rows: [{ part }] } = await sql<{ part: string | number }>`
    select coalesce(max(part), 0) + 1 as part from weir_history_rollup
    where level = ${level} and start_s = ${startS}`.execute(tx);
  await sql`insert into weir_history_rollup (level, start_s, part, bytes, body, totals)
    values (${level}, ${startS}, ${Number(part)}, ${body.length + 250}, ${body}, ${totals})`.execute(tx);
}

/** Adds to the counts, and sets gaps. */
export async function writeCounts(tx: Tx, { minutes, losses, gaps }: CountChanges): Promise<void> {
  for (const [key, { seen, stored, sampledOut }] of minutes) {
    const [minute, node] = split(key, 2);
    await sql`insert into weir_history_minute (minute_s, node, seen, stored, sampled_out)
      values (${Number(minute)}, ${node}, ${seen}, ${stored}, ${sampledOut})
      on conflict (minute_s, node) do update set seen = weir_history_minute.seen + excluded.seen,
        stored = weir_history_minute.stored + excluded.stored,
        sampled_out = weir_history_minute.sampled_out + excluded.sampled_out`.execute(tx);
  }
  for (const [key, lost] of losses) {
    const [minute, source, node] = split(key, 3);
    await sql`insert into weir_history_loss (minute_s, node, source, lost)
      values (${Number(minute)}, ${node}, ${source}, ${lost})
      on conflict (minute_s, node, source) do update set lost = weir_history_loss.lost + excluded.lost`
      .execute(tx);
  }
  for (const { node, sinceMs, untilMs } of gaps) {
    await sql`insert into weir_history_gap (node, since_ms, until_ms)
      values (${node}, ${Math.floor(sinceMs)}, ${untilMs === undefined ? null : Math.ceil(untilMs)})
      on conflict (node, since_ms) do update set until_ms = excluded.until_ms`.execute(tx);
  }
  // One that ended where it began was none.
  await sql`delete from weir_history_gap where until_ms <= since_ms`.execute(tx);
}

/** "a b the rest" in `count` parts. */
function split(key: string, count: number): string[] {
  const parts = key.split(" ");
  return [...parts.slice(0, count - 1), parts.slice(count - 1).join(" ")];
}

/** What an object is from now on. */
export async function writeHeld(tx: Tx, change: HeldChange): Promise<void> {
  const { kind, name, atMs, isExact, body } = change;
  await sql`update weir_history_held set until_ms = ${atMs}, until_exact = ${isExact ? 1 : 0}
    where kind = ${kind} and name = ${name} and until_ms is null`.execute(tx);
  if (body === undefined) return;
  await sql`insert into weir_history_held (kind, name, since_ms, until_ms, since_exact, until_exact, body)
    values (${kind}, ${name}, ${atMs}, ${null}, ${isExact ? 1 : 0}, ${0}, ${body})
    on conflict (kind, name, since_ms) do update
    set until_ms = excluded.until_ms, until_exact = excluded.until_exact, body = excluded.body`.execute(tx);
}

/** Sets a word of weir_history_state. */
export async function setState(tx: Tx, name: string, value: string): Promise<void> {
  await sql`insert into weir_history_state (name, value) values (${name}, ${value})
    on conflict (name) do update set value = excluded.value`.execute(tx);
}
