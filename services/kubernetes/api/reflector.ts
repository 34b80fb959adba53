/**
 * Keeps what is wanted of one kind of objects in step with the API server: list, watch, and after every loss again.
 *
 *     pages ──▶ put, put, ... the last page: what no page had is gone ──▶ watch from the list's version
 *                 ▲                                                          │ the stream ends: on from the last version,
 *                 └── EXPIRED, the API server was away, its version went back┘ when the API server has it still
 *
 * While the API server is away the copy stays as it was. Nothing is taken for gone because a request failed, a list was
 * not complete, or the kind is not known (any more).
 * @module
 */
import { Backoff, type BackoffOptions } from "@weir/common/backoff";
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import type { ApiClient, ListOptions } from "./client.ts";
import { ApiServerError } from "./error.ts";
import { keyOf, type KubernetesObject } from "./object.ts";
import { type Resource, resourceName } from "./resource.ts";
import { sameValue } from "./same_value.ts";

/** Where a reflector is: never read whole; in step; the API server does not answer; it has no such kind. */
export type ReflectionState = "LISTING" | "WATCHING" | "AWAY" | "ABSENT";

/** Options of {@link Reflector}. */
export interface ReflectorOptions<T>
  extends Pick<ListOptions, "namespace" | "labelSelector" | "fieldSelector"> {
  /** `metadata` alone is read. */
  metadataOnly?: boolean;
  /**
   * What is kept of an object; undefined: it does not count. Only where this differs is there a change. What it throws is
   * a fault of that object, of which stays what was kept before.
   */
  prune: (object: KubernetesObject) => T | undefined;
  /** Within each change; `value` is undefined when the object is gone. Must not throw. */
  onChange?: (key: string, value: T | undefined, previous: T | undefined) => void;
  /** After each complete list: everything that the API server had at one moment is in the copy, and nothing else. */
  onComplete?: () => void;
  /** When an object could not be read, and when it could again or is gone (undefined). */
  onFault?: (key: string, error: Error | undefined) => void;
  /** When the state has changed. */
  onState?: (state: ReflectionState, error: Error | undefined) => void;
  /** Default 1,000,000. */
  objectsMax?: number;
  /** Objects of a page, default 500. */
  pageObjects?: number;
  /** Default: what the client has. */
  silentMsMax?: number;
  clock?: Clock;
  log?: Logger;
  backoff?: BackoffOptions;
  /** Randomness in [0,1). */
  random?: () => number;
}

/** Seconds after which the API server ends a watch; each is between the first and the second. */
const WATCH_S = [300, 600];
/** A kind that is not there is looked for again after so long. */
const ABSENT_MS = 15_000;
const OBJECTS_MAX = 1_000_000;

/** Keeps what is wanted of one kind of objects in step. Begins with `start()`, ends with `stop()`. */
export class Reflector<T> {
  readonly name: string;
  readonly #client: ApiClient;
  readonly #resource: Resource;
  readonly #options: ReflectorOptions<T>;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #table = new Map<string, T>();
  readonly #faults = new Map<string, Error>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #state: ReflectionState = "LISTING";
  #sinceMs: number;
  #heardMs = 0;
  #error: Error | undefined;
  #version = "";
  #lists = 0;
  #events = 0;
  #settled: (() => void)[] = [];

  constructor(client: ApiClient, resource: Resource, options: ReflectorOptions<T>) {
    this.name = resourceName(resource);
    this.#client = client;
    this.#resource = resource;
    this.#options = options;
    this.#clock = options.clock ?? client.clock;
    this.#random = options.random ?? Math.random;
    this.#sinceMs = this.#clock.nowMs();
  }

  get state(): ReflectionState {
    return this.#state;
  }
  /** Since when `state` is what it is, wall clock in milliseconds. */
  get sinceMs(): number {
    return this.#sinceMs;
  }
  /** When the API server said something last, wall clock in milliseconds; 0: never. */
  get heardMs(): number {
    return this.#heardMs;
  }
  /** Of the last request that failed; undefined while it watches. */
  get error(): Error | undefined {
    return this.#error;
  }
  /** Up to which version of the API server the copy is; "" before the first complete list. */
  get resourceVersion(): string {
    return this.#version;
  }
  /** Complete lists so far. */
  get lists(): number {
    return this.#lists;
  }
  /** Events so far, bookmarks apart. */
  get events(): number {
    return this.#events;
  }
  /** True from the first complete list on, also while the API server is away. */
  get synced(): boolean {
    return this.#lists > 0;
  }
  /** What objects nobody could read, by key. */
  get faults(): ReadonlyMap<string, Error> {
    return this.#faults;
  }
  get size(): number {
    return this.#table.size;
  }
  get(key: string): T | undefined {
    return this.#table.get(key);
  }
  has(key: string): boolean {
    return this.#table.has(key);
  }
  entries(): IterableIterator<[string, T]> {
    return this.#table.entries();
  }
  values(): IterableIterator<T> {
    return this.#table.values();
  }

  /** Begins; repeatable. */
  start(): this {
    this.#running ??= this.#run();
    return this;
  }

  /** Resolves when the copy was complete once, the kind is known to be absent, or `signal` aborts. */
  waitSettled(signal?: AbortSignal): Promise<void> {
    if (this.synced || this.#state === "ABSENT" || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#settled.push(resolve);
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  /** Ends, and resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff({
      delayMsMin: 200,
      delayMsMax: 30_000,
      jitter: 0.5,
      ...this.#options.backoff,
    });
    let isListed = false;
    while (!signal.aborted) {
      try {
        if (!isListed) await this.#list(signal);
        isListed = true;
        await this.#watch(signal, () => backoff.reset());
        // It ended as it should: the next one goes on, if what the API server has is not older than the copy.
        isListed = await this.#isInTime(signal);
        if (!isListed) this.#lost(wentBack(this.name, this.#version));
      } catch (error) {
        if (signal.aborted) break;
        const failure = error instanceof Error ? error : new Error(String(error));
        const isLost = !(failure instanceof ApiServerError) || failure.isUnanswered ||
          failure.code === "EXPIRED";
        isListed &&= !isLost;
        if (failure instanceof ApiServerError && failure.code === "NOT_FOUND") {
          isListed = false;
          this.#set("ABSENT", failure);
          for (const settle of this.#settled.splice(0)) settle();
          await this.#clock.sleep(ABSENT_MS * (0.5 + this.#random() / 2), signal);
          continue;
        }
        const isCut = failure instanceof ApiServerError && /^STREAM_|^EXPIRED$/.test(failure.code);
        // A stream that was cut says little; that the next request fails does.
        if (!isCut || backoff.attempts > 0) this.#lost(failure);
        const askedMs = failure instanceof ApiServerError ? failure.retryAfterMs : 0;
        await this.#clock.sleep(Math.max(backoff.nextMs(), askedMs), signal);
        if (isListed) isListed = await this.#isInTime(signal).catch(() => false);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const seen = new Set<string>();
    const { pageObjects: limit, objectsMax = OBJECTS_MAX } = this.#options;
    let version = "";
    for await (const page of this.#client.pages(this.#resource, { ...this.#selection(), limit, signal })) {
      this.#heardMs = this.#clock.nowMs();
      version = page.resourceVersion;
      for (const object of page.items) {
        seen.add(keyOf(object));
        this.#put(object);
      }
      if (seen.size > objectsMax) throw tooMany(this.name, objectsMax);
    }
    for (const key of [...this.#table.keys()]) if (!seen.has(key)) this.#delete(key);
    for (const key of [...this.#faults.keys()]) if (!seen.has(key)) this.#mend(key);
    this.#version = version;
    this.#lists++;
    this.#set("WATCHING", undefined);
    this.#call(() => this.#options.onComplete?.());
    for (const settle of this.#settled.splice(0)) settle();
  }

  async #watch(signal: AbortSignal, onProgress: () => void): Promise<void> {
    const [min, max] = WATCH_S;
    const batches = this.#client.watch(this.#resource, {
      ...this.#selection(),
      resourceVersion: this.#version,
      timeoutS: Math.round(min + (max - min) * this.#random()),
      silentMsMax: this.#options.silentMsMax,
      // Of a kind in which nothing happens a restarted API server sends no bookmarks either.
      onOpen: () => this.#set("WATCHING", undefined),
      signal,
    });
    for await (const events of batches) {
      this.#heardMs = this.#clock.nowMs();
      this.#set("WATCHING", undefined);
      onProgress();
      for (const { type, object } of events) {
        const version = object.metadata.resourceVersion ?? "";
        // A store that was put back counts on from before: what came since is not what the copy has.
        if (isOlder(version, this.#version)) throw wentBack(this.name, this.#version, version);
        if (type !== "BOOKMARK") {
          this.#events++;
          if (type === "DELETED") {
            this.#mend(keyOf(object));
            this.#delete(keyOf(object));
          } else this.#put(object);
        }
        if (version !== "") this.#version = version;
      }
    }
  }

  /** Whether the API server still has what the copy has: false when its store is older. */
  async #isInTime(signal: AbortSignal): Promise<boolean> {
    const page = await this.#client.list(this.#resource, { ...this.#selection(), limit: 1, signal });
    this.#heardMs = this.#clock.nowMs();
    return !isOlder(page.resourceVersion, this.#version);
  }

  #selection(): ListOptions {
    const { namespace, labelSelector, fieldSelector, metadataOnly } = this.#options;
    return { namespace, labelSelector, fieldSelector, metadataOnly };
  }

  #put(object: KubernetesObject): void {
    const key = keyOf(object);
    let value: T | undefined;
    try {
      value = this.#options.prune(object);
      this.#mend(key);
    } catch (error) {
      const fault = error instanceof Error ? error : new Error(String(error));
      this.#faults.set(key, fault);
      this.#call(() => this.#options.onFault?.(key, fault));
      return;
    }
    if (value === undefined) return this.#delete(key);
    const previous = this.#table.get(key);
    if (previous !== undefined && sameValue(previous, value)) return;
    this.#table.set(key, value);
    this.#call(() => this.#options.onChange?.(key, value, previous));
  }

  #mend(key: string): void {
    if (this.#faults.delete(key)) this.#call(() => this.#options.onFault?.(key, undefined));
  }

  #delete(key: string): void {
    const previous = this.#table.get(key);
    if (!this.#table.delete(key)) return;
    this.#call(() => this.#options.onChange?.(key, undefined, previous));
  }

  #call(reader: () => void): void {
    try {
      reader();
    } catch (error) {
      // The reader's failure must not stop the copy; it would look like an API server that is away.
      this.#options.log?.error("Change handler failed", { resource: this.name, error });
    }
  }

  #lost(error: Error): void {
    this.#options.log?.[this.#state === "AWAY" ? "debug" : "warn"]("Lost the API server", {
      resource: this.name,
      error,
    });
    this.#set("AWAY", error);
  }

  #set(state: ReflectionState, error: Error | undefined): void {
    this.#error = error;
    if (state === this.#state) return;
    if (state === "WATCHING" && this.#state === "AWAY") {
      this.#options.log?.info("The API server is back", { resource: this.name });
    }
    this.#state = state;
    this.#sinceMs = this.#clock.nowMs();
    this.#call(() => this.#options.onState?.(state, error));
  }
}

/** Versions are numbers of one counter; others are compared by nobody. */
function isOlder(version: string, than: string): boolean {
  if (!/^\d{1,20}$/.test(version) || !/^\d{1,20}$/.test(than)) return false;
  return BigInt(version) < BigInt(than);
}

function wentBack(name: string, had: string, found = "an older one"): ApiServerError {
  return new ApiServerError("EXPIRED", {
    status: 410,
    detail: `Cannot go on with ${name}: the API server's version went back`,
    found,
    expected: `${had} or later`,
    action: "Its store was put back to an older copy: everything is listed anew",
  });
}

function tooMany(name: string, objectsMax: number): ApiServerError {
  return new ApiServerError("TOO_MANY_OBJECTS", {
    status: 507,
    detail: `Cannot keep ${name}: there are more than ${objectsMax}`,
    expected: `at most ${objectsMax}`,
  });
}
