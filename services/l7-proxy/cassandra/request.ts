/**
 * What a request's body asks the server to run: texts and prepared ids, with the keyspace that the request itself names.
 * @module
 */

import { type CqlQuestion, readCqlQuestion } from "@weir/l7-rules";
import { BodyError, type BodyReader } from "./body_reader.ts";
import { EnvelopeFlag, Opcode } from "./envelope.ts";
import { PREPARED_ID_BYTES_MAX } from "./prepared_statements.ts";

/** Bytes of one CQL text. */
export const TEXT_BYTES_MAX = 3 * 1024 * 1024;

/** One member of what is to be run. */
export type RequestPart =
  | (CqlQuestion & { readonly kind: "text" })
  | { readonly kind: "id"; readonly id: Uint8Array };

/** What a QUERY, PREPARE, EXECUTE or BATCH asks. */
export interface CassandraRequest {
  readonly parts: readonly RequestPart[];
  /** Keyspace for this request alone; null: the connection's. */
  readonly keyspace: string | null;
}

/** Bits of a request's parameters. */
const Param = {
  VALUES: 0x01,
  PAGE_SIZE: 0x04,
  PAGING_STATE: 0x08,
  SERIAL: 0x10,
  TIMESTAMP: 0x20,
  NAMES: 0x40,
  KEYSPACE: 0x80,
};
const PREPARE_WITH_KEYSPACE = 0x01;

/**
 * Reads as much of a body as the judgement needs: values behind the statement are read over only where a keyspace that
 * counts comes after them.
 *
 * @throws NeedMore, BodyError, TooLong
 */
export function readRequest(
  { version, flags, opcode }: { version: number; flags: number; opcode: number },
  body: BodyReader,
): CassandraRequest {
  if ((flags & EnvelopeFlag.CUSTOM_PAYLOAD) !== 0) {
    if (version < 4) throw new BodyError(`a custom payload in version ${version}`);
    body.skipBytesMap();
  }
  switch (opcode) {
    case Opcode.QUERY: {
      const part = readText(body);
      return { parts: [part], keyspace: namesAreWhole(part) ? null : readParameters(body, version) };
    }
    case Opcode.PREPARE: {
      const part = readText(body);
      const flags = version >= 5 && !namesAreWhole(part) ? body.i32() : 0;
      return { parts: [part], keyspace: (flags & PREPARE_WITH_KEYSPACE) !== 0 ? body.string() : null };
    }
    case Opcode.EXECUTE:
      return { parts: [readId(body)], keyspace: null };
    case Opcode.BATCH:
      return readBatch(body, version);
  }
  throw new BodyError(`opcode ${opcode} runs nothing`);
}

function readBatch(body: BodyReader, version: number): CassandraRequest {
  body.skip(1);
  const parts: RequestPart[] = [];
  let whole = true;
  for (let count = body.u16(); count > 0; count--) {
    const kind = body.u8();
    if (kind > 1) throw new BodyError(`a batch's member of kind ${kind}`);
    const part = kind === 0 ? readText(body) : readId(body);
    whole &&= namesAreWhole(part);
    parts.push(part);
    for (let values = body.u16(); values > 0; values--) body.skipValue();
  }
  return { parts, keyspace: whole ? null : readParameters(body, version) };
}

/** The keyspace among a request's parameters; null: there is none. */
function readParameters(body: BodyReader, version: number): string | null {
  body.skip(2);
  const flags = version >= 5 ? body.i32() : body.u8();
  if ((flags & Param.KEYSPACE) === 0) return null;
  // Servers differ in whether they heed the bit where it is not defined.
  if (version < 5) throw new BodyError(`a keyspace of its own in version ${version}`);
  if ((flags & Param.VALUES) !== 0) {
    for (let count = body.u16(); count > 0; count--) {
      if ((flags & Param.NAMES) !== 0) body.shortBytes();
      body.skipValue();
    }
  }
  if ((flags & Param.PAGE_SIZE) !== 0) body.skip(4);
  if ((flags & Param.PAGING_STATE) !== 0) body.skipValue();
  if ((flags & Param.SERIAL) !== 0) body.skip(2);
  if ((flags & Param.TIMESTAMP) !== 0) body.skip(8);
  return body.string();
}

/** Texts that came last: programs send the same ones again and again, with other values. */
const KNOWN_TEXTS_MAX = 1024, KNOWN_TEXT_LENGTH_MAX = 512;
const known = new Map<string, RequestPart>();

function readText(body: BodyReader): RequestPart {
  const text = body.longString(TEXT_BYTES_MAX);
  const found = known.get(text);
  if (found !== undefined) return found;
  const part: RequestPart = { kind: "text", ...readCqlQuestion(text) };
  if (text.length <= KNOWN_TEXT_LENGTH_MAX) {
    if (known.size >= KNOWN_TEXTS_MAX) known.delete(known.keys().next().value!);
    known.set(text, part);
  }
  return part;
}

function readId(body: BodyReader): RequestPart {
  const id = body.shortBytes();
  if (id.length > PREPARED_ID_BYTES_MAX) throw new BodyError(`a prepared id of ${id.length} bytes`);
  return { kind: "id", id };
}

function namesAreWhole(part: RequestPart): boolean {
  return part.kind === "id" || part.text.statements.every((it) => it.scope !== "table" || it.keyspace !== "");
}
