/**
 * Which objects are to be looked at, when, and how fast. A key stands in it once, however often it is added; what is due is
 * decided when its turn comes, from what is wanted and what is there at that moment.
 *
 *     add(key) ── delayMs ──▶ due ── plan(key): nothing to do ──▶ done
 *                                        └─ a request: a token, the term ──▶ sent ──▶ done, or again after a delay
 *
 * 429 and an API server that does not answer hold up all keys; what is refused of one object holds up that one.
 * @module
 */
import { Backoff } from "@weir/common/backoff";
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { ApiServerError } from "../api/mod.ts";
import type { Term } from "./term.ts";
import { TokenBucket } from "./token_bucket.ts";

/** One request that is to be made. */
export interface Write {
  verb: "create" | "update" | "patch" | "apply" | "delete";
  run(options: { signal: AbortSignal; deadlineMs: number }): Promise<unknown>;
}

/** Why an object is not as it should be. */
export interface WriteFault {
  error: Error;
  attempts: number;
  /** Wall clock, milliseconds. */
  sinceMs: number;
}

/** How fast a queue is worked off. */
export interface Pace {
  /** Requests each second. */
  ratePerS: number;
  /** Requests at once after a rest. */
  burst: number;
  /** Requests that are on their way together. */
  parallelMax: number;
  /** So long a key waits, for more changes of its object to come. */
  delayMs: number;
}

/** Options of {@link WriteQueue}. */
export interface WriteQueueOptions {
  name: string;
  pace: Pace;
  term: Term;
  /** What is to be done for a key now; undefined: nothing. */
  plan: (key: string) => Write | undefined;
  clock: Clock;
  log?: Logger;
  /** After each request; `error` is undefined when it was granted. */
  onWrite?: (verb: Write["verb"], error: Error | undefined) => void;
  random?: () => number;
}

/** Longest time for one request, milliseconds. */
const REQUEST_MS_MAX = 15_000;
const RETRY = { delayMsMin: 250, delayMsMax: 60_000, jitter: 0.5 };
/** Faults that are kept to be shown; the attempts of further ones go on all the same. */
const FAULTS_MAX = 1000;

/** Works until its term ends. */
export class WriteQueue {
  readonly #options: WriteQueueOptions;
  readonly #bucket: TokenBucket;
  readonly #pause: Backoff;
  readonly #random: () => number;
  /** By key the time when it is due; in the order in which they were added. */
  readonly #due = new Map<string, number>();
  /** Keys that wait after a failure, apart: their times are in no order. */
  readonly #later = new Map<string, { dueMs: number; backoff: Backoff }>();
  readonly #running = new Set<string>();
  readonly #faults = new Map<string, WriteFault>();
  readonly #tasks = new Set<Promise<void>>();
  #pausedUntilMs = -Infinity;
  #wake: () => void = () => {};
  #idle: (() => void)[] = [];

  constructor(options: WriteQueueOptions) {
    this.#options = options;
    const { pace, clock, random = Math.random } = options;
    this.#random = random;
    this.#bucket = new TokenBucket(pace.ratePerS, pace.burst, clock.monotonicMs());
    this.#pause = new Backoff({ delayMsMin: 500, delayMsMax: 30_000, jitter: 0.5, random });
  }

  /** Keys that wait or are on their way. */
  get size(): number {
    return this.#due.size + this.#later.size + this.#running.size;
  }
  get faults(): ReadonlyMap<string, WriteFault> {
    return this.#faults;
  }

  /** The object of this key may differ from what it should be. */
  add(key: string, delayMs = this.#options.pace.delayMs): void {
    // One that failed keeps its delay: a change of the object must not make a storm of what is refused.
    if (this.#due.has(key) || this.#later.has(key)) return;
    this.#due.set(key, this.#options.clock.monotonicMs() + delayMs);
    this.#wake();
  }

  /** Whether the object of this key is to be looked at. */
  has(key: string): boolean {
    return this.#due.has(key) || this.#later.has(key);
  }

  /** Resolves when nothing waits and nothing is on its way. */
  whenIdle(): Promise<void> {
    return this.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Works until the term ends; every request has ended then. */
  async run(): Promise<void> {
    const { signal } = this.#options.term;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const waitMs = this.#step();
      if (waitMs > 0) await this.#sleep(waitMs);
    }
    await Promise.all(this.#tasks);
  }

  /** Begins one request, if one is due; answers how long nothing is to be done, 0: something may be. */
  #step(): number {
    const { clock, pace, term, plan } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs < this.#pausedUntilMs) return this.#pausedUntilMs - nowMs;
    if (this.#running.size >= pace.parallelMax) return Infinity;
    const { key, waitMs } = this.#next(nowMs);
    if (key === undefined) {
      if (this.size === 0) { for (const done of this.#idle.splice(0)) done(); }
      return waitMs;
    }
    const write = plan(key);
    if (write === undefined) {
      this.#done(key);
      return 0;
    }
    if (!term.holds) return 100;
    const tokenMs = this.#bucket.take(nowMs);
    if (tokenMs > 0) return tokenMs;
    const backoff = this.#later.get(key)?.backoff;
    this.#done(key, false);
    this.#running.add(key);
    const task = this.#send(key, write, backoff).finally(() => {
      this.#tasks.delete(task);
      this.#running.delete(key);
      this.#wake();
    });
    this.#tasks.add(task);
    return 0;
  }

  #next(nowMs: number): { key?: string; waitMs: number } {
    let soonestMs = Infinity;
    for (const [key, dueMs] of this.#due) {
      if (this.#running.has(key)) continue;
      if (dueMs <= nowMs) return { key, waitMs: 0 };
      soonestMs = Math.min(soonestMs, dueMs);
      // Those behind it were added later, and nearly all wait equally long.
      if (dueMs - nowMs <= this.#options.pace.delayMs) break;
    }
    for (const [key, { dueMs }] of this.#later) {
      if (dueMs <= nowMs) return { key, waitMs: 0 };
      soonestMs = Math.min(soonestMs, dueMs);
    }
    return { waitMs: soonestMs - nowMs };
  }

  #done(key: string, isRight = true): void {
    this.#due.delete(key);
    this.#later.delete(key);
    if (isRight) this.#faults.delete(key);
  }

  async #send(key: string, write: Write, backoff: Backoff | undefined): Promise<void> {
    const { term, onWrite, name, log } = this.#options;
    try {
      term.check();
      await write.run({ signal: term.signal, deadlineMs: Math.min(REQUEST_MS_MAX, term.requestMsMax) });
      this.#pause.reset();
      this.#faults.delete(key);
      onWrite?.(write.verb, undefined);
    } catch (cause) {
      if (term.signal.aborted) return;
      const error = cause instanceof Error ? cause : new Error(String(cause));
      onWrite?.(write.verb, error);
      this.#failed(key, error, backoff ?? new Backoff({ ...RETRY, random: this.#random }));
      log?.debug("Cannot write", { queue: name, key, error });
    }
  }

  #failed(key: string, error: Error, backoff: Backoff): void {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const isApi = error instanceof ApiServerError;
    if (isApi && (error.isUnanswered || error.code === "TOO_MANY_REQUESTS" || error.retryAfterMs > 0)) {
      // Not all come back in the moment that it names.
      const askedMs = error.retryAfterMs * (1 + 0.1 * this.#random());
      this.#pausedUntilMs = Math.max(this.#pausedUntilMs, nowMs + Math.max(askedMs, this.#pause.nextMs()));
    }
    this.#due.delete(key);
    this.#later.set(key, { dueMs: nowMs + backoff.nextMs(), backoff });
    const before = this.#faults.get(key);
    if (before === undefined && this.#faults.size >= FAULTS_MAX) return;
    this.#faults.set(key, { error, attempts: backoff.attempts, sinceMs: before?.sinceMs ?? clock.nowMs() });
  }

  async #sleep(ms: number): Promise<void> {
    const wake = new AbortController();
    this.#wake = () => wake.abort();
    await this.#options.clock.sleep(Math.min(ms, 3_600_000), wake.signal);
    this.#wake = () => {};
  }
}
