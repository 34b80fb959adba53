/**
 * The watches of one client in one stream of its service: a connection for all collections, instead of one for each.
 *
 *     nodes ───┐                                     a watch that comes, or takes other names: the stream is opened anew,
 *     ipcache ─┴─▶ POST /v1/watch ──▶ COLLECTION …   and the others go on from their positions
 *
 * @module
 */
import { CollectionWatch, JointWatchRequest, WatchEvent } from "@weir/proto/common";
import { JOINT_WATCH_PATH } from "@weir/common/access-control";
import { PROTOBUF_TYPE } from "@weir/common/framing";
import { ProblemError } from "@weir/common/problem";
import type { Caller, WatchOptions } from "./caller.ts";

/** Events that wait for one reader before the stream waits for it. */
const QUEUE_MAX = 512;
/** What an older service answers, on a unix socket and over TCP, and any service on its socket for reading. */
const OLDER_CODES = ["NO_SUCH_ROUTE", "FORBIDDEN", "READ_ONLY"];

/** One watch: what it waits for, and how far it is. */
class Subscription {
  readonly name: string;
  #names: readonly string[] | undefined;
  #newNames: readonly string[];
  #position: { revision: number; epoch: string } | undefined;
  /** What it began with is there: it can go on from its position. */
  isComplete: boolean;
  wasOpen = false;
  queue: WatchEvent[] = [];
  end: { error?: ProblemError; isOlder?: boolean } | undefined;
  #wake: (() => void) | undefined;
  #drained: (() => void) | undefined;

  constructor(name: string, { revision, epoch, names, newNames }: WatchOptions) {
    this.name = name;
    const isNamed = names !== undefined || newNames !== undefined;
    this.#names = isNamed ? names ?? [] : undefined;
    this.#newNames = newNames ?? [];
    this.#position = revision === undefined ? undefined : { revision, epoch: epoch ?? "" };
    this.isComplete = this.#position !== undefined && this.#newNames.length === 0;
  }

  request(): ReturnType<typeof CollectionWatch.create> {
    return CollectionWatch.create({
      collection: this.name,
      byNames: this.#names !== undefined,
      request: {
        ...this.#position,
        names: [...this.#names ?? []],
        newNames: [...this.#newNames],
        parts: true,
      },
    });
  }

  push(event: WatchEvent): void {
    const { type, revision, epoch } = event;
    if (type === "SYNCED") {
      this.isComplete = true;
      if (this.#names !== undefined) this.#names = [...this.#names, ...this.#newNames];
      this.#newNames = [];
      this.#position = { revision, epoch };
    } else if (type !== "PART" && this.isComplete) this.#position!.revision = revision;
    this.queue.push(event);
    this.wake();
  }

  finish(end: { error?: ProblemError; isOlder?: boolean }): void {
    this.end ??= end;
    this.wake();
    this.drain();
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
  /** Resolves at the next event, or the end. */
  woken(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }
  drain(): void {
    this.#drained?.();
    this.#drained = undefined;
  }
  /** Resolves when the reader has taken what waited for it. */
  drained(): Promise<void> {
    return new Promise((resolve) => this.#drained = resolve);
  }
}

/** The watches of one client in one stream. */
export class JointWatch {
  readonly #caller: Caller;
  readonly #subscriptions = new Map<string, Subscription>();
  /** Those that are in the stream that runs. */
  #open = new Map<string, Subscription>();
  #stop = new AbortController();
  #isRunning = false;
  #isChanged = false;

  constructor(caller: Caller) {
    this.#caller = caller;
  }

  /** Whether the watch can be a part of the stream: not of a query, and only one of each collection. */
  takes(name: string, options: WatchOptions): boolean {
    return options.query === undefined && !this.#subscriptions.has(name);
  }

  /**
   * The events of one watch. Answers false where the service is older than joint streams: nothing of it was told then.
   * @throws {ProblemError} as a stream of its own would
   */
  async *events(name: string, options: WatchOptions): AsyncGenerator<WatchEvent, boolean> {
    const { signal } = options;
    if (signal?.aborted) return true;
    const subscription = new Subscription(name, options);
    const abort = () => this.#remove(subscription, {});
    signal?.addEventListener("abort", abort, { once: true });
    this.#subscriptions.set(name, subscription);
    this.#come();
    try {
      while (true) {
        const events = subscription.queue;
        subscription.queue = [];
        subscription.drain();
        yield* events;
        if (subscription.queue.length > 0) continue;
        const { end } = subscription;
        if (end?.error !== undefined) throw end.error;
        if (end !== undefined) return end.isOlder !== true;
        await subscription.woken();
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#remove(subscription, {});
    }
  }

  #remove(subscription: Subscription, end: { error?: ProblemError; isOlder?: boolean }): void {
    const { name } = subscription;
    subscription.finish(end);
    if (this.#subscriptions.get(name) !== subscription) return;
    this.#subscriptions.delete(name);
    // What comes for a watch that has gone is not read, until the next one is opened: it most often comes back at once.
    if (this.#subscriptions.size === 0) this.#stop.abort();
  }

  /** A watch has come. A stream on its first way is not disturbed: it could not go on from where it is. */
  #come(): void {
    this.#isChanged = true;
    if (!this.#isRunning) {
      this.#isRunning = true;
      queueMicrotask(() => void this.#run());
    } else if (this.#mayReopen()) this.#stop.abort();
  }

  #mayReopen(): boolean {
    for (const [name, subscription] of this.#open) {
      if (!subscription.isComplete && this.#subscriptions.get(name) === subscription) return false;
    }
    return this.#open.size > 0;
  }

  async #run(): Promise<void> {
    while (this.#subscriptions.size > 0) {
      // Watches that come or go in one turn are one change.
      await Promise.resolve();
      this.#isChanged = false;
      this.#stop = new AbortController();
      const open = this.#open = new Map(this.#subscriptions);
      let end: Subscription["end"];
      try {
        await this.#follow(open, this.#stop.signal);
        if (this.#stop.signal.aborted) continue;
        end = {};
      } catch (error) {
        const problem = error as ProblemError;
        end = OLDER_CODES.includes(problem.code) && ![...open.values()].some(({ wasOpen }) => wasOpen)
          ? { isOlder: true }
          : { error: problem };
      } finally {
        this.#open = new Map();
      }
      for (const subscription of open.values()) this.#remove(subscription, end);
    }
    this.#isRunning = false;
  }

  async #follow(open: ReadonlyMap<string, Subscription>, signal: AbortSignal): Promise<void> {
    for (const subscription of open.values()) {
      // A new stream sends its parts anew.
      if (subscription.wasOpen) subscription.push(WatchEvent.create({ type: "PART", part: 0 }));
    }
    const request = { watches: [...open.values()].map((subscription) => subscription.request()) };
    let current: Subscription | undefined;
    const frames = this.#caller.frames(JOINT_WATCH_PATH, signal, {
      method: "POST",
      headers: { "content-type": PROTOBUF_TYPE },
      body: JointWatchRequest.encode(request) as Uint8Array<ArrayBuffer>,
    });
    for await (const bytes of frames) {
      if (signal.aborted) return;
      const event = WatchEvent.decode(bytes);
      if (event.type === "COLLECTION") {
        current = open.get(event.name);
        continue;
      }
      if (event.type === "GONE") {
        const gone = open.get(event.name);
        current = undefined;
        const { problem } = event;
        const error = problem === undefined || problem.code === ""
          ? positionGone(event.name)
          : ProblemError.fromProblem(problem, problem.status);
        if (gone !== undefined) this.#remove(gone, { error });
        if (this.#subscriptions.size === 0) return;
        continue;
      }
      // Nobody waits for what a watch that is gone would have got.
      if (current === undefined || current.end !== undefined) continue;
      current.wasOpen = true;
      current.push(event);
      if (current.queue.length >= QUEUE_MAX) await current.drained();
      if (this.#isChanged && this.#mayReopen()) return this.#stop.abort();
    }
  }
}

function positionGone(collection: string): ProblemError {
  return new ProblemError("REVISION_GONE", {
    status: 410,
    detail: `Cannot watch ${collection} from where the copy is: the service does not hold it any more`,
    action: "Begin anew from a list",
  });
}
