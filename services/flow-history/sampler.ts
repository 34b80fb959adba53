/**
 * Which flows are kept one by one when there are too many. Whole connections are kept or left out, by the hash of their addresses and
 * ports, so that what is kept can be followed; drops and trouble have a half of the room to themselves, and what one half does not need
 * is the other's. What is left out is in rollups and connections all the same.
 * @module
 */

const SECOND_MS = 1000;

/** Keeps about so many flows a second. */
export class Sampler {
  readonly #perSecondMax: number;
  #secondMs = -Infinity;
  /** Of this second: offered and kept, important ones and others. */
  #offered = [0, 0];
  #kept = [0, 0];
  /** 0..1: hashes below it are kept. */
  #threshold = [1, 1];

  /** @param perSecondMax flows that are kept in a second */
  constructor(perSecondMax: number) {
    this.#perSecondMax = perSecondMax;
  }

  /** Whether to keep a flow of this connection. `nowMs`: monotonic. */
  keeps(connection: string, isImportant: boolean, nowMs: number): boolean {
    if (nowMs - this.#secondMs >= SECOND_MS) this.#begin(nowMs);
    const one = isImportant ? 0 : 1;
    this.#offered[one]++;
    const kept = this.#kept[0] + this.#kept[1];
    // A burst within the second: an important flow finds its half, whatever came before it.
    const room = isImportant
      ? this.#kept[0] < this.#perSecondMax / 2 || kept < this.#perSecondMax
      : kept < this.#perSecondMax;
    if (!room || (this.#threshold[one] < 1 && unitHash(connection) >= this.#threshold[one])) return false;
    this.#kept[one]++;
    return true;
  }

  /** 0..1: of the flows of the second before the share that is kept. */
  get share(): number {
    const [important, other] = this.#last;
    const all = important + other;
    return all === 0 ? 1 : (important * this.#threshold[0] + other * this.#threshold[1]) / all;
  }
  #last = [0, 0];

  #begin(nowMs: number): void {
    const seconds = Math.max(1, (nowMs - this.#secondMs) / SECOND_MS);
    const [important, other] = this.#last = this.#offered.map((count) => count / seconds);
    const half = this.#perSecondMax / 2;
    const forImportant = Math.max(half, this.#perSecondMax - other),
      forOther = Math.max(half, this.#perSecondMax - important);
    this.#threshold = [Math.min(1, forImportant / important), Math.min(1, forOther / other)]
      .map((share) => Number.isNaN(share) ? 1 : share);
    this.#offered = [0, 0];
    this.#kept = [0, 0];
    this.#secondMs = nowMs;
  }
}

/** 0..1, the same for the same text (FNV-1a, 32 bits, and a last mixing). Pure. */
export function unitHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  return (hash >>> 0) / 2 ** 32;
}
