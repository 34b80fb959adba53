/**
 * A watch that is followed as nodes do: what was cut is opened again after a while that grows, from the last position.
 *
 *     open ─▶ PUT … SYNCED … cut ─▶ pause ─▶ open, {epoch, revision} ─▶ what changed since … SYNCED
 *                                                       └─▶ not held: that collection from nothing
 *
 * @module
 */
import { Backoff } from "@weir/common";
import { CollectionWatch, JointWatchRequest, WatchRequest } from "@weir/proto/common";
import { AnswerError, BodyStream } from "./body_stream.ts";
import { type Counted, WatchCount } from "./watch_count.ts";

/** A collection that is watched: all of it, or the objects of these names. */
export interface Watched {
  collection: string;
  names?: readonly string[];
}

/** Options of {@link FollowedWatch}. */
export interface FollowedWatchOptions {
  /** Path of the service's unix socket. */
  socket: string;
  /** More than one: a joint stream. */
  watched: readonly Watched[];
  /** A request of one collection, as nodes older than joint streams have it. */
  isApart?: boolean;
  onSynced?: (collection: string, counted: Counted) => void;
  /** Why a stream ended; it is opened again. */
  onCut: (why: string) => void;
}

/** A watch that is followed until it is closed. */
export class FollowedWatch {
  readonly #options: FollowedWatchOptions;
  readonly #count: WatchCount;
  readonly #backoff = new Backoff({ delayMsMin: 100, delayMsMax: 5000, jitter: 0.7 });
  #stream: BodyStream;
  /** Of streams that ended. */
  #before = { bytes: 0, reads: 0, opened: 0 };
  #isClosed = false;

  constructor(options: FollowedWatchOptions) {
    this.#options = options;
    this.#count = new WatchCount({
      collection: options.isApart ? options.watched[0].collection : undefined,
      onSynced: (collection, counted) => {
        this.#backoff.reset();
        options.onSynced?.(collection, counted);
      },
      // Opened anew, the others go on from where they are.
      onGone: () => this.#stream.close(),
    });
    this.#stream = this.#open();
    void this.#run();
  }

  /** What came of a collection; undefined before its first event. */
  counted(collection: string): Counted | undefined {
    return this.#count.collections.get(collection);
  }

  /** Bytes that came, HTTP included, the reads in which they did, and streams that were opened. */
  get taken(): { bytes: number; reads: number; opened: number } {
    const before = this.#before, { bytes, reads, isAnswered } = this.#stream;
    return {
      bytes: before.bytes + bytes,
      reads: before.reads + reads,
      opened: before.opened + Number(isAnswered),
    };
  }

  /** Ends it; repeatable. */
  close(): void {
    this.#isClosed = true;
    this.#stream.close();
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      const error = await this.#stream.follow().catch((error: Error) => error);
      if (this.#isClosed) return;
      this.#options.onCut((error as { code?: string }).code ?? error.message);
      if (error instanceof AnswerError && error.status === 410) this.#count.collections.clear();
      await new Promise((resolve) => setTimeout(resolve, this.#backoff.nextMs()));
      this.#before = this.taken;
      this.#count.begin();
      this.#stream = this.#open();
    }
  }

  #open(): BodyStream {
    return new BodyStream({
      socket: this.#options.socket,
      ...this.#request(),
      onPiece: (piece, left, isFirst) => this.#count.take(piece, left, isFirst),
    });
  }

  #request(): { path: string; body?: Uint8Array } {
    const watches = this.#options.watched.map(({ collection, names }) => {
      const counted = this.#count.collections.get(collection);
      const position = counted?.isSynced ? { revision: counted.revision, epoch: counted.epoch } : undefined;
      const request = names === undefined
        ? position ?? {}
        : position === undefined
        ? { newNames: [...names], parts: true }
        : { ...position, names: [...names], parts: true };
      return { collection, byNames: names !== undefined, request: WatchRequest.create(request) };
    });
    if (!this.#options.isApart) {
      return {
        path: "/v1/watch",
        body: JointWatchRequest.encode({ watches: watches.map((watch) => CollectionWatch.create(watch)) }),
      };
    }
    const [{ collection, byNames, request }] = watches;
    if (byNames) return { path: `/v1/${collection}:watch`, body: WatchRequest.encode(request) };
    const from = request.revision > 0 ? `&revision=${request.revision}&epoch=${request.epoch}` : "";
    return { path: `/v1/${collection}?watch=true${from}` };
  }
}
