/**
 * What chunks come to that many readers are given: they are decoded once, and compared byte by byte ever after.
 *
 *     length, hash of the first bytes ─▶ the chunk as it once came ─▶ PUTs of each collection in it, sum of their revisions
 *
 * @module
 */

/** PUTs of one collection, one after the other. */
export interface KnownPuts {
  readonly collection: string;
  readonly puts: number;
  readonly sum: number;
  /** Of the last; 0: there is none. */
  readonly revision: number;
}

/** A chunk of nothing but PUTs, and of what collections they are. */
export interface KnownChunk {
  readonly bytes: Uint8Array;
  /** In their order; the first are of the collection before the chunk. */
  readonly runs: readonly KnownPuts[];
}

/** Shorter chunks are decoded as fast as they are compared. */
const CHUNK_BYTES_MIN = 1024;
const CHUNK_BYTES_MAX = 2 ** 20;
const HASHED_BYTES = 32;
/** Enough for the pages of a large table, at some moments of it. */
const BYTES_MAX = 128 * 1024 * 1024;

const chunks = new Map<number, KnownChunk | "coming">();
let bytesHeld = 0;

/** Key of a chunk; undefined where it is not worth one, or too little of it is there. */
export function keyOfChunk(beginning: Uint8Array, length: number): number | undefined {
  if (length < CHUNK_BYTES_MIN || length >= CHUNK_BYTES_MAX || beginning.length < HASHED_BYTES) {
    return undefined;
  }
  // FNV-1a.
  let hash = 0x811c9dc5;
  for (let i = 0; i < HASHED_BYTES; i++) hash = Math.imul(hash ^ beginning[i], 0x01000193);
  return (hash >>> 0) * CHUNK_BYTES_MAX + length;
}

/** The chunk as it came; `"coming"`: another reader is at it. */
export function knownChunk(key: number): KnownChunk | "coming" | undefined {
  return chunks.get(key);
}

/** Says that the chunk is coming, until {@link learnChunk} or {@link dropChunk}. */
export function expectChunk(key: number): void {
  chunks.set(key, "coming");
}

/** Keeps a chunk; the oldest go. */
export function learnChunk(key: number, chunk: KnownChunk): void {
  chunks.set(key, chunk);
  bytesHeld += chunk.bytes.length;
  for (const [oldest, known] of chunks) {
    if (bytesHeld <= BYTES_MAX) return;
    if (known === "coming") continue;
    chunks.delete(oldest);
    bytesHeld -= known.bytes.length;
  }
}

/** The chunk did not come, or is not one of these. */
export function dropChunk(key: number): void {
  if (chunks.get(key) === "coming") chunks.delete(key);
}
