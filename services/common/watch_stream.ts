/**
 * One watcher of a table: a position, and what it filters for. What it sends is encoded by the hub (`watch_hub.ts`) for all
 * watchers together, and carried by a body (`watch_body.ts`).
 *
 *     first everything (pages of a shared snapshot), or a position ──▶ changes ──▶ SYNCED ──▶ in step: woken by changes
 *
 * @module
 */
import { ProblemError } from "./problem.ts";
import type { Encoding } from "./framing.ts";
import type { PartWriter } from "./shared_parts.ts";

/** Decides which objects a watcher sees. */
export type WatchFilter<T> = (value: T) => boolean;

/** Index of a table's objects by their names. */
export const NAME_INDEX = "name";

/** Which changes concern a watcher. */
export interface WatchInterest<T> {
  /** Only objects with one of these keys in an index. Without it every change concerns the watcher. */
  keys?: { index: string; keys: readonly string[] };
  /** Which of them it sees; an object that stops matching is DELETED for it. Default: all. */
  filter?: WatchFilter<T>;
}

/** Chunks of frames, one after the other; undefined at the end. */
export interface WatchPages {
  next(): Uint8Array | undefined;
}

/** REVISION_GONE, status 410: the client lists anew. */
export function revisionGone(
  table: { name: string; oldestRevision: number; revision: number; epoch: string },
  position: { revision: number; epoch?: string },
): ProblemError {
  const { revision, epoch } = position;
  const of = epoch ? ` of epoch ${epoch}` : "";
  return new ProblemError("REVISION_GONE", {
    status: 410,
    detail: `Cannot watch ${table.name} from revision ${revision}${of}: it is not held`,
    found: `${revision}${of}`,
    expected: `${table.oldestRevision} to ${table.revision} of epoch ${table.epoch}`,
    action: "List anew and watch from the list's revision",
  });
}

/** STREAM_STALLED: the reader took nothing for `ms`. */
export function streamStalled(name: string, ms: number): ProblemError {
  return new ProblemError("STREAM_STALLED", {
    status: 408,
    detail: `Cannot go on with a stream of ${name}: its reader took nothing for ${ms} ms`,
    action: "Read faster, or watch less",
  });
}

/** Who encodes what a stream sends, and is told how far it is. */
export interface StreamHub<T> {
  chunkAfter(stream: WatchStream<T>, position: number): { bytes?: Uint8Array; to: number | undefined };
  pendingFor(stream: WatchStream<T>): number | undefined;
  synced(encoding: Encoding): Uint8Array;
  inStep(stream: WatchStream<T>): void;
  sent(stream: WatchStream<T>): void;
  left(stream: WatchStream<T>): void;
}

/** What carries a stream's chunks to its reader. */
export interface StreamCarrier {
  /** True while the reader has taken everything, and waits for more. */
  readonly isAwaited: boolean;
  step(): void;
  beat(): void;
  // deno-lint-ignore no-explicit-any
  failPart(stream: WatchStream<any>, error: unknown): void;
  fail(error: unknown): void;
}

/** One watcher of a table, in a body of its own or with those of other tables. */
export class WatchStream<T> {
  readonly interest: WatchInterest<T>;
  readonly encoding: Encoding;
  /** What the reader has of what objects have in common; undefined: it takes whole objects. */
  readonly parts: PartWriter | undefined;
  /** Everything up to here was sent; undefined while the stream is in step with the table. */
  position: number | undefined;
  /** Revision of the table when the stream was last in step with it: nothing up to here is sent again. */
  inStepAt = 0;
  /** The hub counts it among those that have changes before them. */
  isBehind = true;
  /** The hub looks at it with the next flush. */
  isWoken = false;
  /** SYNCED is to be sent as soon as the stream is in step. */
  syncDue = true;
  /** When something was last sent, by the clock that only goes forward. */
  sentMs: number;
  /** What carries its chunks. */
  body: StreamCarrier | undefined;
  readonly #hub: StreamHub<T>;
  #first: WatchPages | undefined;
  #ended = false;
  readonly #onEnd: (error: unknown) => void;

  constructor(
    hub: StreamHub<T>,
    options: {
      interest: WatchInterest<T>;
      encoding: Encoding;
      parts?: PartWriter;
      beginning: { first?: WatchPages; revision: number };
      nowMs: number;
      onEnd: (error: unknown) => void;
    },
  ) {
    this.#hub = hub;
    this.interest = options.interest;
    this.encoding = options.encoding;
    this.parts = options.parts;
    this.#first = options.beginning.first;
    this.position = options.beginning.revision;
    this.sentMs = options.nowMs;
    this.#onEnd = options.onEnd;
  }

  /** The next chunk for the reader; undefined where it has everything. */
  next(): Uint8Array | undefined {
    const chunk = this.#chunk();
    if (chunk !== undefined) this.#hub.sent(this);
    return chunk;
  }

  /** The reader is gone, or is to begin anew. Repeatable. */
  end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#first = undefined;
    this.#hub.left(this);
    this.#onEnd(error);
  }

  #chunk(): Uint8Array | undefined {
    const page = this.#first?.next();
    if (page !== undefined) return page;
    this.#first = undefined;
    // SYNCED tells the table's revision: what waits for the next flush goes before it.
    if (this.syncDue) this.position ??= this.#hub.pendingFor(this);
    while (this.position !== undefined) {
      const { bytes, to } = this.#hub.chunkAfter(this, this.position);
      this.position = to;
      if (to === undefined) this.#hub.inStep(this);
      if (bytes !== undefined) return bytes;
    }
    if (!this.syncDue) return undefined;
    this.syncDue = false;
    return this.#hub.synced(this.encoding);
  }
}
