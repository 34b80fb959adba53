/**
 * What one node may send in answer to one request. A node that does otherwise is at fault: it is named, and asked no more for this
 * request, so that it can neither speak for another nor hold the others up.
 * @module
 */
import { RING_FLOWS_MAX } from "@weir/common";
import { readResponseHead, type ResponseHead } from "./response_bytes.ts";

/** Clocks of one cluster differ by less. */
export const AHEAD_MS_MAX = 60_000;
/** A client of gRPC in Go takes 4 MiB; a flow has about 1 KiB. */
export const RESPONSE_BYTES_MAX = 1 << 20;
/** The others wait for a node that answers what is over: so long, and so much longer for each response that came. */
const WAIT_MS_MAX = 10_000, WAIT_MS_PER_RESPONSE = 10;

/** A node sends what it should not. */
export class NodeFault extends Error {
  override readonly name = "NodeFault";
}

/** What is asked of the node. */
export interface NodeAnswerOptions {
  /** CLUSTER/NODE. */
  readonly node: string;
  /** Number of flows that were asked for; 0: all that it holds. */
  readonly number: number;
  readonly isFollowed: boolean;
  /** The fields of a flow were chosen: a name may be missing. */
  readonly isMasked: boolean;
}

/** Judges one answer as it comes. Pure: times come as arguments. */
export class NodeAnswer {
  readonly #options: NodeAnswerOptions;
  readonly #flowsMax: number;
  #flows = 0;
  #losses = 0;
  #waitedMs = 0;

  constructor(options: NodeAnswerOptions) {
    this.#options = options;
    this.#flowsMax = Math.min(options.number || RING_FLOWS_MAX, RING_FLOWS_MAX);
  }

  /** One response, and what it is. @throws {NodeFault} what is wrong with it */
  take(bytes: Uint8Array, nowUnixMs: number): ResponseHead {
    const { node, isFollowed, isMasked } = this.#options;
    if (bytes.length > RESPONSE_BYTES_MAX) {
      throw new NodeFault(`it sends a response of ${bytes.length} bytes`);
    }
    const head = headOf(bytes), { kind, nodeNames, unixMs, position } = head;
    const isPlace = kind === "nothing" && isFollowed && position !== undefined;
    if (kind !== "flow" && kind !== "lost_events" && !isPlace) {
      throw new NodeFault(kind === "nothing" ? "it sends a response of nothing" : "it speaks of other nodes");
    }
    const other = nodeNames.find((name) => name !== node);
    if (other !== undefined) throw new NodeFault(`it speaks for ${other.slice(0, 256)}`);
    if (nodeNames.length === 0 && !isMasked) throw new NodeFault("it does not say whose its flows are");
    const aheadMs = (unixMs ?? 0) - nowUnixMs;
    if (aheadMs > AHEAD_MS_MAX) {
      throw new NodeFault(`its clock is ${Math.round(aheadMs / 1000)} s ahead of this one`);
    }
    if (isPlace) return head;
    const count = kind === "flow" ? ++this.#flows : ++this.#losses;
    const countMax = kind === "flow" ? this.#flowsMax : RING_FLOWS_MAX;
    if (!isFollowed && count > countMax) {
      throw new NodeFault(`it sends more than the ${countMax} that were asked for`);
    }
    return head;
  }

  /** It was waited for. @throws {NodeFault} longer than the others should wait */
  waited(ms: number): void {
    this.#waitedMs += ms;
    const msMax = WAIT_MS_MAX + (this.#flows + this.#losses) * WAIT_MS_PER_RESPONSE;
    if (this.#options.isFollowed || this.#waitedMs <= msMax) return;
    throw new NodeFault(
      `it answers too slowly: ${this.#flows} flows within ${Math.round(this.#waitedMs / 1000)} s`,
    );
  }
}

function headOf(bytes: Uint8Array): ResponseHead {
  try {
    return readResponseHead(bytes);
  } catch (cause) {
    throw new NodeFault(`it sends what is no response: ${(cause as Error).message}`, { cause });
  }
}
