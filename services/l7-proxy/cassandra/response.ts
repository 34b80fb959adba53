/**
 * What an answer tells that later requests depend on.
 * @module
 */

import { type Compression, plainBody } from "./body_compression.ts";
import { BodyError, BodyReader, NeedMore } from "./body_reader.ts";
import { DecompressError } from "./decompress.ts";
import { EnvelopeFlag, type EnvelopeHeader, Opcode } from "./envelope.ts";
import { PEEK_BYTES_MAX } from "./limits.ts";
import { PREPARED_ID_BYTES_MAX } from "./prepared_statements.ts";

/** What was read. `other`: nothing of these, or not to be read. */
export type CassandraResponse =
  | { readonly kind: "prepared"; readonly id: Uint8Array }
  | { readonly kind: "keyspace"; readonly keyspace: string }
  | { readonly kind: "error"; readonly code: number }
  | { readonly kind: "other" };

const Result = { SET_KEYSPACE: 3, PREPARED: 4 };
const OTHER: CassandraResponse = { kind: "other" };

/** Reads an ERROR or RESULT from its body's beginning. */
export function readResponse(
  header: EnvelopeHeader,
  compression: Compression,
  body: Uint8Array,
): CassandraResponse {
  try {
    const plain = plainBody(header, compression, body, PEEK_BYTES_MAX);
    const reader = new BodyReader(plain.bytes, plain.bodyBytes);
    if ((header.flags & EnvelopeFlag.TRACING) !== 0) reader.skip(16);
    if ((header.flags & EnvelopeFlag.WARNING) !== 0) reader.skipStringList();
    if ((header.flags & EnvelopeFlag.CUSTOM_PAYLOAD) !== 0) reader.skipBytesMap();
    const first = reader.i32();
    if (header.opcode === Opcode.ERROR) return { kind: "error", code: first };
    if (header.opcode !== Opcode.RESULT) return OTHER;
    if (first === Result.SET_KEYSPACE) return { kind: "keyspace", keyspace: reader.string() };
    if (first !== Result.PREPARED) return OTHER;
    const id = reader.shortBytes();
    return id.length > PREPARED_ID_BYTES_MAX ? OTHER : { kind: "prepared", id: id.slice() };
  } catch (error) {
    if (error instanceof NeedMore || error instanceof BodyError || error instanceof DecompressError) {
      return OTHER;
    }
    throw error;
  }
}
