/**
 * Records of requests on their way to the flow exporter: in batches, bounded, and rather lost than waited for. What was lost is counted, and
 * the flow exporter is told. What waits are bytes: batches that are full, and the one that is being filled.
 * @module
 */
import type { WeirClient } from "@weir/client";
import type { Clock, Logger, MetricsRegistry } from "@weir/common";
import { PROTOBUF_TYPE } from "@weir/common/framing";
import { type L7Record, L7RecordBatch } from "@weir/proto/l7";
import type { Init } from "@weir/proto";
import { RecordBatch } from "./record_batch.ts";

/** Records that wait at most. */
export const RECORDS_MAX = 8192;
/** Bytes of records that wait at most. */
export const RECORD_BYTES_MAX = 16 * 1024 * 1024;
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
  exporter: Pick<WeirClient, "exchange"> | undefined;
  metrics: MetricsRegistry;
  clock: Clock;
  log?: Logger;
  recordsMax?: number;
  recordBytesMax?: number;
}

/** Sends records. */
export class RecordSender implements RecordSink {
  /** The last one is being filled. */
  #batches: RecordBatch[] = [];
  #count = 0;
  #bytes = 0;
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
    const { exporter, recordsMax = RECORDS_MAX, recordBytesMax = RECORD_BYTES_MAX } = this.#parts;
    if (exporter === undefined) return;
    if (this.#count >= recordsMax) return this.#lose(1);
    // As a member of a batch: with its tag and length in front. A record that waited as an object would cost the heap more than its bytes.
    const bytes = L7RecordBatch.encode({ records: [record] });
    if (this.#bytes + bytes.length > recordBytesMax) return this.#lose(1);
    let batch = this.#batches.at(-1);
    if (batch === undefined || batch.isFullFor(bytes.length)) this.#batches.push(batch = new RecordBatch());
    batch.add(bytes);
    this.#count++;
    this.#bytes += bytes.length;
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
    while (this.#count > 0 && exporter !== undefined) {
      const batch = this.#batches.shift()!;
      this.#count -= batch.count;
      this.#bytes -= batch.length;
      try {
        await exporter.exchange(PATH, {
          method: "POST",
          headers: { "accept": PROTOBUF_TYPE, "content-type": PROTOBUF_TYPE },
          body: batch.message(this.#lost),
        }, { deadlineMs: SEND_MS_MAX });
        this.#failing = false;
      } catch (error) {
        this.#lose(batch.count);
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
