/** A collection of one of Weir's services, with any number of readers. @module */
import { type CollectionClient, Reflector } from "@weir/client";
import type { Logger } from "@weir/common/log";

/** Hears of one change; `value` is undefined when the object is gone. */
export type FeedListener<T> = (name: string, value: T | undefined, previous: T | undefined) => void;

/** Keeps a copy of a collection; while its service is away the copy stays as it was. */
export class Feed<T> {
  readonly #copy: Reflector<T>;
  readonly #listeners: FeedListener<T>[] = [];

  constructor(collection: CollectionClient<T>, log?: Logger) {
    this.#copy = new Reflector(collection, {
      log,
      onChange: (name, value, previous) => {
        for (const listener of this.#listeners) listener(name, value, previous);
      },
    });
  }

  /** To be called before `start()`: everything that is there is a change too. */
  listen(listener: FeedListener<T>): void {
    this.#listeners.push(listener);
  }

  /** True from the first complete copy on. */
  get synced(): boolean {
    return this.#copy.synced;
  }
  get(name: string): T | undefined {
    return this.#copy.get(name);
  }
  list(): T[] {
    return this.#copy.list();
  }

  start(): void {
    this.#copy.start();
  }
  waitSynced(signal: AbortSignal): Promise<void> {
    return this.#copy.waitSynced(signal);
  }
  stop(): Promise<void> {
    return this.#copy.stop();
  }
}
