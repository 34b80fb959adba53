/** Messages of DNS, written by an encoder that is not ours, for tests. @module */
import { Buffer } from "node:buffer";
import packet from "dns-packet";

/** A record as `dns-packet` has it. */
export type PacketRecord = { type: string; name: string; [field: string]: unknown };

/** A question. */
export function queryOf(name: string, more: { id?: number; type?: string; edns?: boolean } = {}): Uint8Array {
  const { id = 7, type = "A", edns = false } = more;
  const additionals = edns ? [{ type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options: [] }] : [];
  return encode({ type: "query", id, flags: 0x100, questions: [{ name, type }], additionals });
}

/** The answer of a server to a question: its id, its question byte for byte, these records. */
export function answerTo(
  query: Uint8Array,
  answers: PacketRecord[],
  more: { rcode?: number; flags?: number } = {},
): Uint8Array {
  const { id, questions } = decode(query);
  const flags = 0x8180 | (more.rcode ?? 0) | (more.flags ?? 0);
  return encode({ type: "response", id, flags, questions: [questions[0]], answers });
}

/** `count` addresses of a name. */
export function addresses(name: string, count: number, ttl = 60): PacketRecord[] {
  return Array.from({ length: count }, (_, at) => ({
    type: "A",
    name,
    ttl,
    data: `198.51.${at >> 8}.${at & 255}`,
  }));
}

/** A message as `dns-packet` writes it. */
export function encode(message: unknown): Uint8Array {
  return new Uint8Array(packet.encode(message));
}

/** What `dns-packet` reads. */
// deno-lint-ignore no-explicit-any
export function decode(bytes: Uint8Array): any {
  return packet.decode(Buffer.from(bytes));
}

/** A message of its parts: numbers are bytes, texts are labels, each with its length in front. */
export function raw(...parts: (number | string)[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => {
    if (typeof part === "number") return [part];
    const label = new TextEncoder().encode(part);
    return [label.length, ...label];
  }));
}

/** The first 12 bytes. */
export function head(counts: [number, number, number, number], flags = 0x0100, id = 7): number[] {
  return [id, flags, ...counts].flatMap((word) => [word >> 8, word & 0xff]);
}
