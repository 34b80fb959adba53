/** The end of streams that say nothing. @module */
import type { Clock } from "@weir/common/clock";
import { ApiServerError } from "./error.ts";

/** Cuts a stream that says nothing. While its reader works it rests. */
export class Silence {
  readonly #stop = new AbortController();
  #timer: AbortController | undefined;

  /** @param outer ends the stream too. One signal for both: one of `AbortSignal.any` may be collected before it aborts */
  constructor(
    readonly clock: Clock,
    readonly ms: number,
    readonly action: string,
    readonly outer?: AbortSignal,
  ) {
    if (outer?.aborted) this.#stop.abort(outer.reason);
    outer?.addEventListener("abort", this.#abort, { once: true });
  }

  readonly #abort = () => this.#stop.abort(this.outer?.reason);

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  heard(): void {
    this.rest();
    const timer = this.#timer = new AbortController();
    void this.clock.sleep(this.ms, timer.signal).then(() => {
      if (timer.signal.aborted) return;
      this.#stop.abort(
        new ApiServerError("STREAM_SILENT", {
          status: 504,
          detail: `Cannot ${this.action}: nothing was heard for ${this.ms} ms`,
          expected: "an event or a bookmark",
        }),
      );
    });
  }

  rest(): void {
    this.#timer?.abort();
  }

  end(): void {
    this.rest();
    this.outer?.removeEventListener("abort", this.#abort);
    this.#stop.abort();
  }
}
