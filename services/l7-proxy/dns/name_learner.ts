/**
 * Tells the endpoint manager which addresses an endpoint was answered, and says when they are in force. What comes within a moment goes in one request, one
 * is under way at a time, and what was told lately is not told again.
 *
 *     learn() ─▶ waiting ─▶ one request, at most 1024 names ─▶ in force: remembered for half of its lifetime
 *                  ▲                                        └▶ refused: halves, until it is known which name is meant
 *                  └──────────────────────────────────────────▶ nobody there: again, until 2 s are over
 *
 * A name that no selector of the endpoint's policy means is told too, for other selectors may come and flows show names; but its answer is held for 100 ms
 * at most, and not at all while nobody takes names.
 *
 * @module
 */
import { type Clock, errorText, type Logger, type MetricsRegistry, ProblemError } from "@weir/common";
import type { Init } from "@weir/proto";
import type { LearnedName } from "@weir/proto/endpoint";
import {
  FREE_MS_MAX,
  LEARN_ADDRESSES_MAX,
  LEARN_MS_MAX,
  LEARN_NAMES_MAX,
  LEARNED_ADDRESSES_MAX,
  WAITING_FREE_MAX,
} from "./limits.ts";

const GATHER_MS = 1;
const RETRY_MS = 50;

/** What an endpoint was answered. */
export interface Learned {
  readonly endpoint: number;
  /** Lower case, with its final dot. */
  readonly name: string;
  readonly addresses: readonly string[];
  readonly ttlS: number;
}

/** What {@link NameLearner} is made of. */
export interface NameLearnerParts {
  /** Hands names over. Resolves when all of it is in force. @throws {ProblemError} what is wrong with them, or why it cannot be done now */
  readonly tell: (names: Init<LearnedName>[], deadlineMs: number) => Promise<unknown>;
  /**
   * Something that stays the same as long as the number of an endpoint means the same one: what was told of one before it is forgotten when
   * this changes.
   */
  readonly endpointOf: (id: number) => unknown;
  /** Whether the endpoint's policy may say something of the name's addresses; default: of every name. */
  readonly mayMean?: (endpoint: number, name: string) => boolean;
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
  readonly log?: Logger;
  readonly learnMsMax?: number;
  readonly addressesMax?: number;
}

interface Waiting {
  readonly learned: Learned;
  readonly untilMs: number;
  /** Nobody waits for it. */
  readonly isFree: boolean;
  readonly settle: (isInForce: boolean) => void;
}

/** Addresses of one name of one endpoint, each with the time until which it need not be told again. */
interface Remembered {
  readonly endpoint: unknown;
  readonly addresses: Map<string, number>;
}

/** Sees to it that addresses are in force. */
export class NameLearner {
  #waiting: Waiting[] = [];
  #running = false;
  #count = 0;
  /** What was said in the log of the last failure; "": it went well since. */
  #said = "";
  readonly #remembered = new Map<string, Remembered>();
  readonly #parts: NameLearnerParts;

  constructor(parts: NameLearnerParts) {
    this.#parts = parts;
    parts.metrics.gauge(
      "weir_l7_dns_names_waiting",
      "Answers that are held until their addresses are in force",
    )
      .collect(() => this.#waiting.length);
    parts.metrics.gauge("weir_l7_dns_addresses_known", "Addresses of names that are known to be in force")
      .collect(() => this.#count);
  }

  /** Addresses that need not be told again. */
  get known(): number {
    return this.#count;
  }

  /** Whether all of it is known to be in force: then it need not be learned. */
  isKnown({ endpoint, name, addresses }: Learned): boolean {
    const found = this.#remembered.get(keyOf(endpoint, name));
    if (found === undefined || found.endpoint !== this.#parts.endpointOf(endpoint)) return false;
    const nowMs = this.#parts.clock.monotonicMs();
    return addresses.every((address) => (found.addresses.get(address) ?? 0) > nowMs);
  }

  /**
   * @returns whether the answer may be passed on: its addresses are in force, or no selector of the endpoint's policy means its name. False
   * after 2 s at the latest. Never rejects
   */
  async learn(learned: Learned): Promise<boolean> {
    const { clock, mayMean } = this.#parts;
    if (mayMean === undefined || mayMean(learned.endpoint, learned.name)) {
      return await this.#queue(learned, false);
    }
    if (this.#waiting.length >= WAITING_FREE_MAX) this.#failed("full", true);
    else {
      // Whether anybody takes names is known before this one is told.
      const isAway = this.#said !== "", told = this.#queue(learned, true), done = new AbortController();
      if (!isAway) await Promise.race([told, clock.sleep(FREE_MS_MAX, done.signal)]);
      done.abort();
    }
    return true;
  }

  #queue(learned: Learned, isFree: boolean): Promise<boolean> {
    const { clock, learnMsMax = LEARN_MS_MAX } = this.#parts;
    const untilMs = clock.monotonicMs() + learnMsMax;
    return new Promise((settle) => {
      this.#waiting.push({ learned, untilMs, isFree, settle });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts;
    this.#running = true;
    await clock.sleep(GATHER_MS);
    while (this.#waiting.length > 0) {
      const batch = this.#next();
      if (batch.length === 0) continue;
      if (await this.#tell(batch)) continue;
      this.#waiting.unshift(...batch);
      await clock.sleep(RETRY_MS);
    }
    this.#running = false;
  }

  /** The next that are told together; those that waited for too long are given up. */
  #next(): Waiting[] {
    const nowMs = this.#parts.clock.monotonicMs(), batch: Waiting[] = [];
    let addresses = 0, taken = 0;
    for (const one of this.#waiting) {
      const { learned: { addresses: { length } }, untilMs, isFree, settle } = one;
      if (untilMs <= nowMs) {
        this.#failed("late", isFree);
        settle(false);
      } else if (
        batch.length >= LEARN_NAMES_MAX || batch.length > 0 && addresses + length > LEARN_ADDRESSES_MAX
      ) break;
      else {
        batch.push(one);
        addresses += length;
      }
      taken++;
    }
    this.#waiting.splice(0, taken);
    return batch;
  }

  /** @returns false: nobody takes it now, and it may be tried again */
  async #tell(batch: readonly Waiting[]): Promise<boolean> {
    const { clock, tell, endpointOf } = this.#parts;
    const startMs = clock.monotonicMs();
    const endpoints = batch.map(({ learned }) => endpointOf(learned.endpoint));
    try {
      const names = batch.map(({ learned: { endpoint, name, addresses, ttlS } }) => ({
        endpoint,
        name,
        addresses: [...addresses],
        ttlS,
      }));
      const deadlineMs = Math.max(1, Math.min(...batch.map(({ untilMs }) => untilMs)) - startMs);
      await this.#within(deadlineMs, tell(names, deadlineMs));
    } catch (error) {
      this.#say(error);
      const isRefused = error instanceof ProblemError && error.status >= 400 && error.status < 500;
      if (!isRefused) return false;
      if (batch.length === 1) {
        this.#failed("refused", batch[0].isFree);
        batch[0].settle(false);
        return true;
      }
      // One of them may be what is wrong: the others must not suffer for it.
      const middle = batch.length >> 1;
      for (const half of [batch.slice(0, middle), batch.slice(middle)]) {
        if (!await this.#tell(half)) this.#waiting.unshift(...half);
      }
      return true;
    }
    this.#said = "";
    for (const [at, { learned, settle }] of batch.entries()) {
      this.#remember(learned, endpoints[at], startMs);
      settle(true);
    }
    return true;
  }

  #say(error: unknown): void {
    const text = errorText(error);
    if (text !== this.#said) this.#parts.log?.warn("Addresses of names are not in force", { error: text });
    this.#said = text;
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    const done = new AbortController();
    const late = this.#parts.clock.sleep(ms, done.signal).then(() => {
      if (!done.signal.aborted) throw new Error("late");
    });
    try {
      await Promise.race([work, late]);
    } finally {
      done.abort();
    }
  }

  #remember({ endpoint, name, addresses, ttlS }: Learned, same: unknown, nowMs: number): void {
    if (same === undefined || this.#parts.endpointOf(endpoint) !== same) return;
    const key = keyOf(endpoint, name), untilMs = nowMs + ttlS * 500;
    let found = this.#remembered.get(key);
    this.#forget(key);
    // What is over by now goes with it.
    found = found?.endpoint === same ? found : undefined;
    const kept = new Map([...found?.addresses ?? []].filter(([, until]) => until > nowMs));
    for (const address of addresses) kept.set(address, Math.max(untilMs, kept.get(address) ?? 0));
    this.#remembered.set(key, { endpoint: same, addresses: kept });
    this.#count += kept.size;
    const { addressesMax = LEARNED_ADDRESSES_MAX } = this.#parts;
    for (const oldest of this.#remembered.keys()) {
      if (this.#count <= addressesMax) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    this.#count -= this.#remembered.get(key)?.addresses.size ?? 0;
    this.#remembered.delete(key);
  }

  #failed(why: "late" | "refused" | "full", isFree: boolean): void {
    const { metrics } = this.#parts;
    const counter = isFree
      ? metrics.counter(
        "weir_l7_dns_names_untold_total",
        "Answers that were passed on, since no policy waits for their names, and of which the endpoint manager did not hear",
      )
      : metrics.counter(
        "weir_l7_dns_names_failed_total",
        "Answers that were not passed on because their addresses did not come in force",
      );
    counter.increment({ why });
  }
}

const keyOf = (endpoint: number, name: string) => `${endpoint} ${name}`;
