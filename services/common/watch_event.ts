/** Events of a watch on the wire. @module */
import type { Message } from "@weir/proto";
import { WatchEvent } from "@weir/proto/common";
import type { Change } from "./change_history.ts";
import { delimit, type Encoding } from "./framing.ts";

const encoder = new TextEncoder();

/** A PUT or DELETED of one object. */
export function encodeChange<T>(
  change: { type: Change<T>["type"]; revision: number; name: string; value?: T },
  message: Message<T>,
  encoding: Encoding,
): Uint8Array {
  const { type, revision, name, value } = change;
  if (encoding === "protobuf") {
    const object = type === "PUT" ? message.encode(value as never) : new Uint8Array(0);
    return delimit(WatchEvent.encode({ type, revision, name, object }));
  }
  const line: Record<string, unknown> = { type, revision: String(revision), name };
  if (type === "PUT") line.object = message.toJson(value as never);
  return encoder.encode(JSON.stringify(line) + "\n");
}

/** SYNCED at a position. */
export function encodeSynced(revision: number, epoch: string, encoding: Encoding): Uint8Array {
  return encoding === "protobuf"
    ? delimit(WatchEvent.encode({ type: "SYNCED", revision, epoch }))
    : encoder.encode(JSON.stringify({ type: "SYNCED", revision: String(revision), epoch }) + "\n");
}
