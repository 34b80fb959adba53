/** What a service holds, as digests: enough to compare, and little to keep. @module */
import { createHash } from "node:crypto";
import type { Clock, Logger } from "@weir/common";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import { Reflector, type WeirClient } from "@weir/client";
import type { Message } from "@weir/proto";
import type { HeldObject, MirrorTarget, WantedObject } from "./mirror.ts";

/** `file` of an object: "kubernetes:CiliumNetworkPolicy/NAMESPACE/NAME". */
export function fileOf({ kind, key }: { kind: string; key: string }): string {
  return `${KUBERNETES_FILE_MARK}${kind}/${key}`;
}

/** The kind that a `file` names; "" where it bears no mark of ours. */
export function kindOfFile(file: string): string {
  return file.startsWith(KUBERNETES_FILE_MARK) ? file.slice(KUBERNETES_FILE_MARK.length).split("/")[0] : "";
}

/** A digest of a text, for comparison. */
export function digestOf(text: string): string {
  return createHash("sha256").update(text.trim()).digest("base64").slice(0, 22);
}

/** What a mirror is told of what the service holds, and what that is told with. */
export interface HeldOptions {
  onChange: (name: string) => void;
  onSynced: () => void;
  clock: Clock;
  log: Logger;
}

/** A collection of a service as a mirror's target; of each object only what {@link HeldObject} has is kept. */
export abstract class HeldTarget<T> implements MirrorTarget {
  abstract readonly name: string;
  abstract readonly batchMax: number;
  readonly held: Reflector<HeldObject>;

  constructor(
    protected readonly client: WeirClient,
    followed: { collection: string; message: Message<T>; heldOf: (value: T) => HeldObject },
    options: HeldOptions,
  ) {
    const { collection, message, heldOf } = followed;
    const held: Message<HeldObject> = {
      ...(message as unknown as Message<HeldObject>),
      decode: (bytes) => heldOf(message.decode(bytes)),
    };
    this.held = new Reflector(client.collection(collection, held), options);
  }

  get synced(): boolean {
    return this.held.synced;
  }
  get(name: string): HeldObject | undefined {
    return this.held.get(name);
  }
  names(): Iterable<string> {
    return this.held.entries().map(([name]) => name);
  }

  abstract put(objects: readonly (WantedObject & { name: string })[]): Promise<void>;
  abstract delete(objects: readonly { name: string; kind: string }[]): Promise<void>;
}
