/**
 * A digest of a set that changes one element at a time: the sum of its elements' hashes, whatever their order. Two ends
 * that hold the same set have the same text. It finds what was forgotten; it proves nothing against somebody who looks for
 * collisions.
 *
 *     element bytes ── two hashes of 32 bits ──▶ added, or subtracted, modulo 2^32 each ──▶ 16 hexadecimal digits
 *
 * @module
 */

/** A digest of a set that changes one element at a time. The empty set is sixteen zeros. */
export class SetDigest {
  #high = 0;
  #low = 0;
  #count = 0;

  /** @param text what {@link SetDigest.text} was; with the number of elements that it stood for */
  static restore(text: string, count: number): SetDigest {
    const digest = new SetDigest();
    if (!/^[0-9a-f]{16}$/.test(text)) return digest;
    digest.#high = Number.parseInt(text.slice(0, 8), 16);
    digest.#low = Number.parseInt(text.slice(8), 16);
    digest.#count = count;
    return digest;
  }

  /** Elements now. */
  get count(): number {
    return this.#count;
  }

  /** 16 lower-case hexadecimal digits. */
  get text(): string {
    return hex(this.#high) + hex(this.#low);
  }

  /** Adds an element that is not in the set. */
  add(element: Uint8Array): void {
    const [high, low] = hash(element);
    this.#high = (this.#high + high) >>> 0;
    this.#low = (this.#low + low) >>> 0;
    this.#count++;
  }

  /** Takes out an element that is in the set. */
  delete(element: Uint8Array): void {
    const [high, low] = hash(element);
    this.#high = (this.#high - high) >>> 0;
    this.#low = (this.#low - low) >>> 0;
    this.#count--;
  }
}

function hex(word: number): string {
  return word.toString(16).padStart(8, "0");
}

/** Two 32-bit hashes of the bytes: multiply and mix each byte in, then MurmurHash3's finish across both. */
function hash(bytes: Uint8Array): [number, number] {
  let high = 0x9e3779b1 ^ bytes.length, low = 0x85ebca77 ^ bytes.length;
  for (let i = 0; i < bytes.length; i++) {
    high = Math.imul(high ^ bytes[i], 0x01000193);
    high = (high << 13) | (high >>> 19);
    low = Math.imul(low ^ bytes[i], 0x5bd1e995);
    low = (low << 15) | (low >>> 17);
  }
  const first = finish(high ^ Math.imul(low, 0xc2b2ae3d));
  return [first, finish(low ^ first)];
}

function finish(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return (word ^ (word >>> 16)) >>> 0;
}
