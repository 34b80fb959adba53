/** A collection that its service lists and does not let be watched: asked for again and again. @module */
import type { CollectionClient } from "@weir/client";
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { sameValue } from "../api/mod.ts";
import type { FeedListener } from "./feed.ts";

/** Between two lists, milliseconds. */
const LOOK_MS = 2000;

/** As a `Feed`, late by up to two seconds. While its service is away the copy stays as it was. */
export class PolledFeed<T> {
  readonly #collection: CollectionClient<T>;
  readonly #nameOf: (value: T) => string;
  readonly #clock: Clock;
  readonly #log: Logger | undefined;
  readonly #listeners: FeedListener<T>[] = [];
  readonly #stop = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  #table = new Map<string, T>();
  #running: Promise<void> | undefined;
  #synced = false;

  constructor(collection: CollectionClient<T>, nameOf: (value: T) => string, { clock, log }: {
    clock: Clock;
    log?: Logger;
  }) {
    this.#collection = collection;
    this.#nameOf = nameOf;
    this.#clock = clock;
    this.#log = log;
  }

  /** To be called before `start()`: everything that is there is a change too. */
  listen(listener: FeedListener<T>): void {
    this.#listeners.push(listener);
  }

  /** True from the first list on. */
  get synced(): boolean {
    return this.#synced;
  }
  get(name: string): T | undefined {
    return this.#table.get(name);
  }
  list(): T[] {
    return [...this.#table.values()];
  }

  start(): void {
    this.#running ??= this.#run();
  }
  waitSynced(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#first.resolve(), { once: true });
    return signal.aborted ? Promise.resolve() : this.#first.promise;
  }
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const { items } = await this.#collection.list(undefined, { signal });
        if (signal.aborted) break;
        this.#take(new Map(items.map((item) => [this.#nameOf(item), item])));
        this.#synced = true;
        this.#first.resolve();
      } catch (error) {
        if (!signal.aborted) this.#log?.debug("Cannot list", { collection: this.#collection.name, error });
      }
      await this.#clock.sleep(LOOK_MS, signal);
    }
  }

  #take(table: Map<string, T>): void {
    const before = this.#table;
    this.#table = table;
    for (const [name, value] of table) {
      const previous = before.get(name);
      if (previous === undefined || !sameValue(previous, value)) this.#tell(name, value, previous);
    }
    for (const [name, previous] of before) if (!table.has(name)) this.#tell(name, undefined, previous);
  }

  #tell(name: string, value: T | undefined, previous: T | undefined): void {
    for (const listener of this.#listeners) listener(name, value, previous);
  }
}
