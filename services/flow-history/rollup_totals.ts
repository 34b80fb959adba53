/**
 * The sums of a whole part, so that flows over time are told without reading who they were from.
 * @module
 */
import { StoredRollup } from "@weir/proto/history";
import { addCounts, isFolded } from "./rollup_table.ts";

/** One row for all flows, and one for those that are in no row of their own. Pure. */
export function totalsOf(rows: readonly StoredRollup[]): StoredRollup[] {
  const totals: StoredRollup[] = [];
  for (const folded of [false, true]) {
    const [first, ...others] = rows.filter((row) => isFolded(row) === folded);
    if (first === undefined) continue;
    // What is in no sum of its own is told by its ends; of the others those of one stand for all.
    const { source, destination, protocol, firstUnixS, lastUnixS } = first;
    const sum = StoredRollup.create({ source, destination, protocol, firstUnixS, lastUnixS });
    for (const row of [first, ...others]) addCounts(sum, row);
    totals.push(sum);
  }
  return totals;
}

/** Reads what {@link totalsOf} gave, from the database; undefined: an older version wrote none. @throws {Error} it is damaged */
export function readTotals(text: string | null): StoredRollup[] | undefined {
  return text === null
    ? undefined
    : (JSON.parse(text) as StoredRollup[]).map((row) => StoredRollup.create(row));
}
