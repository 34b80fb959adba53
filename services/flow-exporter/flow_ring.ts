/**
 * The newest flows of this node in memory, and streams over them. A reader that falls more than the ring behind is told
 * how many it lost; it never holds memory.
 *
 *     ring of 4095   [ n-4094 ... n-1 | n ]     each flow has a running number; slot = number mod size
 * @module
 */
import { RING_FLOWS_MAX } from "@weir/common";

/** Size by default. */
export const RING_FLOWS_DEFAULT = 4095;
export { RING_FLOWS_MAX };

/** What a stream gives: a flow with its running number, or how many flows were overwritten under the reader. */
export type Read<T> = { flow: T; number: number } | { lost: number };

/** How flows are followed. */
export interface FollowOptions {
  /** Running number of the first; default: from now on. One that is yet to come waits for it. */
  readonly from?: number;
  /** Default 256. */
  readonly batchMax?: number;
}

/** A ring of the newest flows; the oldest is overwritten. */
export class FlowRing<T> {
  readonly #slots: (T | undefined)[];
  #next = 0;
  #lost = 0;
  #uncounted = 0;
  #waiting = new Set<() => void>();

  /** Tells this ring's running numbers from those of another: not 0. */
  readonly id = crypto.getRandomValues(new Uint32Array(1))[0] || 1;

  constructor(readonly size: number = RING_FLOWS_DEFAULT) {
    if (!Number.isInteger(size) || size < 1 || size > RING_FLOWS_MAX) {
      throw new RangeError(`Cannot make a ring of ${size} flows: expected 1 to ${RING_FLOWS_MAX}`);
    }
    this.#slots = new Array(size);
  }

  /** Flows seen since the start. */
  get seen(): number {
    return this.#next - this.#uncounted;
  }

  /** Running number of the first flow that is to come. */
  get next(): number {
    return this.#next;
  }

  /** Flows that were overwritten under readers, of all of them together. */
  get lost(): number {
    return this.#lost;
  }

  /** Flows held now. */
  get length(): number {
    return Math.min(this.#next, this.size);
  }

  /** @param isCounted false: it is none of those that were seen, but goes to who follows */
  push(flow: T, isCounted = true): void {
    if (!isCounted) this.#uncounted++;
    this.#slots[this.#next % this.size] = flow;
    this.#next++;
    if (this.#waiting.size > 0) {
      const waiting = this.#waiting;
      this.#waiting = new Set();
      for (const wake of waiting) wake();
    }
  }

  /** The last `count` flows that match, oldest first. */
  last(count: number, matches: (flow: T) => boolean): T[] {
    const found: T[] = [];
    const oldest = this.#next - this.length;
    for (let n = this.#next - 1; n >= oldest && found.length < count; n--) {
      const flow = this.#slots[n % this.size]!;
      if (matches(flow)) found.push(flow);
    }
    return found.reverse();
  }

  /** The first `count` flows that match, oldest first. */
  first(count: number, matches: (flow: T) => boolean): T[] {
    const found: T[] = [];
    for (let n = this.#next - this.length; n < this.#next && found.length < count; n++) {
      const flow = this.#slots[n % this.size]!;
      if (matches(flow)) found.push(flow);
    }
    return found;
  }

  /** All that are held now, oldest first. */
  held(): T[] {
    return this.first(this.size, () => true);
  }

  /** Every flow from now on, from this call and not from the first read, or from a number on; in batches, until `signal` aborts. */
  follow(
    signal: AbortSignal,
    { from = this.#next, batchMax = 256 }: FollowOptions = {},
  ): AsyncGenerator<Read<T>[]> {
    return this.#follow(from, signal, batchMax);
  }

  async *#follow(from: number, signal: AbortSignal, batchMax: number): AsyncGenerator<Read<T>[]> {
    let at = from;
    while (!signal.aborted) {
      if (at >= this.#next) {
        await this.#wait(signal);
        continue;
      }
      const batch: Read<T>[] = [];
      const oldest = this.#next - this.length;
      if (at < oldest) {
        batch.push({ lost: oldest - at });
        this.#lost += oldest - at;
        at = oldest;
      }
      for (; at < this.#next && batch.length < batchMax; at++) {
        batch.push({ flow: this.#slots[at % this.size]!, number: at });
      }
      yield batch;
    }
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake);
    });
  }
}
