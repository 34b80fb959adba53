/**
 * Up to where the flows of each node have come. After a break the nodes are asked again from before it: what comes a second time is passed
 * over, and where nothing does, their memory did not reach so far: then there is a gap, and everybody is told.
 *
 *     ── flows ──┐ break ┌── the same flow again, then new ones: no gap
 *                        └── new ones only: a gap from the newest that is known to the first that came
 *
 * @module
 */
import type { NodeStatusEvent } from "@weir/proto/relay";
import type { Counts } from "./counts.ts";
import { nodeNameOf } from "./word.ts";

/** Flows of the last time that are known by their ids. */
export const RECENT_FLOWS = 16_384;
/** Flows of a node come in the order of time, but for so much. */
const DISORDER_MS = 1000;
/** A node that was away longer ago is asked no further back. */
export const ASK_BACK_MS_MAX = 600_000;
/** After so long all is there that nodes repeat: they send it as fast as it is taken. */
export const REPEATED_MS = 60_000;
/** An id that is longer is none. */
const ID_LENGTH_MAX = 64;
/** Nodes whose newest time is known. */
const NODES_MAX = 5000;

/** What a flow is: new, one that is known, or one that is stored but whose sums are not. */
export type Fate = "new" | "known" | "stored";

interface Node {
  /** Time of the flow that came last: also of a clock that was put back. 0: none. */
  lastMs: number;
  /** The same when its flows last broke off. */
  brokeMs?: number;
  /** Times of the first flow that was passed over as one from before the break. */
  passedFromMs?: number;
  /** Since then nothing that was known has come. */
  isDoubtful: boolean;
  /** Since when it is away, as the relay says. */
  awayMs?: number;
}

/** Up to where the flows of each node have come. */
export class FollowedNodes {
  readonly #nodes = new Map<string, Node>();
  readonly #counts: Counts;
  #recent = new Set<string>();
  #older = new Set<string>();
  /** Sums before this were written; from here on they were not when the process ended. */
  #sumsFromMs = Infinity;
  /** By the steady clock. What comes later and is from before a break is no repetition: that node's clock was put back. */
  #repeatedUntilMs = Infinity;

  constructor(counts: Counts) {
    this.#counts = counts;
  }

  /** A flow came, `arrivedMs` by the steady clock. */
  came(
    name: string,
    { unixMs, arrivedMs, uuid: id }: { unixMs: number; arrivedMs: number; uuid: string },
  ): Fate {
    const uuid = id.length <= ID_LENGTH_MAX ? id : "";
    let node = this.#nodes.get(name);
    if (node === undefined) {
      if (this.#nodes.size >= NODES_MAX) this.#nodes.delete(this.#nodes.keys().next().value!);
      this.#nodes.set(name, node = { lastMs: 0, isDoubtful: false });
    }
    const isRecent = uuid !== "" && (this.#recent.has(uuid) || this.#older.has(uuid));
    const isBefore = node.brokeMs !== undefined && unixMs < node.brokeMs - DISORDER_MS;
    if (isRecent || (isBefore && arrivedMs < this.#repeatedUntilMs)) {
      if (isRecent) node.isDoubtful = false;
      else node.passedFromMs ??= unixMs;
      return unixMs >= this.#sumsFromMs && isRecent ? "stored" : "known";
    }
    if (isBefore) this.#putBack(name, node, unixMs);
    if (node.isDoubtful && unixMs > node.lastMs) {
      node.isDoubtful = false;
      // What is from before the break came again: nothing is missing between.
      if (node.passedFromMs === undefined) {
        this.#counts.gap({ node: name, sinceMs: node.lastMs, untilMs: unixMs });
      }
    }
    if (uuid !== "") this.#remember(uuid);
    node.lastMs = unixMs;
    return "new";
  }

  /** Its clock was put back during the break: what was passed over since then may have been new. */
  #putBack(name: string, node: Node, unixMs: number): void {
    if (node.passedFromMs !== undefined && node.passedFromMs < unixMs) {
      this.#counts.gap({ node: name, sinceMs: node.passedFromMs, untilMs: unixMs });
    }
    node.brokeMs = undefined;
    node.isDoubtful = false;
  }

  /** The nodes are asked again, now by the steady clock: what comes from before the break comes soon. */
  asked(nowMs: number): void {
    this.#repeatedUntilMs = nowMs + REPEATED_MS;
  }

  /** The relay says how a node is. */
  told({ state_change, node_names }: NodeStatusEvent, nowMs: number): void {
    for (const name of node_names.map(nodeNameOf)) {
      const node = this.#nodes.get(name) ?? { lastMs: 0, isDoubtful: false };
      if (state_change === "NODE_CONNECTED" && node.awayMs !== undefined) {
        this.#counts.gap({ node: name, sinceMs: node.awayMs, untilMs: nowMs });
        node.awayMs = undefined;
      } else if (state_change === "NODE_UNAVAILABLE" && node.awayMs === undefined) {
        node.awayMs = nowMs;
        this.#counts.gap({ node: name, sinceMs: nowMs, untilMs: undefined });
      } else if (state_change === "NODE_GONE") {
        if (node.awayMs !== undefined) this.#counts.gap({ node: name, sinceMs: node.awayMs, untilMs: nowMs });
        this.#nodes.delete(name);
        continue;
      }
      if (this.#nodes.size < NODES_MAX) this.#nodes.set(name, node);
    }
  }

  /** The flows of all nodes broke off, or this process began. */
  broke(): void {
    for (const node of this.#nodes.values()) {
      if (node.lastMs === 0) continue;
      node.brokeMs = node.lastMs;
      node.isDoubtful = true;
      node.passedFromMs = undefined;
    }
  }

  /** From when on to ask, so that what is known comes again; undefined: everything. */
  sinceMs(nowMs: number): number | undefined {
    const newest = [...this.#nodes.values()].map(({ lastMs }) => lastMs).filter((ms) => ms > 0);
    if (newest.length === 0) return undefined;
    const oldest = Math.min(...newest), back = Math.max(...newest) - ASK_BACK_MS_MAX;
    return Math.min(Math.max(oldest, back), nowMs, this.#sumsFromMs) - DISORDER_MS;
  }

  /** Node -> time of its last flow. */
  *last(): Generator<[string, number]> {
    for (const [name, { lastMs }] of this.#nodes) if (lastMs > 0) yield [name, lastMs];
  }

  /** Goes on where an earlier process was: times of their last flows, gaps that were open, ids of stored flows, and since when sums are missing. */
  restore(parts: {
    last: Iterable<[string, number]>;
    openGaps: readonly { node: string; sinceMs: number }[];
    uuids: Iterable<string>;
    sumsFromMs: number;
  }): void {
    for (const [name, lastMs] of parts.last) this.#nodes.set(name, { lastMs, isDoubtful: false });
    for (const { node: name, sinceMs } of parts.openGaps) {
      const node = this.#nodes.get(name) ?? { lastMs: 0, isDoubtful: false };
      this.#nodes.set(name, { ...node, awayMs: sinceMs });
    }
    for (const uuid of parts.uuids) this.#remember(uuid);
    this.#sumsFromMs = parts.sumsFromMs;
    this.broke();
  }

  /** Nodes that are away, since when. */
  get away(): [string, number][] {
    return [...this.#nodes].flatMap(([name, { awayMs }]) => awayMs === undefined ? [] : [[name, awayMs]]);
  }

  #remember(uuid: string): void {
    this.#recent.add(uuid);
    if (this.#recent.size < RECENT_FLOWS) return;
    this.#older = this.#recent;
    this.#recent = new Set();
  }
}
