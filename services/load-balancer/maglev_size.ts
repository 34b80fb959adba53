/**
 * Sizes of Maglev tables: primes, so that every backend's permutation visits every entry.
 * @module
 */

/** Sizes that may be chosen, ascending. */
export const TABLE_SIZES: readonly number[] = [
  251,
  509,
  1021,
  2039,
  4093,
  8191,
  16381,
  32749,
  65521,
  131071,
];

/** Entries per backend at first: the spread is then within about 1 % of even. */
const ENTRIES_PER_BACKEND = 100;
/** Fewer entries per backend than this, and the table is made larger. */
const ENTRIES_PER_BACKEND_MIN = 20;

/**
 * The size for this many backends. `current` is kept while it will do, and never lowered: another size moves most
 * flows. 0 is "none yet".
 */
export function tableSizeFor(backends: number, current = 0): number {
  if (current > 0 && backends * ENTRIES_PER_BACKEND_MIN <= current) return current;
  const wanted = TABLE_SIZES.find((size) => size >= backends * ENTRIES_PER_BACKEND) ?? TABLE_SIZES.at(-1)!;
  return Math.max(wanted, current);
}
