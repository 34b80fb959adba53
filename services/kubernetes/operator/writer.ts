/** What is there of one kind, and a queue of what is to be written of it. @module */
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { type ApiClient, type KubernetesObject, Reflector, type Resource, resourceName } from "../api/mod.ts";
import type { Term } from "./term.ts";
import { type Pace, type Write, type WriteFault, WriteQueue } from "./write_queue.ts";

/** What a writer tells of its requests. */
export type OnWrite = (resource: string, verb: Write["verb"], error: Error | undefined) => void;

/** Options of {@link Writer}. */
export interface WriterOptions<T> {
  resource: Resource;
  /** What is kept of an object. */
  prune: (object: KubernetesObject) => T | undefined;
  /** What is to be done for an object as it is now; undefined: nothing. Asked when its turn comes. */
  plan: (key: string, observed: T | undefined) => Write | undefined;
  pace: Pace;
  /** Keys that are looked at although there may be no such object yet. */
  keys?: () => Iterable<string>;
  /** When an object was seen, changed or has gone. */
  onObserved?: (key: string, observed: T | undefined) => void;
  clock?: Clock;
  log?: Logger;
  onWrite?: OnWrite;
}

/** Works for one term: `read`, then `begin`, then `run`. */
export class Writer<T> {
  readonly name: string;
  /** What the API server shows. */
  readonly observed: Reflector<T>;
  readonly #options: WriterOptions<T>;
  readonly #queue: WriteQueue;
  #started = false;

  constructor(client: ApiClient, term: Term, options: WriterOptions<T>) {
    const { resource, pace, log, onWrite, clock = client.clock } = options;
    this.name = resourceName(resource);
    this.#options = options;
    this.#queue = new WriteQueue({
      name: this.name,
      pace,
      term,
      plan: (key) => this.observed.synced ? options.plan(key, this.observed.get(key)) : undefined,
      clock,
      log,
      onWrite: (verb, error) => onWrite?.(this.name, verb, error),
    });
    this.observed = new Reflector<T>(client, resource, {
      prune: options.prune,
      onChange: (key, value) => {
        options.onObserved?.(key, value);
        this.changed(key);
      },
      // Also when the kind, or the API server, was away at the beginning.
      onComplete: () => this.#started && this.begin(),
      clock,
      log,
    });
  }

  /** Objects that wait to be looked at. */
  get waiting(): number {
    return this.#queue.size;
  }
  /** What could not be written, and why. */
  get faults(): ReadonlyMap<string, WriteFault> {
    return this.#queue.faults;
  }

  /** The object of this key, or what is wanted of it, may have changed. */
  changed(key: string, delayMs?: number): void {
    if (this.#started) this.#queue.add(key, delayMs);
  }

  /** Whether the object of this key is to be looked at anyway. */
  isDue(key: string): boolean {
    return this.#queue.has(key);
  }

  /** Resolves when every object is as wanted, as far as it can be. */
  whenIdle(): Promise<void> {
    return this.#queue.whenIdle();
  }

  /** Reads what is there; resolves too when the API server has no such kind. */
  async read(signal: AbortSignal): Promise<void> {
    await this.observed.start().waitSettled(signal);
  }

  /** Everything that is wanted, and everything that is there, is looked at. Repeatable. */
  begin(): void {
    this.#started = true;
    for (const key of this.#options.keys?.() ?? []) this.#queue.add(key);
    for (const [key] of this.observed.entries()) this.#queue.add(key);
  }

  /** Works until the term ends. */
  async run(): Promise<void> {
    try {
      await this.#queue.run();
    } finally {
      await this.observed.stop();
    }
  }
}
