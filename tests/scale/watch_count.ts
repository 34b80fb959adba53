/**
 * What came of a watch, as sums: how many objects, up to which revision, and the sum of their revisions. Every object of a
 * table has another revision, so two readers with the same count and sum have been given the same objects.
 *
 *     chunk of a body ─▶ known, and the same to the last byte?  yes ─▶ what it comes to
 *                                                               no  ─▶ frames (varint length, WatchEvent) ─▶ type, revision
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  dropChunk,
  expectChunk,
  keyOfChunk,
  type KnownChunk,
  knownChunk,
  type KnownPuts,
  learnChunk,
} from "./known_chunks.ts";

/** What came of one collection. */
export interface Counted {
  puts: number;
  deletes: number;
  /** Sum of the revisions of PUTs, modulo 2^48. */
  sum: number;
  /** Newest revision that was told, and the epoch of the newest SYNCED. */
  revision: number;
  epoch: string;
  isSynced: boolean;
}

/** Options of {@link WatchCount}. */
export interface WatchCountOptions {
  /** Of which collection the events are when nothing says it. */
  collection?: string;
  onSynced?: (collection: string, counted: Counted) => void;
  /** The position that was asked for is not held: the collection counts from nothing, with a stream that is opened anew. */
  onGone?: (collection: string) => void;
}

const PUT = 1, DELETED = 2, SYNCED = 3, COLLECTION = 5, GONE = 6;
const SUM_MODULUS = 2 ** 48;
const EMPTY = new Uint8Array(0);
const decoder = new TextDecoder();

/** A chunk that is decoded and kept, for those who are given the same. */
interface Kept {
  readonly key: number;
  readonly bytes: Uint8Array;
  at: number;
  readonly runs: KnownPuts[];
  /** Of the collection before the run that is read. */
  puts: number;
  sum: number;
}

/** Sums of one watch; they go on over streams that resume. */
export class WatchCount {
  readonly collections = new Map<string, Counted>();
  readonly #options: WatchCountOptions;
  #current: Counted | undefined;
  #currentName = "";
  #carry: Uint8Array = EMPTY;
  /** The chunk that comes is this one up to `#knownAt`. */
  #known: KnownChunk | undefined;
  #knownAt = 0;
  #kept: Kept | undefined;
  /** Of the newest PUT. */
  #lastRevision = 0;

  constructor(options: WatchCountOptions) {
    this.#options = options;
    this.begin();
  }

  /** Every collection is complete, and there is one. */
  get isSynced(): boolean {
    for (const { isSynced } of this.collections.values()) if (!isSynced) return false;
    return this.collections.size > 0;
  }

  /** A new stream: what was half read is dropped, and what was not complete counts from nothing. */
  begin(): void {
    this.#keepNot();
    this.#carry = EMPTY;
    this.#known = this.#current = undefined;
    for (const [name, { isSynced }] of this.collections) if (!isSynced) this.collections.delete(name);
    if (this.#options.collection !== undefined) this.#select(this.#options.collection);
  }

  /**
   * Bytes of a chunk of the body.
   * @param left bytes of the chunk that had not come before, these included
   * @param isFirst they are its first
   */
  take(piece: Uint8Array, left: number, isFirst: boolean): void {
    if (isFirst) this.#beginChunk(piece, left);
    if (this.#known === undefined) this.#read(piece);
    else this.#compare(this.#known, piece);
    if (left === piece.length) this.#endChunk();
  }

  #beginChunk(piece: Uint8Array, length: number): void {
    const current = this.#current;
    if (current === undefined || this.#carry.length > 0) return;
    const key = keyOfChunk(piece, length);
    if (key === undefined) return;
    const known = knownChunk(key);
    if (known === undefined) {
      expectChunk(key);
      const bytes = new Uint8Array(length);
      this.#kept = { key, bytes, at: 0, runs: [], puts: current.puts, sum: current.sum };
    } else if (known !== "coming" && known.runs[0].collection === this.#currentName) {
      this.#known = known;
      this.#knownAt = 0;
    }
  }

  #compare(known: KnownChunk, piece: Uint8Array): void {
    const at = this.#knownAt, end = at + piece.length;
    if (Buffer.compare(known.bytes.subarray(at, end), piece) === 0) {
      this.#knownAt = end;
      return;
    }
    this.#known = undefined;
    this.#read(known.bytes.subarray(0, at));
    this.#read(piece);
  }

  #endChunk(): void {
    const known = this.#known, kept = this.#kept;
    this.#known = undefined;
    for (const { collection, puts, sum, revision } of known?.runs ?? []) {
      if (collection !== this.#currentName) this.#select(collection);
      const current = this.#current!;
      current.puts += puts;
      current.sum = (current.sum + sum) % SUM_MODULUS;
      if (current.isSynced && puts > 0) current.revision = revision;
    }
    if (kept === undefined) return;
    if (this.#carry.length > 0) return this.#keepNot();
    this.#endRun(kept);
    this.#kept = undefined;
    learnChunk(kept.key, kept);
  }

  #endRun(kept: Kept): void {
    const { puts, sum } = this.#current!;
    kept.runs.push({
      collection: this.#currentName,
      puts: puts - kept.puts,
      sum: (sum - kept.sum + SUM_MODULUS) % SUM_MODULUS,
      revision: this.#lastRevision,
    });
  }

  #keepNot(): void {
    if (this.#kept !== undefined) dropChunk(this.#kept.key);
    this.#kept = undefined;
  }

  #read(piece: Uint8Array): void {
    if (this.#kept !== undefined) {
      this.#kept.bytes.set(piece, this.#kept.at);
      this.#kept.at += piece.length;
    }
    let bytes = piece;
    if (this.#carry.length > 0) {
      bytes = new Uint8Array(this.#carry.length + piece.length);
      bytes.set(this.#carry);
      bytes.set(piece, this.#carry.length);
    }
    let at = 0;
    while (at < bytes.length) {
      let length = 0, scale = 1, start = at;
      while (start < bytes.length) {
        const byte = bytes[start++];
        length += (byte & 127) * scale;
        scale *= 128;
        if (byte < 128) {
          scale = 0;
          break;
        }
      }
      if (scale !== 0 || start + length > bytes.length) break;
      at = start + length;
      const current = this.#current;
      if (current === undefined || !isPut(bytes, start)) {
        this.#event(bytes, start, at);
        continue;
      }
      let revision = 0;
      for (let byte = start + 3, scale = 1;; scale *= 128) {
        revision += (bytes[byte] & 127) * scale;
        if (bytes[byte++] < 128) break;
      }
      current.puts++;
      current.sum = (current.sum + revision) % SUM_MODULUS;
      if (current.isSynced) current.revision = revision;
      this.#lastRevision = revision;
    }
    this.#carry = at === bytes.length ? EMPTY : bytes.slice(at);
  }

  /** A WatchEvent: fields in the order of their numbers, as protobufjs writes them. */
  #event(bytes: Uint8Array, from: number, to: number): void {
    let at = from, type = 0, revision = 0;
    if (bytes[at] === 0x08) {
      type = bytes[at + 1];
      at += 2;
    }
    if (bytes[at] === 0x10) {
      at++;
      for (let scale = 1;; scale *= 128) {
        const byte = bytes[at++];
        revision += (byte & 127) * scale;
        if (byte < 128) break;
      }
    }
    if (type === COLLECTION || type === GONE) {
      const name = decoder.decode(bytes.subarray(at + 2, to));
      if (type === COLLECTION) return this.#turn(name);
      this.#keepNot();
      this.collections.delete(name);
      this.#current = undefined;
      this.#options.onGone?.(name);
      return;
    }
    const current = this.#current;
    this.#keepNot();
    if (current === undefined) throw new Error("an event of no collection");
    if (type === DELETED) {
      current.deletes++;
      if (current.isSynced) current.revision = revision;
    } else if (type === SYNCED) {
      current.revision = revision;
      // Tag and length of the epoch.
      if (bytes[at] === 0x2a) current.epoch = decoder.decode(bytes.subarray(at + 2, to));
      current.isSynced = true;
      this.#options.onSynced?.(this.#currentName, current);
    }
  }

  /** The events after it are of this collection. */
  #turn(name: string): void {
    const kept = this.#kept;
    if (kept !== undefined) this.#endRun(kept);
    this.#select(name);
    if (kept !== undefined) Object.assign(kept, { puts: this.#current!.puts, sum: this.#current!.sum });
  }

  #select(name: string): void {
    this.#currentName = name;
    this.#current = this.collections.get(name);
    if (this.#current !== undefined) return;
    this.#current = { puts: 0, deletes: 0, sum: 0, revision: 0, epoch: "", isSynced: false };
    this.collections.set(name, this.#current);
  }
}

/** A PUT: type, then revision. */
function isPut(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0x08 && bytes[at + 1] === PUT && bytes[at + 2] === 0x10;
}
