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

/**
 * Entries per backend at first. Shares are within 2 % of even from some hundred on; that hardly anybody moves but the
 * flows of a backend that goes takes more: 1.6/N with 160 entries per backend, 1.09/N with 1300 (datapath/service's tests).
 */
const ENTRIES_PER_BACKEND = 1000;
/** Fewer entries per backend than this, and the table is made larger. */
const ENTRIES_PER_BACKEND_MIN = 200;

/**
 * The size for this many backends. `current` is kept while it will do, and never lowered: another size moves most
 * flows. 0 is "none yet".
 */
export function tableSizeFor(backends: number, current = 0): number {
  if (current > 0 && backends * ENTRIES_PER_BACKEND_MIN <= current) return current;
  const wanted = TABLE_SIZES.find((size) => size >= backends * ENTRIES_PER_BACKEND) ?? TABLE_SIZES.at(-1)!;
  return Math.max(wanted, current);
}
