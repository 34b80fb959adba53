/**
 * Whose a connection is. The datapath tells of new handles while their connections are still on the way; what it has not told is asked. A handle
 * is one connection's for as long as that lives, so what the datapath says stays true until then, and is not used for longer than it can be sure.
 * @module
 */
import type { WeirClient } from "@weir/client";
import {
  Backoff,
  type Clock,
  errorText,
  type Logger,
  type MetricsRegistry,
  ProblemError,
} from "@weir/common";
import { Handle, HandleBatch } from "@weir/proto/l7";

const ASK_MS_MAX = 2000;
/** A datapath that starts anew is back within seconds; the client's SYN was answered already. */
const TRIES_MAX = 5;
/** The connection may be here before the datapath has told of it. */
const TOLD_WAIT_MS = 20;
/** What was told is used for so long: no handle gets another connection sooner than its flow's entry can end. */
const TOLD_MS_MAX = 2000;
/** Told handles whose connection has not come. */
export const TOLD_MAX = 65_536;
const STREAM_RETRY_MS_MAX = 1000;
/** What the client says when there was no answer. */
const SILENT: ReadonlySet<string> = new Set(["UNREACHABLE", "DEADLINE_EXCEEDED"]);

/** What {@link HandleSource} is made of. */
export interface HandleSourceParts {
  readonly datapath: Pick<WeirClient, "collection" | "stream">;
  readonly clock: Clock;
  readonly metrics: MetricsRegistry;
  readonly log?: Logger;
}

/** The other end of a connection as its socket tells it. */
export interface Peer {
  readonly address: string;
  readonly port: number;
}

/** Knows handles. */
export class HandleSource {
  /** By number, the oldest first. */
  readonly #told = new Map<number, { handle: Handle; timeMs: number }>();
  readonly #waiting = new Map<number, Set<() => void>>();
  #isTold = false;
  readonly #answered = Promise.withResolvers<void>();
  readonly #parts: HandleSourceParts;

  constructor(parts: HandleSourceParts) {
    this.#parts = parts;
    parts.metrics.gauge(
      "weir_l7_handles_told",
      "Handles that the datapath has told of, and whose connections have not come",
    )
      .collect(() => this.#told.size);
  }

  /** Whether the datapath tells of new handles now. */
  get isTold(): boolean {
    return this.#isTold;
  }

  /** Resolves when the datapath has answered for the first time, or {@link follow} has ended. Before that nobody says whose a connection is. */
  get answered(): Promise<void> {
    return this.#answered.promise;
  }

  /** Listens to the datapath until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    const { datapath, clock, log } = this.#parts;
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: STREAM_RETRY_MS_MAX });
    while (!signal.aborted) {
      try {
        for await (const batch of datapath.stream("/v1/handles:new", HandleBatch, { signal })) {
          this.#isTold = true;
          this.#answered.resolve();
          backoff.reset();
          this.#tell(batch);
        }
      } catch (error) {
        // It is there, and has too many readers: it is asked.
        if (error instanceof ProblemError && !SILENT.has(error.code)) this.#answered.resolve();
        if (this.#isTold) {
          log?.warn("The datapath tells of no new handles: it is asked", { error: errorText(error) });
        }
      }
      this.#isTold = false;
      await clock.sleep(backoff.nextMs(), signal);
    }
    this.#answered.resolve();
  }

  /**
   * @param peer who is at the other end, where that is known: what was told of somebody else is not believed
   * @returns undefined: no connection has it @throws {ProblemError} the datapath does not answer
   */
  async get(number: number, peer?: Peer): Promise<Handle | undefined> {
    const handle = this.#take(number, peer) ?? await this.#await(number, peer);
    this.#parts.metrics.counter(
      "weir_l7_handles_total",
      "Connections whose handle was told beforehand, or asked for",
    )
      .increment({ by: handle === undefined ? "asked" : "told" });
    return handle ?? await this.#ask(number);
  }

  #tell({ items, timeUnixS }: HandleBatch): void {
    const timeMs = timeUnixS * 1000;
    for (const handle of items) {
      const { number } = handle;
      this.#told.delete(number);
      this.#told.set(number, { handle, timeMs });
      const waiting = this.#waiting.get(number);
      if (waiting !== undefined) { for (const wake of waiting) wake(); }
    }
    for (const [number, told] of this.#told) {
      if (this.#told.size <= TOLD_MAX && this.#isFresh(told.timeMs)) break;
      this.#told.delete(number);
    }
  }

  /** What was told of it, once. */
  #take(number: number, peer: Peer | undefined): Handle | undefined {
    const told = this.#told.get(number);
    if (told === undefined) return undefined;
    this.#told.delete(number);
    const { handle, timeMs } = told;
    const isOther = peer !== undefined &&
      (handle.clientAddress !== peer.address || handle.clientPort !== peer.port);
    return isOther || !this.#isFresh(timeMs) ? undefined : handle;
  }

  #isFresh(timeMs: number): boolean {
    return Math.abs(this.#parts.clock.nowMs() - timeMs) <= TOLD_MS_MAX;
  }

  async #await(number: number, peer: Peer | undefined): Promise<Handle | undefined> {
    if (!this.#isTold) return undefined;
    const waiting = this.#waiting.get(number) ?? new Set();
    this.#waiting.set(number, waiting);
    const over = new AbortController(), wake = () => over.abort();
    waiting.add(wake);
    await this.#parts.clock.sleep(TOLD_WAIT_MS, over.signal);
    waiting.delete(wake);
    if (waiting.size === 0) this.#waiting.delete(number);
    return this.#take(number, peer);
  }

  async #ask(number: number): Promise<Handle | undefined> {
    const handles = this.#parts.datapath.collection("handles", Handle);
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 1000 });
    for (let tries = 1;; tries++) {
      try {
        return await handles.get(`${number}`, { deadlineMs: ASK_MS_MAX });
      } catch (error) {
        if (tries >= TRIES_MAX) throw error;
        this.#parts.metrics.counter(
          "weir_l7_handle_retries_total",
          "Times that the datapath was asked again whose a connection is",
        )
          .increment();
        await this.#parts.clock.sleep(backoff.nextMs());
      }
    }
  }
}
