/** One collection of a service. @module */
import type { Init, Message } from "@weir/proto";
import { WatchEvent, WatchRequest } from "@weir/proto/common";
import { PROTOBUF_TYPE } from "@weir/common/framing";
import { ProblemError } from "@weir/common/problem";
import { PartReader } from "@weir/common/shared-parts";
import type { Clock } from "@weir/common/clock";
import type { Caller, CallOptions, WatchOptions } from "./caller.ts";
import type { JointWatch } from "./joint_watch.ts";
import { type Query, queryText } from "./query.ts";

/** Objects that one page of a list has. */
export const LIST_PAGE_ITEMS = 5000;
/** How often a list is begun again when the service read its table anew meanwhile. */
const LIST_TRIES_MAX = 3;

/** One event of a watch. */
export type ClientEvent<T> =
  | { type: "PUT"; revision: number; name: string; value: T }
  | { type: "DELETED"; revision: number; name: string }
  /** Everything up to this position was sent. */
  | { type: "SYNCED"; revision: number; epoch: string };

/** What a list answers. */
export interface ListResult<T> {
  /** With `epoch` the position to watch from. */
  revision: number;
  epoch: string;
  items: T[];
}

type ObjectOptions = Pick<CallOptions, "deadlineMs" | "signal">;

/** What a collection needs of its client. */
export interface CollectionCaller extends Caller {
  readonly clock: Clock;
  readonly joint: JointWatch | undefined;
}

/** One collection of a service. Every method rejects with {@link ProblemError}, as the client's do. */
export class CollectionClient<T> {
  constructor(readonly client: CollectionCaller, readonly name: string, readonly message: Message<T>) {}

  /** All objects that match, page by page, and the position to watch from. The deadline is that of each page. */
  async list(query?: Query, options: ObjectOptions = {}): Promise<ListResult<T>> {
    for (let tries = 1;; tries++) {
      try {
        return await this.#list(query, options);
      } catch (error) {
        if ((error as ProblemError).code !== "LIST_EXPIRED" || tries >= LIST_TRIES_MAX) throw error;
      }
    }
  }

  /** The object, or undefined when there is none. */
  async get(name: string, options: ObjectOptions = {}): Promise<T | undefined> {
    try {
      const init = { headers: { accept: PROTOBUF_TYPE } };
      const { bytes } = await this.client.exchange(this.#path(name), init, options);
      return this.message.decode(bytes);
    } catch (error) {
      if (error instanceof ProblemError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  /** Upsert of the whole object; answers what was stored. Repeatable. */
  async put(name: string, value: Init<T>, options: ObjectOptions = {}): Promise<T> {
    const { bytes } = await this.client.exchange(this.#path(name), {
      method: "PUT",
      headers: { "accept": PROTOBUF_TYPE, "content-type": PROTOBUF_TYPE },
      body: this.message.encode(value) as Uint8Array<ArrayBuffer>,
    }, options);
    return this.message.decode(bytes);
  }

  /** Deletes; false when there was no such object. Repeatable. */
  async delete(name: string, options: ObjectOptions = {}): Promise<boolean> {
    try {
      await this.client.exchange(this.#path(name), { method: "DELETE" }, options);
      return true;
    } catch (error) {
      if (error instanceof ProblemError && error.code === "NOT_FOUND") return false;
      throw error;
    }
  }

  /**
   * One stream of changes, in order, until it is cut or `signal` aborts. Throws REVISION_GONE when the position is no
   * longer held; {@link Reflector} does the listing anew.
   */
  async *watch(options: WatchOptions = {}): AsyncGenerator<ClientEvent<T>> {
    const parted = new PartReader(this.message);
    for await (const event of this.#watchEvents(options)) {
      const { type, revision, name, object, epoch, part, parts } = event;
      if (type === "PUT") yield { type, revision, name, value: parted.join(object, parts) };
      else if (type === "PART") parted.take(part, object);
      else if (type === "DELETED") yield { type, revision, name };
      else if (type === "SYNCED") yield { type, revision, epoch };
    }
  }

  async *#watchEvents(options: WatchOptions): AsyncGenerator<WatchEvent> {
    const { joint } = this.client;
    if (joint?.takes(this.name, options) && (yield* joint.events(this.name, options))) return;
    for await (const bytes of this.#watchFrames(options)) yield WatchEvent.decode(bytes);
  }

  #watchFrames(options: WatchOptions): AsyncGenerator<Uint8Array> {
    const { revision, epoch, names, newNames, signal } = options;
    if (names === undefined && newNames === undefined) {
      const query: Query = { watch: true, ...options.query };
      if (revision !== undefined) query.revision = revision;
      if (revision !== undefined && epoch) query.epoch = epoch;
      return this.client.frames(`/v1/${this.name}${queryText(query)}`, signal);
    }
    const value = { revision, epoch, names: [...names ?? []], newNames: [...newNames ?? []], parts: true };
    return this.client.frames(`/v1/${this.name}:watch`, signal, {
      method: "POST",
      headers: { "content-type": PROTOBUF_TYPE },
      body: WatchRequest.encode(value) as Uint8Array<ArrayBuffer>,
    });
  }

  async #list(query: Query | undefined, options: ObjectOptions): Promise<ListResult<T>> {
    const result: ListResult<T> = { revision: 0, epoch: "", items: [] };
    let token = "";
    do {
      const page: Query = { ...query, limit: LIST_PAGE_ITEMS, ...(token === "" ? {} : { continue: token }) };
      const init = { headers: { accept: PROTOBUF_TYPE } };
      const { headers, bytes } = await this.client.exchange(
        `/v1/${this.name}${queryText(page)}`,
        init,
        options,
      );
      if (token === "") {
        result.revision = Number(headers.get("weir-revision") ?? 0);
        result.epoch = headers.get("weir-epoch") ?? "";
      }
      for (const item of decodeList(bytes)) result.items.push(this.message.decode(item));
      token = headers.get("weir-continue") ?? "";
    } while (token !== "");
    return result;
  }

  #path(name: string): string {
    return `/v1/${this.name}/${encodeURIComponent(name)}`;
  }
}

/** The items (field 2) of any list message, as bytes. */
function decodeList(bytes: Uint8Array): Uint8Array[] {
  const items: Uint8Array[] = [];
  let offset = 0;
  const varint = () => {
    let value = 0, scale = 1;
    while (offset < bytes.length) {
      const byte = bytes[offset++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    throw new ProblemError("BODY_INVALID", { status: 502, detail: "Cannot read the list: it is truncated" });
  };
  while (offset < bytes.length) {
    const tag = varint();
    if ((tag & 7) === 0) varint();
    else if ((tag & 7) === 2) {
      const length = varint();
      if (offset + length > bytes.length) offset = bytes.length + 1, varint();
      if (tag >>> 3 === 2) items.push(bytes.subarray(offset, offset + length));
      offset += length;
    } else {
      throw new ProblemError("BODY_INVALID", {
        status: 502,
        detail: "Cannot read the list: it is not a list message",
      });
    }
  }
  return items;
}
