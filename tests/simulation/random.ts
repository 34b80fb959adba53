/** Numbers that a seed decides. @module */

/** A generator of numbers in [0,1); the same seed (32 bits) gives the same numbers. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Choices of a seed and a subject: what is drawn for one subject does not depend on how often others draw. */
export class Choices {
  readonly next: () => number;

  constructor(seed: number, subject: string) {
    let hash = (seed ^ 0x811c9dc5) >>> 0; // FNV-1a
    for (let i = 0; i < subject.length; i++) hash = Math.imul(hash ^ subject.charCodeAt(i), 0x01000193) >>> 0;
    this.next = generator(hash);
    this.next();
  }

  /** A whole number from 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** One of the list, which is not empty. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
}
