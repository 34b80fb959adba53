/** The head of an answer. @module */
import { type Field, HeadText, listOf, readFields, textOf } from "./fields.ts";
import { Http1Error } from "./http1_error.ts";
import type { BodyKind } from "./request_head.ts";
import { readFraming } from "./request_head.ts";

/** An answer as far as its head says it. */
export interface ResponseHead {
  readonly version: "HTTP/1.1" | "HTTP/1.0";
  readonly status: number;
  readonly fields: readonly Field[];
  readonly end: number;
  readonly body: BodyKind;
  readonly length: number;
  /** The server takes another request on this connection. */
  readonly keepsAlive: boolean;
}

const CR = 13;
const STATUS_LINE = /^(HTTP\/1\.[01]) ([1-9]\d\d)(?: ([\t -~\u0080-\uffff]*))?$/;

/**
 * Reads the head that lies in `bytes` from `start` to `end`, empty line included.
 * @param method of the request: the answer to HEAD has no body
 * @throws {Http1Error}
 */
export function readResponseHead(
  bytes: Uint8Array,
  start: number,
  end: number,
  method: string,
): ResponseHead {
  let lineEnd = start, mixed = 0;
  for (; bytes[lineEnd] !== CR; lineEnd++) mixed |= bytes[lineEnd];
  // A reason may have any byte: then fields are read by a text of their own.
  const text = new HeadText(bytes, start, end), isAscii = mixed < 128;
  const line = isAscii ? text.slice(start, lineEnd) : textOf(bytes, start, lineEnd);
  const [, version, code] = STATUS_LINE.exec(line) ?? [];
  if (version === undefined) throw new Http1Error("bad-status-line", line);
  const status = Number(code);
  const fields = readFields(bytes, lineEnd + 2, end, isAscii ? text : undefined);
  const { body, length } = readFraming(fields, version);
  let closes = false, keeps = false;
  for (const field of fields) {
    if (field.key !== "connection") continue;
    for (const name of listOf(field.value)) {
      closes ||= name === "close";
      keeps ||= name === "keep-alive";
    }
  }
  const keepsAlive = !closes && (version === "HTTP/1.1" || keeps);
  const common = { version: version as ResponseHead["version"], status, fields, end };
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) {
    return { ...common, body: "none", length: 0, keepsAlive };
  }
  const isOpen = body === "none" && !fields.some(({ key }) => key === "content-length");
  return isOpen
    ? { ...common, body: "until-close", length: 0, keepsAlive: false }
    : { ...common, body, length, keepsAlive };
}
