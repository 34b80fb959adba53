/** How often something may fail before it has to wait: so many at once, then so many a minute, per key and in all. @module */

/** Limits of a {@link RateLimit}. */
export interface RateLimitOptions {
  /** Failures at once, and per minute after that, of one key. */
  perKey: number;
  /** The same of all keys together. */
  inAll: number;
  /** Keys that are remembered; the oldest is forgotten first. */
  keysMax?: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

/** Token buckets by key. Times are of a clock that only goes forward, in milliseconds. */
export class RateLimit {
  readonly #options: Required<RateLimitOptions>;
  #buckets = new Map<string, Bucket>();
  #all: Bucket;

  constructor(options: RateLimitOptions) {
    this.#options = { keysMax: 1000, ...options };
    this.#all = { tokens: options.inAll, atMs: 0 };
  }

  /** Milliseconds until `key` may try again; 0 when it may now. */
  waitMs(key: string, nowMs: number): number {
    const own = this.#buckets.get(key);
    return Math.max(
      own === undefined ? 0 : waitOf(own, this.#options.perKey, nowMs),
      waitOf(this.#all, this.#options.inAll, nowMs),
    );
  }

  /** `key` failed now. */
  failed(key: string, nowMs: number): void {
    const own = this.#buckets.get(key) ?? { tokens: this.#options.perKey, atMs: nowMs };
    this.#buckets.delete(key);
    if (this.#buckets.size >= this.#options.keysMax) {
      this.#buckets.delete(this.#buckets.keys().next().value!);
    }
    this.#buckets.set(key, take(own, this.#options.perKey, nowMs));
    this.#all = take(this.#all, this.#options.inAll, nowMs);
  }
}

function filled(bucket: Bucket, perMinute: number, nowMs: number): number {
  return Math.min(perMinute, bucket.tokens + (nowMs - bucket.atMs) * perMinute / 60_000);
}

function take(bucket: Bucket, perMinute: number, nowMs: number): Bucket {
  return { tokens: Math.max(0, filled(bucket, perMinute, nowMs) - 1), atMs: nowMs };
}

function waitOf(bucket: Bucket, perMinute: number, nowMs: number): number {
  const tokens = filled(bucket, perMinute, nowMs);
  return tokens >= 1 ? 0 : Math.ceil((1 - tokens) * 60_000 / perMinute);
}
