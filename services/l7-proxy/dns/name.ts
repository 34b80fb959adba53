/**
 * Names in messages: labels, each with its length, to the empty one; or to a pointer at an earlier place of the message.
 *
 *     3 w w w 7 e x a m p l e 0        3 f t p c0 10 ─▶ 7 e x a m p l e 0
 *
 * @module
 */
import { NAME_BYTES_MAX, NAME_POINTERS_MAX } from "./limits.ts";

/** What cannot be read of a message: a sentence without a subject. */
export class DnsFormError extends Error {
  override readonly name = "DnsFormError";
}

const POINTER = 0xc0;
const HEADER_BYTES = 12;

/**
 * Where the name at `at` ends in the message. Of a pointer only that it leads backwards is looked at.
 * @throws {DnsFormError}
 */
export function skipName(bytes: Uint8Array, at: number): number {
  const start = at;
  for (;;) {
    const length = byteAt(bytes, at);
    if (length === 0) return at + 1;
    if (length >= POINTER) {
      pointerAt(bytes, at, start);
      return at + 2;
    }
    at = labelEnd(length, at);
    if (at - start >= NAME_BYTES_MAX) throw tooLong();
  }
}

/**
 * The name at `at`, in lower case and with its final dot, and where it ends in the message. Bytes that text cannot have stand as RFC 4343 writes
 * them, `\.` and `\DDD`: no name of a rule is ever equal to such a text.
 * @param pointers whether it may have any: the first question's has nothing to point at
 * @throws {DnsFormError}
 */
export function readName(bytes: Uint8Array, at: number, pointers = true): { text: string; end: number } {
  let text = "", end = -1, total = 0, jumps = 0, start = at;
  for (;;) {
    const length = byteAt(bytes, at);
    if (length >= POINTER) {
      if (!pointers) throw new DnsFormError("the name of its question is a pointer");
      if (++jumps > NAME_POINTERS_MAX) {
        throw new DnsFormError(`a name follows more than ${NAME_POINTERS_MAX} pointers`);
      }
      const target = pointerAt(bytes, at, start);
      if (end < 0) end = at + 2;
      at = start = target;
      continue;
    }
    const next = labelEnd(length, at);
    total += length + 1;
    if (total > NAME_BYTES_MAX) throw tooLong();
    if (length === 0) return { text: text === "" ? "." : text, end: end < 0 ? next : end };
    if (next > bytes.length) throw new DnsFormError("it ends within a name");
    for (let i = at + 1; i < next; i++) text += CHARACTERS[bytes[i]];
    text += ".";
    at = next;
  }
}

/** A byte of a label as text. */
const CHARACTERS: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const char = String.fromCharCode(byte);
  if (char === "." || char === "\\") return `\\${char}`;
  return byte > 0x20 && byte < 0x7f ? char.toLowerCase() : `\\${`${byte}`.padStart(3, "0")}`;
});

function byteAt(bytes: Uint8Array, at: number): number {
  if (at >= bytes.length) throw new DnsFormError("it ends within a name");
  return bytes[at];
}

function labelEnd(length: number, at: number): number {
  if (length > 63) throw new DnsFormError("a label of a kind that is not known");
  return at + 1 + length;
}

/** @param start where the labels before the pointer begin: it must lead to before them */
function pointerAt(bytes: Uint8Array, at: number, start: number): number {
  const target = (bytes[at] & 0x3f) << 8 | byteAt(bytes, at + 1);
  if (target < HEADER_BYTES || target >= start) {
    throw new DnsFormError("a name points to where no earlier name is");
  }
  return target;
}

function tooLong(): DnsFormError {
  return new DnsFormError(`a name of more than ${NAME_BYTES_MAX} bytes`);
}
