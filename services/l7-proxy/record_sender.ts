/**
 * Records of requests on their way to the flow exporter: in batches, bounded, and rather lost than waited for. What was lost is counted, and
 * the flow exporter is told.
 * @module
 */
import type { WeirClient } from "@weir/client";
import type { Clock, Logger, MetricsRegistry } from "@weir/common";
import { type L7Record, L7RecordBatch } from "@weir/proto/l7";
import type { Init } from "@weir/proto";

/** Records that wait at most. */
export const RECORDS_MAX = 8192;
/** Records of one batch. */
export const BATCH_RECORDS_MAX = 512;
const BATCH_MS = 100;
const SEND_MS_MAX = 2000;
const PATH = "/v1/l7records:add";

/** Where records go. */
export interface RecordSink {
  send(record: Init<L7Record>): void;
}

/** What {@link RecordSender} is made of. */
export interface RecordSenderParts {
  /** The flow exporter; undefined: nobody wants records. */
  exporter: Pick<WeirClient, "call"> | undefined;
  metrics: MetricsRegistry;
  clock: Clock;
  log?: Logger;
  recordsMax?: number;
}

/** Sends records. */
export class RecordSender implements RecordSink {
  #waiting: Init<L7Record>[] = [];
  #lost = 0;
  #failing = false;
  readonly #parts: RecordSenderParts;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(parts: RecordSenderParts) {
    this.#parts = parts;
    parts.metrics.counter(
      "weir_l7_records_lost_total",
      "Records of requests that the flow exporter did not get",
    )
      .increment({}, 0);
  }

  /** Records that nobody got, since the proxy started. */
  get lost(): number {
    return this.#lost;
  }

  send(record: Init<L7Record>): void {
    if (this.#parts.exporter === undefined) return;
    if (this.#waiting.length >= (this.#parts.recordsMax ?? RECORDS_MAX)) this.#lose(1);
    else this.#waiting.push(record);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop, { clock } = this.#parts;
    while (!signal.aborted) {
      await clock.sleep(BATCH_MS, signal);
      await this.flush();
    }
  }

  /** Sends what waits. Never rejects. */
  async flush(): Promise<void> {
    const { exporter, log } = this.#parts;
    while (this.#waiting.length > 0 && exporter !== undefined) {
      const records = this.#waiting.splice(0, BATCH_RECORDS_MAX);
      try {
        await exporter.call(PATH, {
          request: { message: L7RecordBatch, value: { records, lost: this.#lost } },
          response: L7RecordBatch,
          deadlineMs: SEND_MS_MAX,
        });
        this.#failing = false;
      } catch (error) {
        this.#lose(records.length);
        if (!this.#failing) log?.warn("Cannot hand records to the flow exporter", { error });
        this.#failing = true;
        return;
      }
    }
  }

  #lose(count: number): void {
    this.#lost += count;
    this.#parts.metrics.counter(
      "weir_l7_records_lost_total",
      "Records of requests that the flow exporter did not get",
    )
      .increment({}, count);
  }
}
