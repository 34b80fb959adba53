/**
 * Which connections were seen lately, in so much memory and no more: numbers in two tables of which the older is forgotten when the newer is
 * full. One that is seen again after it was forgotten is taken for another.
 * @module
 */

/** Numbers of one table. */
export const SEEN_MAX = 1 << 20;
const SLOTS = SEEN_MAX * 2;

/** A set that forgets. */
export class SeenSet {
  #young = new Float64Array(SLOTS);
  #old = new Float64Array(SLOTS);
  #count = 0;

  /** Whether a whole number greater than 0 is new; it is in the set then. */
  add(value: number): boolean {
    const at = slotOf(this.#young, value);
    if (this.#young[at] === value) return false;
    const isKnown = this.#old[slotOf(this.#old, value)] === value;
    this.#young[at] = value;
    if (++this.#count >= SEEN_MAX) {
      [this.#young, this.#old] = [this.#old, this.#young];
      this.#young.fill(0);
      this.#count = 0;
    }
    return !isKnown;
  }
}

function slotOf(table: Float64Array, value: number): number {
  // The rest of a division, which is slow for numbers beyond 32 bits.
  let at = value - Math.floor(value / SLOTS) * SLOTS;
  while (table[at] !== 0 && table[at] !== value) at = at + 1 === SLOTS ? 0 : at + 1;
  return at;
}

/** A number of 53 bits for texts and numbers, never 0. Not for secrets: who chooses the texts can make two of them one. */
export function connectionHash(from: string, to: string, ports: number, kind: number): number {
  let a = 0x811c_9dc5 ^ ports, b = 0x1234_5678 ^ kind;
  for (let i = 0; i < from.length; i++) {
    const code = from.charCodeAt(i);
    a = Math.imul(a ^ code, 0x0100_0193);
    b = Math.imul(b ^ code, 0x85eb_ca6b) + i | 0;
  }
  a = Math.imul(a ^ 0x2f, 0x0100_0193);
  for (let i = 0; i < to.length; i++) {
    const code = to.charCodeAt(i);
    a = Math.imul(a ^ code, 0x0100_0193);
    b = Math.imul(b ^ code, 0xc2b2_ae35) + i | 0;
  }
  a ^= a >>> 15;
  b ^= b >>> 13;
  return (a >>> 0) * 0x20_0000 + (Math.imul(b, 0x27d4_eb2f) >>> 11) || 1;
}
