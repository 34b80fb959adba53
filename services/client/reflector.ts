/**
 * Keeps a local copy of a collection in step with the service, for as long as it runs: list, watch, and after every loss
 * again, with backoff. While the service is away, or silent, the copy stays as it was.
 *
 *     names {a, b}  ── setNames({b, c}) ──▶  one new stream: c whole, b from where the copy is; a is forgotten
 *
 * @module
 */
import { Backoff, type BackoffOptions } from "@weir/common/backoff";
import type { Clock } from "@weir/common/clock";
import type { Position } from "@weir/common/epoch";
import type { Logger } from "@weir/common/log";
import { ProblemError } from "@weir/common/problem";
import type { Query } from "./query.ts";
import type { WatchOptions } from "./caller.ts";
import type { CollectionClient } from "./collection_client.ts";

/** Options of {@link Reflector}. */
export interface ReflectorOptions<T> {
  query?: Query;
  /** Only objects of these names; {@link Reflector.setNames} changes them. Not with `query`. */
  names?: Iterable<string>;
  /**
   * Within each change of the copy; `value` is undefined when the object is gone. Changes come in order. `lost`: it is not
   * in a list of another epoch, so nobody may have deleted it: a database was lost, or is older than what was known.
   */
  onChange?: (name: string, value: T | undefined, previous: T | undefined, lost: boolean) => void;
  /** Once, when the copy is complete for the first time. */
  onSynced?: () => void;
  /** Each time when the copy is complete up to a position: after a beginning, an announcement, a heartbeat. */
  onPosition?: (position: Position) => void;
  /** When the connection is lost (with the error) and when it is back (undefined). */
  onState?: (error: ProblemError | undefined) => void;
  log?: Logger;
  /** Default: the client's. */
  clock?: Clock;
  backoff?: BackoffOptions;
}

/** Whether the copy is fresh: not complete yet, in step, or as it was when the service was last heard. */
export type ReflectorState = "LOADING" | "IN_STEP" | "AWAY";

/**
 * Keeps a local copy of a collection in step with the service, for as long as it runs.
 * Begins with `start()`, ends with `stop()`.
 */
export class Reflector<T> {
  readonly #collection: CollectionClient<T>;
  readonly #options: ReflectorOptions<T>;
  readonly #clock: Clock;
  #table = new Map<string, T>();
  #stop = new AbortController();
  /** Ends the stream that runs, to begin another one at once. */
  #reopen = new AbortController();
  #reopening = false;
  #running: Promise<void> | undefined;
  #synced = false;
  #revision = 0;
  #epoch = "";
  #error: ProblemError | undefined;
  #lastHeardMs = 0;
  #sinceMs: number;
  #waiting = new Set<() => void>();
  /** The names that are watched, and whether the copy has what there is of each. */
  #names: Map<string, boolean> | undefined;

  constructor(collection: CollectionClient<T>, options: ReflectorOptions<T> = {}) {
    this.#collection = collection;
    this.#options = options;
    this.#clock = options.clock ?? collection.client.clock;
    this.#sinceMs = this.#clock.nowMs();
    if (options.names !== undefined) {
      this.#names = new Map(Array.from(options.names, (name) => [name, false]));
    }
  }

  /** True from the first complete list on, also while the service is away. */
  get synced(): boolean {
    return this.#synced;
  }
  /** Revision of the service that the copy reflects. */
  get revision(): number {
    return this.#revision;
  }
  /** The revision's epoch; "" before the first SYNCED. */
  get epoch(): string {
    return this.#epoch;
  }
  /** What keeps the copy from being fresh; undefined while it is. */
  get error(): ProblemError | undefined {
    return this.#error;
  }
  /** Wall clock in milliseconds when the service was last heard, a heartbeat or a change; 0: never. */
  get lastHeardMs(): number {
    return this.#lastHeardMs;
  }
  get state(): ReflectorState {
    return this.#error !== undefined ? "AWAY" : this.#synced ? "IN_STEP" : "LOADING";
  }
  /** Since when `state` is what it is: wall clock in milliseconds. */
  get sinceMs(): number {
    return this.#sinceMs;
  }
  get size(): number {
    return this.#table.size;
  }
  get(name: string): T | undefined {
    return this.#table.get(name);
  }
  list(): T[] {
    return [...this.#table.values()];
  }
  entries(): [string, T][] {
    return [...this.#table];
  }
  /** True when the copy has what there is of this name: then, and only then, undefined means that there is none. */
  knows(name: string): boolean {
    return this.#names === undefined ? this.#synced : this.#names.get(name) === true;
  }

  /**
   * Watches these names from now on, and keeps what the copy has of those that stay. What is no longer watched is
   * forgotten without a call of `onChange`. Several calls of one turn open one stream.
   */
  setNames(names: Iterable<string>): void {
    const before: Map<string, boolean> = this.#names ?? new Map();
    const after = new Map(Array.from(names, (name) => [name, before.get(name) === true]));
    if (after.size === before.size && [...after.keys()].every((name) => before.has(name))) return;
    this.#names = after;
    for (const name of before.keys()) if (!after.has(name)) this.#table.delete(name);
    if (this.#reopening || this.#running === undefined) return;
    this.#reopening = true;
    queueMicrotask(() => this.#reopen.abort());
  }

  /** Begins; repeatable. */
  start(): this {
    this.#running ??= this.#run();
    return this;
  }

  /** Resolves when the copy is complete for the first time, or `signal` aborts. */
  waitSynced(signal?: AbortSignal): Promise<void> {
    if (this.#synced || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      signal?.addEventListener("abort", done, { once: true });
    });
  }

  /** Ends the watch and resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 5000, ...this.#options.backoff });
    const signal = this.#stop.signal;
    let resume = false;
    while (!signal.aborted) {
      this.#reopening = false;
      this.#reopen = new AbortController();
      const either = AbortSignal.any([signal, this.#reopen.signal]);
      try {
        await this.#follow(resume, either, () => backoff.reset());
        resume = this.#synced;
        if (signal.aborted) break;
        if (this.#reopen.signal.aborted) continue;
        this.#lost(new ProblemError("STREAM_ENDED", { status: 502, detail: "The watch stream ended" }));
      } catch (error) {
        if (signal.aborted) break;
        const problem = error instanceof ProblemError
          ? error
          : new ProblemError("REFLECTOR_FAILED", { detail: "Cannot follow the collection", cause: error });
        resume = this.#synced && problem.code !== "REVISION_GONE" && problem.code !== "REFLECTOR_FAILED";
        if (this.#reopen.signal.aborted && resume) continue;
        this.#lost(problem);
      }
      await this.#clock.sleep(backoff.nextMs(), either);
    }
  }

  /** One stream. What it begins with whole and did not bring is gone at its first SYNCED. */
  async #follow(resume: boolean, signal: AbortSignal, onProgress: () => void): Promise<void> {
    const names = this.#names;
    const options: WatchOptions = { signal };
    if (resume) Object.assign(options, { revision: this.#revision, epoch: this.#epoch });
    // The names whose objects come whole; undefined when they all do.
    let whole: Set<string> | undefined, isWhole = !resume;
    if (names === undefined) options.query = this.#options.query;
    else {
      whole = new Set([...names].filter(([, known]) => !resume || !known).map(([name]) => name));
      options.names = [...names.keys()].filter((name) => !whole!.has(name));
      options.newNames = [...whole];
      isWhole = whole.size > 0;
    }
    let seen: Set<string> | undefined = isWhole ? new Set() : undefined;
    for await (const event of this.#collection.watch(options)) {
      // A stream that was replaced may still bring what lay on the way.
      if (signal.aborted) return;
      this.#lastHeardMs = this.#clock.nowMs();
      if (this.#error !== undefined && event.type === "SYNCED") this.#back();
      onProgress();
      if (event.type === "PUT") {
        seen?.add(event.name);
        this.#put(event.name, event.value);
      } else if (event.type === "DELETED") {
        seen?.delete(event.name);
        this.#delete(event.name);
      } else {
        if (seen !== undefined) {
          const lost = this.#epoch !== "" && event.epoch !== this.#epoch;
          for (const name of whole ?? [...this.#table.keys()]) if (!seen.has(name)) this.#delete(name, lost);
        }
        seen = undefined;
        for (const name of whole ?? []) if (names!.has(name)) names!.set(name, true);
        whole = names === undefined ? undefined : new Set();
        this.#revision = event.revision;
        this.#epoch = event.epoch;
        this.#markSynced();
        this.#call(() => this.#options.onPosition?.({ epoch: event.epoch, revision: event.revision }));
      }
      // Within the first list a revision to go on from does not exist yet.
      if (seen === undefined) this.#revision = event.revision;
    }
  }

  #put(name: string, value: T): void {
    if (this.#names?.has(name) === false) return;
    const previous = this.#table.get(name);
    this.#table.set(name, value);
    this.#call(() => this.#options.onChange?.(name, value, previous, false), name);
  }

  #delete(name: string, lost = false): void {
    const previous = this.#table.get(name);
    if (!this.#table.delete(name)) return;
    this.#call(() => this.#options.onChange?.(name, undefined, previous, lost), name);
  }

  #call(reader: () => void, name?: string): void {
    try {
      reader();
    } catch (error) {
      // The reader's failure must not stop the copy; it would look like a service that is away.
      this.#options.log?.error("Change handler failed", { collection: this.#collection.name, name, error });
    }
  }

  #markSynced(): void {
    if (this.#synced) return;
    this.#synced = true;
    this.#sinceMs = this.#clock.nowMs();
    this.#options.onSynced?.();
    for (const done of [...this.#waiting]) done();
  }

  #lost(error: ProblemError): void {
    const isNew = this.#error === undefined;
    this.#error = error;
    if (!isNew) return;
    this.#sinceMs = this.#clock.nowMs();
    this.#options.log?.warn("Lost a watch", { collection: this.#collection.name, error });
    this.#options.onState?.(error);
  }

  #back(): void {
    this.#error = undefined;
    this.#sinceMs = this.#clock.nowMs();
    this.#options.log?.info("Watch is back", { collection: this.#collection.name });
    this.#options.onState?.(undefined);
  }
}
