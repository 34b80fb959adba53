/**
 * New handles, told to readers as they come: so the proxy knows whose a connection is before it arrives, and need not ask. The program wakes us
 * when there is one; numbers become handles by a look at the table, so that what is told was in use at that moment.
 *
 *     handle_take() ─▶ weir_new_handles ─▶ NewHandles ─▶ /v1/handles:new ─▶ proxy
 *
 * @module
 */
import type { Clock } from "@weir/common";
import { RingReader } from "@weir/loader";
import type { Handle, HandleBatch } from "@weir/proto/l7";
import type { Handles } from "./handles.ts";
import type { Kernel } from "./kernel.ts";

/** Handles that wait for one reader: who is slower asks for the others. */
export const WAITING_MAX = 16_384;
/** Readers at once: workers of the proxy, and people who look. */
export const HANDLE_READERS_MAX = 64;
/** A wait ends by itself, so that stopping needs no wake-up. */
const WAIT_MS = 250;
const TOGETHER_MS = 2;
/** As the ring has it: a length of four bytes, the number, room up to eight. */
const RECORD_BYTES = 8;

interface Reader {
  waiting: Handle[];
  /** When the oldest of them was read. */
  sinceMs: number;
  lost: number;
  wake: () => void;
}

/** Tells of new handles. */
export class NewHandles {
  readonly #kernel: Kernel;
  readonly #handles: Handles;
  readonly #clock: Clock;
  readonly #ring: RingReader;
  readonly #readers = new Set<Reader>();
  #running = false;
  #stopped = false;

  constructor(kernel: Kernel, handles: Handles, clock: Clock) {
    this.#kernel = kernel;
    this.#handles = handles;
    this.#clock = clock;
    this.#ring = new RingReader(kernel.map("weir_new_handles").fd, "weir_new_handles");
  }

  get readers(): number {
    return this.#readers.size;
  }

  /** Handles that the ring had no room for, since the maps were made. Nobody reads it while there is no proxy. */
  untold(): number {
    return Number(
      this.#kernel.typed("weir_handles_untold").getPerCpu(0).reduce((sum, count) => sum + count, 0n),
    );
  }

  /** Those from now on, and some before, until `signal` aborts. The first message has none, and says that the stream is there. */
  async *read(signal: AbortSignal): AsyncGenerator<HandleBatch[]> {
    const reader: Reader = { waiting: [], sinceMs: 0, lost: 0, wake: () => {} };
    const onAbort = () => reader.wake();
    signal.addEventListener("abort", onAbort);
    this.#readers.add(reader);
    const untoldBefore = this.untold();
    void this.#run();
    try {
      yield [{ items: [], timeUnixS: this.#clock.nowMs() / 1000, lost: 0 }];
      while (!signal.aborted && !this.#stopped) {
        if (reader.waiting.length === 0) {
          await new Promise<void>((resolve) => reader.wake = resolve);
          continue;
        }
        const items = reader.waiting;
        reader.waiting = [];
        yield [{
          items,
          timeUnixS: reader.sinceMs / 1000,
          lost: reader.lost + this.untold() - untoldBefore,
        }];
      }
    } finally {
      this.#readers.delete(reader);
      signal.removeEventListener("abort", onAbort);
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const reader of this.#readers) reader.wake();
    if (!this.#running) this.#ring[Symbol.dispose]();
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    while (this.#readers.size > 0 && !this.#stopped) {
      // Where several come at once more do: they are told together, for a message costs more than what it says.
      if (this.#drain() > 1) await this.#clock.sleep(TOGETHER_MS);
      else await this.#ring.wait(WAIT_MS);
    }
    this.#running = false;
    if (this.#stopped) this.#ring[Symbol.dispose]();
  }

  /** @returns how many there were */
  #drain(): number {
    let count = 0;
    for (let taken = this.#ring.drain(); taken !== undefined; taken = this.#ring.drain()) {
      const view = new DataView(taken.records.buffer);
      const items: Handle[] = [];
      for (let at = 0; at + RECORD_BYTES <= view.byteLength; at += RECORD_BYTES) {
        const handle = this.#handles.numbered(view.getUint32(at + 4, true));
        if (handle !== undefined) items.push(handle);
      }
      if (items.length > 0) this.#tell(items);
      count += taken.count;
    }
    return count;
  }

  #tell(items: readonly Handle[]): void {
    const nowMs = this.#clock.nowMs();
    for (const reader of this.#readers) {
      const room = WAITING_MAX - reader.waiting.length;
      if (items.length > room) reader.lost += items.length - room;
      if (reader.waiting.length === 0) reader.sinceMs = nowMs;
      reader.waiting.push(...items.slice(0, room));
      reader.wake();
    }
  }
}
