/**
 * Counts what a client may do now and then, but not all the time: frames that carry nothing, and requests that are given up at once.
 * @module
 */
import { Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";

/** The counts of one side. */
export class FloodGuard {
  #sinceMs = 0;
  #control = 0;
  #opened = 0;
  #premature = 0;
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** A frame that asks for work and carries nothing. @throws {Http2Error} control-flood */
  control(): void {
    this.#turn();
    if (++this.#control > HTTP2_LIMITS.controlCount) {
      throw new Http2Error("control-flood", `more than ${HTTP2_LIMITS.controlCount}`);
    }
  }

  /** A frame that carries something, in either direction: who asks how fast the way is sends a PING with each. */
  useful(): void {
    if (this.#control > 0) this.#control--;
  }

  /** A request began. */
  opened(): void {
    this.#turn();
    this.#opened++;
  }

  /**
   * A request ended before its answer began, by the client's RST_STREAM or by its fault. A few are given up in time by everybody;
   * who gives up most of what it asks for only wants the work done.
   * @throws {Http2Error} reset-flood
   */
  givenUp(openedMs: number): void {
    this.#turn();
    if (this.#nowMs() - openedMs > HTTP2_LIMITS.prematureMs) return;
    if (++this.#premature > HTTP2_LIMITS.prematureCount && this.#premature * 2 > this.#opened) {
      throw new Http2Error("reset-flood", `more than ${HTTP2_LIMITS.prematureCount}`);
    }
  }

  #turn(): void {
    const nowMs = this.#nowMs();
    if (nowMs - this.#sinceMs < HTTP2_LIMITS.windowMs) return;
    this.#sinceMs = nowMs;
    this.#control = this.#opened = this.#premature = 0;
  }
}
