/**
 * Connections stand by their ends, and a window wants those that lived in it. One that ended long after the window and yet began within it
 * is a long one: connections have a word for how long they were, and of what ended later only those that were long enough are looked for.
 * And of what ended later, blocks are passed over in which all began later.
 *
 *                window ──┤until
 *     ends:  ... all ......... +1s+b | 1 s or longer ..... +4s+b | 4 s or longer ..... +16s+b | ...        (b: the time of a bucket)
 *
 * @module
 */
import { ANY_TERM, BUCKET_MS } from "./block.ts";
import { OLD_TERM } from "./filter_plan.ts";
import type { Stretch } from "./posting_cursor.ts";

/** Shortest times of the classes, in milliseconds. */
const CLASSES_MS = [1, 4, 16, 64, 256, 1024, 4096, 16_384].map((seconds) => seconds * 1000);

/** The word of a connection that was so long; undefined: shorter than all classes. Pure. */
export function lengthTerm(ms: number): string | undefined {
  const classMs = CLASSES_MS.findLast((one) => ms >= one);
  return classMs === undefined ? undefined : wordOfClass(classMs);
}

/** Where connections that began before `untilMs` may have ended, the latest first, each with the words that those there have. Pure. */
export function stretchesUntil(untilMs: number): Stretch[] {
  // A block stands by its last item; its others are up to a bucket earlier.
  const stretches = CLASSES_MS.map((classMs, index) => ({
    sinceMs: Math.ceil(untilMs) + classMs + BUCKET_MS + 1,
    untilMs: Math.ceil(untilMs) + (CLASSES_MS[index + 1] ?? Infinity) + BUCKET_MS,
    terms: [...CLASSES_MS.slice(index).map(wordOfClass), OLD_TERM, ANY_TERM],
    beganMs: untilMs,
  }));
  return [
    ...stretches.reverse(),
    {
      sinceMs: -Infinity,
      untilMs: Math.ceil(untilMs) + CLASSES_MS[0] + BUCKET_MS,
      terms: undefined,
      beganMs: untilMs,
    },
  ];
}

const wordOfClass = (ms: number) => `cl:${ms / 1000}`;
