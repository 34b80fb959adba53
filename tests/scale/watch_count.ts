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
  /** Of the collection before it. */
  readonly puts: number;
  readonly sum: number;
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
      this.#kept = { key, bytes: new Uint8Array(length), at: 0, puts: current.puts, sum: current.sum };
    } else if (known !== "coming") {
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
    const known = this.#known, kept = this.#kept, current = this.#current;
    if (known !== undefined && current !== undefined) {
      this.#known = undefined;
      current.puts += known.puts;
      current.sum = (current.sum + known.sum) % SUM_MODULUS;
      if (current.isSynced) current.revision = known.revision;
    }
    if (kept === undefined || current === undefined) return;
    if (this.#carry.length > 0) return this.#keepNot();
    this.#kept = undefined;
    learnChunk(kept.key, {
      bytes: kept.bytes,
      puts: current.puts - kept.puts,
      sum: (current.sum - kept.sum + SUM_MODULUS) % SUM_MODULUS,
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
        this.#keepNot();
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
      if (type === COLLECTION) return this.#select(name);
      this.collections.delete(name);
      this.#current = undefined;
      this.#options.onGone?.(name);
      return;
    }
    const current = this.#current;
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
