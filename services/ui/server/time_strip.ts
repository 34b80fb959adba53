/** Flows and drops over time, in buckets of some seconds. @module */
import type { TimeBucket, TimeStrip } from "../api.ts";

/** What a bucket counts. */
export type Counted = "flows" | "dropped" | "audited" | "trouble" | "lost";

type Bucket = { -readonly [K in keyof TimeBucket]: number } & { version: number };

/** The newest buckets; what is older is forgotten. */
export class StripCounter {
  readonly #buckets = new Map<number, Bucket>();
  #version = 0;
  #newest = -Infinity;

  /** @param stepS seconds of a bucket; @param bucketsMax buckets that are kept */
  constructor(readonly stepS: number, readonly bucketsMax: number) {}

  /** Counts something at a time, Unix seconds. What is older than the oldest bucket is not told any more. */
  add(what: Counted, atS: number, by = 1): void {
    const at = Math.floor(atS / this.stepS) * this.stepS;
    if (at <= this.#newest - this.bucketsMax * this.stepS) return;
    let bucket = this.#buckets.get(at);
    if (bucket === undefined) {
      bucket = { atUnixS: at, flows: 0, dropped: 0, audited: 0, trouble: 0, lost: 0, version: 0 };
      this.#buckets.set(at, bucket);
      this.#newest = Math.max(this.#newest, at);
      for (const old of this.#buckets.keys()) {
        if (old <= this.#newest - this.bucketsMax * this.stepS) this.#buckets.delete(old);
      }
    }
    bucket[what] += by;
    bucket.version = ++this.#version;
  }

  /** A mark to ask from later. */
  get version(): number {
    return this.#version;
  }

  /** Buckets that became other after `version` (0: all), in order of time. */
  since(version: number): TimeStrip {
    const buckets = [...this.#buckets.values()].filter((bucket) => bucket.version > version)
      .sort((a, b) => a.atUnixS - b.atUnixS)
      .map(({ version: _, ...bucket }) => bucket);
    return { stepS: this.stepS, buckets };
  }
}
