/**
 * Keeps a local copy of a collection in step with the service, for as long as it runs: list, watch, and after every loss
 * again, with backoff. While the service is away the copy stays as it was.
 * @module
 */
import {
  Backoff,
  type BackoffOptions,
  type Clock,
  type Logger,
  ProblemError,
  systemClock,
} from "@weir/common";
import type { CollectionClient, Query } from "./client.ts";

/** Options of {@link Reflector}. */
export interface ReflectorOptions<T> {
  query?: Query;
  /** Within each change of the copy; `value` is undefined when the object is gone. Changes come in order. */
  onChange?: (name: string, value: T | undefined, previous: T | undefined) => void;
  /** Once, when the copy is complete for the first time. */
  onSynced?: () => void;
  /** When the connection is lost (with the error) and when it is back (undefined). */
  onState?: (error: ProblemError | undefined) => void;
  log?: Logger;
  clock?: Clock;
  backoff?: BackoffOptions;
}

/** See the module comment. Begins with `start()`, ends with `stop()`. */
export class Reflector<T> {
  readonly #collection: CollectionClient<T>;
  readonly #options: ReflectorOptions<T>;
  #table = new Map<string, T>();
  #stop = new AbortController();
  #running: Promise<void> | undefined;
  #synced = false;
  #revision = 0;
  #error: ProblemError | undefined;
  #waiting = new Set<() => void>();

  constructor(collection: CollectionClient<T>, options: ReflectorOptions<T> = {}) {
    this.#collection = collection;
    this.#options = options;
  }

  /** True from the first complete list on, also while the service is away. */
  get synced(): boolean {
    return this.#synced;
  }
  /** Revision of the service that the copy reflects. */
  get revision(): number {
    return this.#revision;
  }
  /** What keeps the copy from being fresh; undefined while it is. */
  get error(): ProblemError | undefined {
    return this.#error;
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
    const clock = this.#options.clock ?? systemClock;
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 5000, ...this.#options.backoff });
    const signal = this.#stop.signal;
    let resume = false;
    while (!signal.aborted) {
      try {
        await this.#follow(resume, () => backoff.reset());
        resume = this.#synced;
        if (signal.aborted) break;
        this.#lost(new ProblemError("STREAM_ENDED", { status: 502, detail: "The watch stream ended" }));
      } catch (error) {
        if (signal.aborted) break;
        const problem = error instanceof ProblemError
          ? error
          : new ProblemError("REFLECTOR_FAILED", { detail: "Cannot follow the collection", cause: error });
        resume = this.#synced && problem.code !== "REVISION_GONE" && problem.code !== "REFLECTOR_FAILED";
        this.#lost(problem);
      }
      await clock.sleep(backoff.nextMs(), signal);
    }
  }

  /** One stream. Without `resume` it begins with everything, and what did not come is gone at SYNCED. */
  async #follow(resume: boolean, onProgress: () => void): Promise<void> {
    let seen: Set<string> | undefined = resume ? undefined : new Set();
    const events = this.#collection.watch({
      query: this.#options.query,
      revision: resume ? this.#revision : undefined,
      signal: this.#stop.signal,
    });
    for await (const event of events) {
      if (this.#error !== undefined && event.type === "SYNCED") this.#back();
      onProgress();
      if (event.type === "PUT") {
        seen?.add(event.name);
        this.#put(event.name, event.value);
      } else if (event.type === "DELETED") {
        seen?.delete(event.name);
        this.#delete(event.name);
      } else if (seen !== undefined) {
        for (const name of [...this.#table.keys()]) if (!seen.has(name)) this.#delete(name);
        seen = undefined;
        this.#revision = event.revision;
        this.#markSynced();
      }
      // Within the first list a revision to go on from does not exist yet.
      if (seen === undefined) this.#revision = event.revision;
    }
  }

  #put(name: string, value: T): void {
    const previous = this.#table.get(name);
    this.#table.set(name, value);
    this.#tell(name, value, previous);
  }

  #delete(name: string): void {
    const previous = this.#table.get(name);
    if (this.#table.delete(name)) this.#tell(name, undefined, previous);
  }

  #tell(name: string, value: T | undefined, previous: T | undefined): void {
    try {
      this.#options.onChange?.(name, value, previous);
    } catch (error) {
      // The reader's failure must not stop the copy; it would look like a service that is away.
      this.#options.log?.error("Change handler failed", { collection: this.#collection.name, name, error });
    }
  }

  #markSynced(): void {
    if (this.#synced) return;
    this.#synced = true;
    this.#options.onSynced?.();
    for (const done of [...this.#waiting]) done();
  }

  #lost(error: ProblemError): void {
    if (this.#error === undefined) {
      this.#options.log?.warn("Lost a watch", { collection: this.#collection.name, error });
      this.#options.onState?.(error);
    }
    this.#error = error;
  }

  #back(): void {
    this.#error = undefined;
    this.#options.log?.info("Watch is back", { collection: this.#collection.name });
    this.#options.onState?.(undefined);
  }
}
