/**
 * The event ring, handed to readers in raw batches. The ring is polled while somebody reads; programs never wake us. What
 * the ring could not take is counted by the programs, what a reader was too slow for is counted here.
 *
 * @module
 */
import type { Clock } from "@weir/common";
import { RingReader } from "@weir/loader";
import { LOST_MAX } from "@weir/maps";
import { EventBatch, type EventLoss } from "@weir/proto/datapath";
import type { Kernel } from "../kernel/kernel.ts";
import { Backlog } from "./backlog.ts";

/** Polling while events come, and while none come. */
const POLL_MS_MIN = 4, POLL_MS_MAX = 20;
/** Bytes that wait for one reader; what is beyond is dropped and counted. */
export const READER_BYTES_MAX = 8 << 20;
/** Readers at once. */
export const READERS_MAX = 16;

interface Reader {
  batches: EventBatch[];
  backlog: Backlog;
  wake: () => void;
}

/** The event ring, handed to readers in raw batches. */
export class EventHub {
  readonly #ring: RingReader;
  readonly #readers = new Set<Reader>();
  /** Records that readers were too slow for, of all of them together. */
  lostStream = 0;
  #sequence = 0;
  #bootUnixS = 0;
  #polling = false;
  #stopped = false;
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #onStreamLost: (lost: ReadonlyMap<number, number>) => void;
  readonly #lostBy: () => EventLoss[];

  /**
   * @param onStreamLost told whose records readers were too slow for
   * @param lostBy who has lost how many, for who begins to read
   */
  constructor(
    kernel: Kernel,
    clock: Clock,
    onStreamLost: (lost: ReadonlyMap<number, number>) => void = () => {},
    lostBy: () => EventLoss[] = () => [],
  ) {
    this.#kernel = kernel;
    this.#clock = clock;
    this.#onStreamLost = onStreamLost;
    this.#lostBy = lostBy;
    this.#ring = new RingReader(kernel.map("weir_events").fd, "weir_events");
    this.#bootUnixS = this.#boot();
  }

  get readers(): number {
    return this.#readers.size;
  }
  get pressure(): { bytes: number; bytesMax: number } {
    return this.#ring.pressure;
  }

  /** Records that the ring had no room for, since the maps were made. */
  lostRing(): number {
    let lost = 0n;
    for (let type = 0; type < LOST_MAX; type++) {
      for (const count of this.#kernel.lost.getPerCpu(type)) lost += count;
    }
    return Number(lost);
  }

  /** The batches from now on, until `signal` aborts. */
  async *read(signal: AbortSignal): AsyncGenerator<EventBatch[]> {
    const backlog = new Backlog(READER_BYTES_MAX, (lost) => {
      for (const count of lost.values()) this.lostStream += count;
      this.#onStreamLost(lost);
    });
    const reader: Reader = { batches: [], backlog, wake: () => {} };
    const onAbort = () => reader.wake();
    signal.addEventListener("abort", onAbort);
    this.#readers.add(reader);
    this.#poll();
    try {
      // The first one says at once that the stream is there, and what was lost before.
      yield [{ ...this.#batch(new Uint8Array(0), 0, 0), lostBy: this.#lostBy() }];
      while (!signal.aborted && !this.#stopped) {
        if (reader.batches.length === 0) {
          await new Promise<void>((resolve) => reader.wake = resolve);
          continue;
        }
        const batches = reader.batches;
        reader.batches = [];
        reader.backlog.clear();
        yield batches;
      }
    } finally {
      this.#readers.delete(reader);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Tells every reader whose losses have grown. */
  announce(lostBy: EventLoss[]): void {
    if (lostBy.length === 0) return;
    for (const reader of this.#readers) {
      reader.batches.push({ ...this.#batch(new Uint8Array(0), 0, reader.backlog.lost), lostBy });
      reader.wake();
    }
  }

  /** Gives records to every reader that no program made. */
  tell(records: readonly Uint8Array[]): void {
    const framed = frame(records);
    this.#sequence++;
    for (const reader of this.#readers) {
      const { records: admitted, count } = reader.backlog.admit(framed, records.length);
      if (count === 0) continue;
      reader.batches.push(this.#batch(admitted, count, reader.backlog.lost));
      reader.wake();
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const reader of this.#readers) reader.wake();
    this.#ring[Symbol.dispose]();
  }

  async #poll(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    let delayMs = POLL_MS_MIN;
    let clockedMs = this.#clock.monotonicMs();
    while (this.#readers.size > 0 && !this.#stopped) {
      const taken = this.#drain();
      delayMs = taken ? POLL_MS_MIN : Math.min(POLL_MS_MAX, delayMs * 2);
      // The wall clock is set now and then; what events are dated by follows it.
      if (this.#clock.monotonicMs() - clockedMs > 60_000) {
        clockedMs = this.#clock.monotonicMs();
        this.#bootUnixS = this.#boot();
      }
      await this.#clock.sleep(delayMs);
    }
    this.#polling = false;
  }

  #drain(): boolean {
    const taken = this.#ring.drain();
    if (taken === undefined) return false;
    this.#sequence++;
    const lostRing = this.lostRing();
    for (const reader of this.#readers) {
      const { records, count } = reader.backlog.admit(taken.records, taken.count);
      if (count === 0) continue;
      reader.batches.push(this.#batch(records, count, reader.backlog.lost, lostRing));
      reader.wake();
    }
    return true;
  }

  #batch(records: Uint8Array, count: number, lostStream: number, lostRing = this.lostRing()): EventBatch {
    return EventBatch.create({
      sequence: this.#sequence,
      records,
      count,
      lostRing,
      lostStream,
      bootUnixS: this.#bootUnixS,
    });
  }

  #boot(): number {
    return this.#clock.nowMs() / 1000 - Number(this.#kernel.sampleClock().time) / 1e9;
  }
}

/** As the ring has them: a length of four bytes, the record, room up to eight. */
function frame(records: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const padded = (record: Uint8Array) => (4 + record.length + 7) & ~7;
  const out = new Uint8Array(records.reduce((sum, record) => sum + padded(record), 0));
  let at = 0;
  for (const record of records) {
    new DataView(out.buffer).setUint32(at, record.length, true);
    out.set(record, at + 4);
    at += padded(record);
  }
  return out;
}
