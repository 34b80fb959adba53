/**
 * What of one node has come in one request, so that the node is asked for the rest after its connection broke, for that alone and
 * whatever its clock says:
 *
 *     a node that tells places (Weir's)   after: the place behind the newest that came
 *     another                             since: some before the newest; what came is known by its bytes and left out
 *
 * Pure.
 * @module
 */
import { FlowPosition, GetFlowsRequest } from "@weir/proto/observer";
import type { ResponseHead } from "./response_bytes.ts";

/** Asked for once more, of a node that tells no places: a clock that was put back by less hides nothing. */
const OVERLAP_MS = 60_000;
/** Responses that are known again. */
const KNOWN_MAX = 4096;

/** Of one node. */
export class NodeMemory {
  readonly #isFollowed: boolean;
  /** Newest time that came; undefined: none. */
  newestMs: number | undefined;
  #place: FlowPosition | undefined;
  /** Newest last, each with its time: of a node that tells no places. */
  readonly #known: { readonly key: number; readonly unixMs: number }[] = [];
  /** What may come once more, by its key, and how often. */
  #again = new Map<number, number>();

  /** @param isFollowed it may have to be asked again */
  constructor(isFollowed: boolean) {
    this.#isFollowed = isFollowed;
  }

  /**
   * Takes note of a response.
   * @param orderMs its time, or the one that it is ordered by
   * @returns false: it is not to go out, for it came before or says nothing but a place
   */
  take({ kind, bytes, unixMs, position }: ResponseHead, orderMs: number): boolean {
    if (position !== undefined) this.#place = position;
    this.newestMs = Math.max(this.newestMs ?? -Infinity, orderMs);
    if (kind === "nothing") return false;
    if (!this.#isFollowed || this.#place !== undefined || unixMs === undefined) return true;
    const key = keyOf(bytes), times = this.#again.get(key) ?? 0;
    if (times > 0) {
      this.#again.set(key, times - 1);
      return false;
    }
    this.#known.push({ key, unixMs });
    if (this.#known.length > 2 * KNOWN_MAX) this.#known.splice(0, this.#known.length - KNOWN_MAX);
    return true;
  }

  /** What a node is asked that comes later, or again. @param startMs when the request began: of a node of which nothing came */
  request(asked: GetFlowsRequest, startMs: number): Uint8Array {
    const known = this.#known.slice(-KNOWN_MAX);
    this.#again = new Map();
    for (const { key } of known) this.#again.set(key, (this.#again.get(key) ?? 0) + 1);
    const newestMs = this.newestMs ?? startMs;
    // Not before those that are known, or they would come twice; the newest itself does not come again where none is.
    const sinceMs = known.length === 0
      ? newestMs + 0.001
      : Math.max(newestMs - OVERLAP_MS, known.length < KNOWN_MAX ? -Infinity : earliest(known));
    const seconds = Math.floor(sinceMs / 1000);
    // A float holds a quarter of a microsecond here.
    const nanos = Math.min(999_999_999, Math.max(0, Math.floor((sinceMs - seconds * 1000) * 1e6)));
    const after = this.#place ?? FlowPosition.create({});
    return GetFlowsRequest.encode({ ...asked, number: 0, since: { seconds, nanos }, after } as never);
  }
}

const earliest = (known: readonly { readonly unixMs: number }[]) =>
  known.reduce((least, { unixMs }) => Math.min(least, unixMs), Infinity) + 0.001;

/** FNV-1a of the bytes, with their number: below 2^53. */
function keyOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < bytes.length; at++) hash = Math.imul(hash ^ bytes[at], 0x01000193);
  return (hash >>> 0) * 2 ** 20 + (bytes.length & 0xfffff);
}
