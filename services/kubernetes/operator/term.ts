/** The time in which one operator leads. @module */
import type { Clock } from "@weir/common/clock";
import { ProblemError } from "@weir/common/problem";

/** How long a leader is believed, and how long it believes itself. */
export interface LeaseTimes {
  /** So long after its last sign of life others wait before one of them leads. */
  readonly leaseMs: number;
  /** So long after its last renewal a leader stops to write: well before `leaseMs`. */
  readonly renewMs: number;
  /** Between two attempts. */
  readonly retryMs: number;
}

/** 15 s, 10 s and 2 s, as other operators have it. */
export const LEASE_TIMES: LeaseTimes = { leaseMs: 15_000, renewMs: 10_000, retryMs: 2000 };

/**
 * One time of leading. It ends by itself when it was not renewed: whoever writes asks `check()` before each request, so that
 * a process that was stopped for a while and goes on writes nothing more, although nobody has told it yet.
 *
 *     renewed ──────────── renewMs: no request is begun ──── leaseMs: every request has ended; another may lead
 */
export class Term {
  readonly #clock: Clock;
  readonly #times: LeaseTimes;
  readonly #end = new AbortController();
  #steadyMs: number;
  #wallMs: number;

  /** @param at when the request that began it was sent, see {@link Term.now} */
  constructor(clock: Clock, times: LeaseTimes, at = Term.now(clock)) {
    this.#clock = clock;
    this.#times = times;
    this.#steadyMs = at.steadyMs;
    this.#wallMs = at.wallMs;
  }

  /** A moment on both clocks. */
  static now(clock: Clock): { steadyMs: number; wallMs: number } {
    return { steadyMs: clock.monotonicMs(), wallMs: clock.nowMs() };
  }

  /** Aborts when the term is over. */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  /** The lease was taken again by a request that was sent at `at`. */
  renewed(at: { steadyMs: number; wallMs: number }): void {
    this.#steadyMs = at.steadyMs;
    this.#wallMs = at.wallMs;
  }

  /** Whether a request may begin now. */
  get holds(): boolean {
    return !this.signal.aborted && this.#silentMs() < this.#times.renewMs;
  }

  /** True once nothing can bring it back: the steady clock says so. A wall clock that jumps only holds writing up. */
  get isOver(): boolean {
    return this.signal.aborted || this.leftMs <= 0;
  }

  /** How long it lasts when it is not renewed, milliseconds by the steady clock. */
  get leftMs(): number {
    return this.#times.renewMs - (this.#clock.monotonicMs() - this.#steadyMs);
  }

  /** Longest time that a request which begins now may take, milliseconds. */
  get requestMsMax(): number {
    return Math.max(1, this.#times.leaseMs - this.#silentMs());
  }

  /** @throws {ProblemError} NOT_LEADING */
  check(): void {
    if (this.holds) return;
    throw new ProblemError("NOT_LEADING", {
      status: 409,
      detail: "Cannot write: this operator does not lead any more, or does not know it",
      found: `the last renewal was ${Math.round(this.#silentMs())} ms ago`,
      expected: `at most ${this.#times.renewMs} ms`,
    });
  }

  /** Ends it. */
  end(reason = "The lease was lost"): void {
    this.#end.abort(new ProblemError("NOT_LEADING", { status: 409, detail: `Cannot write: ${reason}` }));
  }

  /**
   * The longer of what both clocks say: the steady one stands still while a machine sleeps, and the wall clock does not.
   */
  #silentMs(): number {
    return Math.max(this.#clock.monotonicMs() - this.#steadyMs, this.#clock.nowMs() - this.#wallMs);
  }
}
