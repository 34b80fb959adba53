/** A seeded source of choices: the same seed gives the same programs on every machine. @module */

/** Numbers at which arithmetic changes its ways. */
const EDGES_32 = [
  0,
  1,
  2,
  3,
  7,
  8,
  15,
  16,
  31,
  32,
  63,
  64,
  127,
  128,
  255,
  256,
  4095,
  65535,
  65536,
  0x7fffffff,
  -0x80000000,
];

/** xorshift32, enough for choosing and small enough to be read in a failure report. */
export class Random {
  #state: number;

  /** @param seed any 32-bit number */
  constructor(readonly seed: number) {
    this.#state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ (seed >>> 13)) | 1;
    for (let round = 0; round < 4; round++) this.u32();
  }

  /** 32 random bits. */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** A number in `[0, below)`. */
  below(below: number): number {
    return this.u32() % below;
  }

  /** A number in `[from, to]`. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  /** One of the items. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** A signed 32-bit immediate: small, an edge of some width, or anything. */
  immediate(): number {
    switch (this.below(4)) {
      case 0:
        return this.between(-16, 64);
      case 1:
        return (this.pick(EDGES_32) * (this.oneIn(2) ? 1 : -1) + this.between(-1, 1)) | 0;
      case 2:
        return (1 << this.below(32)) | 0;
      default:
        return this.u32() | 0;
    }
  }

  /** A 64-bit number with interesting ones more often than chance. */
  u64(): bigint {
    switch (this.below(5)) {
      case 0:
        return BigInt(this.below(256));
      case 1:
        return BigInt.asUintN(64, BigInt(this.immediate()));
      case 2:
        return BigInt.asUintN(64, (1n << BigInt(this.below(64))) + BigInt(this.between(-1, 1)));
      default:
        return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
    }
  }

  /** Random bytes, each word chosen by {@link u64}. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const padded = new Uint8Array((length + 7) & ~7);
    const view = new DataView(padded.buffer);
    for (let at = 0; at < padded.length; at += 8) view.setBigUint64(at, this.u64(), true);
    return padded.slice(0, length);
  }

  /** The items in another order. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let index = shuffled.length - 1; index > 0; index--) {
      const other = this.below(index + 1);
      [shuffled[index], shuffled[other]] = [shuffled[other], shuffled[index]];
    }
    return shuffled;
  }
}
