/** What all clients of the DNS proxy share: how many questions are under way, and who sees to the addresses of answers. @module */
import type { Clock, MetricsRegistry } from "@weir/common";
import { ANSWER_MS_MAX, ENDPOINT_QUESTIONS_MAX, HELD_BYTES_TOTAL_MAX, QUESTIONS_MAX } from "./limits.ts";
import type { NameLearner } from "./name_learner.ts";

/** What {@link DnsShared} is made of. */
export interface DnsSharedParts {
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
  /** Undefined: nobody wants to know names, and no answer is held. */
  readonly learner?: NameLearner;
  /** How a name is denied; default: refused. */
  readonly denial?: "refused" | "nxdomain";
  readonly questionsMax?: number;
  readonly endpointQuestionsMax?: number;
  readonly answerMsMax?: number;
}

/** A question that was passed on. */
export interface Pending {
  /** Whose it is: told when no answer came in time. */
  readonly flow: { expire(id: number): void };
  /** At the server; the client's own is `clientId`. */
  readonly id: number;
  /** Since when nothing came. */
  sinceMs: number;
}

/** See the module. */
export class DnsShared {
  readonly clock: Clock;
  readonly denial: "refused" | "nxdomain";
  readonly learner: NameLearner | undefined;
  #questions = 0;
  #heldBytes = 0;
  readonly #byEndpoint = new Map<number, number>();
  /** Oldest first: all wait for as long. */
  readonly #pending = new Set<Pending>();
  readonly #parts: DnsSharedParts;

  constructor(parts: DnsSharedParts) {
    this.#parts = parts;
    this.clock = parts.clock;
    this.denial = parts.denial ?? "refused";
    this.learner = parts.learner;
    parts.metrics.gauge("weir_l7_dns_questions", "Questions whose answers are to come, or are held")
      .collect(() => this.#questions);
  }

  /** Questions under way. */
  get questions(): number {
    return this.#questions;
  }

  /** Takes one question of an endpoint (0: none of this node); false: there are too many. */
  begin(endpoint: number): boolean {
    const { questionsMax = QUESTIONS_MAX, endpointQuestionsMax = ENDPOINT_QUESTIONS_MAX } = this.#parts;
    const own = this.#byEndpoint.get(endpoint) ?? 0;
    if (this.#questions >= questionsMax || own >= endpointQuestionsMax) return false;
    this.#questions++;
    this.#byEndpoint.set(endpoint, own + 1);
    return true;
  }

  /** Gives it back. */
  finish(endpoint: number): void {
    this.#questions--;
    const own = this.#byEndpoint.get(endpoint)! - 1;
    if (own > 0) this.#byEndpoint.set(endpoint, own);
    else this.#byEndpoint.delete(endpoint);
  }

  /** It waits for the server, from now on. */
  waits(pending: Pending): void {
    this.#pending.delete(pending);
    pending.sinceMs = this.clock.monotonicMs();
    this.#pending.add(pending);
  }

  /** It does not any more. */
  waitsNoMore(pending: Pending): void {
    this.#pending.delete(pending);
  }

  /** Gives up what has waited for too long. */
  expire(): void {
    const { answerMsMax = ANSWER_MS_MAX } = this.#parts;
    const beforeMs = this.clock.monotonicMs() - answerMsMax;
    for (const pending of this.#pending) {
      if (pending.sinceMs > beforeMs) break;
      pending.flow.expire(pending.id);
    }
  }

  /** A message that goes nowhere. */
  dropped(why: string): void {
    this.#parts.metrics.counter("weir_l7_dns_dropped_total", "Messages of DNS that went nowhere, by why")
      .increment({ why });
  }

  /** Bytes of messages of which more must come: see `HeldBudget`. */
  hold(bytes: number): boolean {
    if (bytes > 0 && this.#heldBytes + bytes > HELD_BYTES_TOTAL_MAX) return false;
    this.#heldBytes += bytes;
    return true;
  }
}
