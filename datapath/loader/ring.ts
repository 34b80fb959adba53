/**
 * Reads a BPF ring buffer, by polling (a wake-up costs 7 us), or by waiting where its program wakes readers. The pages are mapped into this process; a drain
 * copies what is there into one batch.
 *
 *     offset 0          page            2 pages, then the data area twice in a row
 *     | consumer (rw) | producer (ro) | data ............ | data again ....... |
 *     record: u32 length (bit 31 busy, bit 30 discarded), u32 page offset, bytes, padding to 8
 *
 * @module
 */
import { BpfError } from "./errors.ts";
import { mapInfo } from "./info.ts";
import { lastErrno, libc } from "./library.ts";

const PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, SC_PAGESIZE = 30, POLLIN = 1;
const BUSY = 0x8000_0000, DISCARDED = 0x4000_0000, LENGTH_MASK = 0x3fff_ffff, HEADER_BYTES = 8;

/** What one drain took. */
export interface RingBatch {
  /** Records one after another: u32 length (little endian), bytes, padding to 8. */
  records: Uint8Array<ArrayBuffer>;
  count: number;
}

/** One reader of a ring; a ring has one reader only. */
export class RingReader implements Disposable {
  readonly #pageBytes: number;
  readonly #dataBytes: number;
  #consumer: { pointer: Deno.PointerObject; position: BigUint64Array } | undefined;
  #producer: { pointer: Deno.PointerObject; position: BigUint64Array; bytes: number };
  readonly #data: DataView;
  readonly #dataArray: Uint8Array;

  readonly #fd: number;

  /** @param fd of the ring's map, which its owner keeps open for as long as somebody reads */
  constructor(fd: number, readonly name: string = "ring") {
    this.#fd = fd;
    this.#pageBytes = Number(libc().sysconf(SC_PAGESIZE));
    this.#dataBytes = mapInfo(fd).entriesMax;
    const consumer = this.#map(fd, this.#pageBytes, PROT_READ | PROT_WRITE, 0);
    this.#consumer = {
      pointer: consumer,
      position: new BigUint64Array(Deno.UnsafePointerView.getArrayBuffer(consumer, 8)),
    };
    const bytes = this.#pageBytes + 2 * this.#dataBytes;
    const producer = this.#map(fd, bytes, PROT_READ, this.#pageBytes);
    const pages = Deno.UnsafePointerView.getArrayBuffer(producer, bytes);
    this.#producer = { pointer: producer, position: new BigUint64Array(pages, 0, 1), bytes };
    this.#data = new DataView(pages, this.#pageBytes);
    this.#dataArray = new Uint8Array(pages, this.#pageBytes);
  }

  /** Bytes that wait to be read, and the size of the ring. */
  get pressure(): { bytes: number; bytesMax: number } {
    if (this.#consumer === undefined) return { bytes: 0, bytesMax: this.#dataBytes };
    const waiting = Atomics.load(this.#producer.position, 0) - this.#consumer.position[0];
    return { bytes: Number(waiting), bytesMax: this.#dataBytes };
  }

  /** Waits until something is there that its program has woken readers for, or `msMax` have passed. On a thread of its own. */
  async wait(msMax: number): Promise<void> {
    const wanted = new Uint8Array(8); // struct pollfd
    const view = new DataView(wanted.buffer);
    view.setInt32(0, this.#fd, true);
    view.setInt16(4, POLLIN, true);
    await libc().poll(wanted, 1n, msMax);
  }

  /** Takes what is there, at most `bytesMax` of it; undefined when nothing is. Never waits. */
  drain(bytesMax = 1 << 20): RingBatch | undefined {
    if (this.#consumer === undefined) return undefined;
    const begin = this.#consumer.position[0];
    const end = Atomics.load(this.#producer.position, 0);
    const mask = BigInt(this.#dataBytes - 1);
    let position = begin, outBytes = 0, count = 0;
    const parts: [offset: number, length: number][] = [];
    while (position < end && outBytes < bytesMax) {
      const at = Number(position & mask);
      const head = this.#data.getUint32(at, true);
      if (head & BUSY) break; // a program on another CPU is writing it
      const length = head & LENGTH_MASK;
      if ((head & DISCARDED) === 0) {
        parts.push([at + HEADER_BYTES, length]);
        outBytes += roundUp8(4 + length);
        count++;
      }
      position += BigInt(roundUp8(length + HEADER_BYTES));
    }
    if (position === begin) return undefined;
    const records = new Uint8Array(outBytes);
    const view = new DataView(records.buffer);
    let out = 0;
    for (const [offset, length] of parts) {
      view.setUint32(out, length, true);
      records.set(this.#dataArray.subarray(offset, offset + length), out + 4);
      out += roundUp8(4 + length);
    }
    Atomics.store(this.#consumer.position, 0, position); // only now may programs write over it
    return { records, count };
  }

  [Symbol.dispose](): void {
    if (this.#consumer === undefined) return;
    libc().munmap(this.#consumer.pointer, BigInt(this.#pageBytes));
    libc().munmap(this.#producer.pointer, BigInt(this.#producer.bytes));
    this.#consumer = undefined;
  }

  #map(fd: number, bytes: number, protection: number, offset: number): Deno.PointerObject {
    const pointer = libc().mmap(null, BigInt(bytes), protection, MAP_SHARED, fd, BigInt(offset));
    if (pointer === null || Deno.UnsafePointer.value(pointer) === 0xffff_ffff_ffff_ffffn) {
      throw new BpfError("map-failed", `Cannot map ${this.name} into memory`, { errno: lastErrno() });
    }
    return pointer;
  }
}

function roundUp8(bytes: number): number {
  return (bytes + 7) & ~7;
}
