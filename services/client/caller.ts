/** How requests are made, for what is built on it. @module */
import type { Query } from "./query.ts";

/** Options of one request. */
export interface CallOptions {
  query?: Query;
  signal?: AbortSignal;
  /** Longest time until the whole answer is there. Default: the client's. */
  deadlineMs?: number;
}

/** Options of a watch. */
export interface WatchOptions {
  /** Only changes after this revision; without it everything there is comes first. */
  revision?: number;
  /** The revision's epoch, as SYNCED or the list gave it. */
  epoch?: string;
  query?: Query;
  /**
   * Only objects of these names and of `newNames`, of which there may be none. Not with `query`.
   */
  names?: readonly string[];
  /** Names whose objects come whole first, wherever the watch goes on from. */
  newNames?: readonly string[];
  signal?: AbortSignal;
}

/** Makes the requests of one service. Rejects with ProblemError, as the client's methods do. */
export interface Caller {
  /** One request, and the whole of its answer. */
  exchange(
    path: string,
    init: RequestInit,
    options?: Pick<CallOptions, "deadlineMs" | "signal">,
  ): Promise<{ headers: Headers; bytes: Uint8Array<ArrayBuffer> }>;
  /** The frames of a streaming answer as bytes. */
  frames(path: string, signal?: AbortSignal, init?: RequestInit): AsyncGenerator<Uint8Array>;
}
