/** Numbers that look random and are the same for the same seed. @module */

/** Marsaglia's xorshift32: numbers in [0,1). */
export function seededRandom(seed: number): () => number {
  let state = (seed | 0) || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
