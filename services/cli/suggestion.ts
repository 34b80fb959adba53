/**
 * "Did you mean": the known word that is nearest to one that is not known.
 *
 * @module
 */
import { UsageError } from "./context.ts";

/** The known word that `word` was probably meant to be; undefined where none is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const wanted = word.toLowerCase();
  if (wanted === "") return undefined;
  const far = Math.max(1, Math.floor(wanted.length / 3));
  let best: string | undefined, bestDistance = far + 1;
  for (const one of known) {
    const distance = editDistance(wanted, one.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [one, distance];
  }
  if (best !== undefined || wanted.length < 3) return best;
  const longer = known.filter((one) => one.toLowerCase().startsWith(wanted));
  return longer.length === 1 ? longer[0] : undefined;
}

/** ` (did you mean "list"?)`, or nothing. */
export function didYouMean(word: string, known: readonly string[]): string {
  const one = nearest(word, known);
  return one === undefined ? "" : ` (did you mean "${one}"?)`;
}

/** The error for a verb that a command does not have. */
export function unknownVerb(
  command: string,
  verb: string | undefined,
  known: readonly string[],
): UsageError {
  const list = `expected ${known.join(", ")}`;
  return new UsageError(
    verb === undefined
      ? `Say what to do with ${command}: ${list}`
      : `Unknown verb "${verb}" of ${command}${didYouMean(verb, known)}: ${list}`,
    `weir help ${command}`,
  );
}

/** Insertions, deletions, replacements and swaps of neighbours that make `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let older: number[] = [], old = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = old[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(old[j] + 1, row[j - 1] + 1, replaced);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], older[j - 2] + 1);
      }
    }
    [older, old] = [old, row];
  }
  return old[b.length];
}
