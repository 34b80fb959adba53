/** What became of the last probes, sent and heard. Pure: times are arguments, in milliseconds of a clock that only goes on. @module */

/** So many probes are judged: older ones say little about now. */
export const WINDOW = 20;

/** What became of one probe. */
export interface Sample {
  /** "unknown" counts for nothing. */
  state: "waiting" | "answered" | "lost" | "refused" | "unknown";
  latencyMs?: number;
}

/** The last probes that were sent. */
export class SentSamples {
  #samples: Sample[] = [];

  /** One more is on its way. */
  add(): Sample {
    const sample: Sample = { state: "waiting" };
    this.#samples = [...this.#samples.filter(({ state }) => state !== "unknown"), sample];
    // Those that are on their way do not push out what is judged.
    while (this.#samples.filter(isJudged).length > WINDOW) this.#samples.shift();
    return sample;
  }

  /** Begins anew: also what is on its way was sent before. An answer to it counts. */
  clear(): void {
    this.#samples = this.#samples.filter((sample) => !isJudged(sample));
    this.#forgetWaiting();
  }

  /** Takes out the newest that were lost one after another: an outage that is over is no loss. */
  endOutage(): void {
    const lost = new Set(this.judged.slice(this.judged.length - this.lostInARow));
    this.#samples = this.#samples.filter((sample) => !lost.has(sample));
    this.#forgetWaiting();
  }

  /** The last that are judged, the oldest first. */
  get judged(): readonly Sample[] {
    return this.#samples.filter(isJudged).slice(-WINDOW);
  }

  /** How many of the newest were lost, one after another. */
  get lostInARow(): number {
    const { judged } = this;
    return judged.length - 1 - judged.findLastIndex(({ state }) => state !== "lost");
  }

  /** 0..1; 0 where nothing is judged. */
  get loss(): number {
    const { judged } = this;
    return judged.filter(({ state }) => state === "lost").length / Math.max(1, judged.length);
  }

  /** Of those that were answered; undefined when there are none. */
  get latency(): { minMs: number; avgMs: number } | undefined {
    const known = this.judged.flatMap(({ latencyMs }) => latencyMs === undefined ? [] : [latencyMs]);
    if (known.length === 0) return undefined;
    return { minMs: Math.min(...known), avgMs: known.reduce((sum, ms) => sum + ms, 0) / known.length };
  }

  #forgetWaiting(): void {
    for (const sample of this.#samples) if (sample.state === "waiting") sample.state = "unknown";
  }
}

function isJudged({ state }: Sample): boolean {
  return state !== "waiting" && state !== "unknown";
}

/** Numbered probes of the other node that arrived here. */
export class HeardSamples {
  #session: bigint | undefined;
  #first = 0;
  #highest = 0;
  /** Of the last numbers: which came. */
  #came = new Set<number>();
  #heardMs: number | undefined;

  /** @param session of the process that numbers: another one begins anew */
  heard(session: bigint, sequence: number, nowMs: number): void {
    this.#heardMs = nowMs;
    // A number far ahead: we were away, not the packets.
    if (this.#session !== session || sequence > this.#highest + 10 * WINDOW) {
      this.#session = session;
      this.#first = this.#highest = sequence;
      this.#came = new Set();
    }
    if (sequence > this.#highest - WINDOW && sequence >= this.#first) this.#came.add(sequence);
    this.#highest = Math.max(this.#highest, sequence);
    for (const number of this.#came) if (number <= this.#highest - WINDOW) this.#came.delete(number);
  }

  /** Since when nothing was heard; undefined: never was. */
  get heardMs(): number | undefined {
    return this.#heardMs;
  }

  /** Of the last numbers up to the newest that came; undefined while there are fewer than 10. */
  get loss(): number | undefined {
    const numbers = Math.min(WINDOW, this.#highest - this.#first + 1);
    return numbers < 10 ? undefined : 1 - this.#came.size / numbers;
  }
}
