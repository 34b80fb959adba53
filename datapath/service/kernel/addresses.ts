/** Addresses as the maps have them: 16 bytes, v4 as ::ffff:a.b.c.d. @module */
import { IpAddress, Prefix, ProblemError } from "@weir/common";
import type { Bytes } from "@weir/maps";

/** 16 bytes of an address; zeros for "". @throws {ProblemError} ADDRESS_INVALID */
export function mapped(text: string): Bytes {
  const out = new Uint8Array(16);
  if (text === "") return out;
  const { bytes } = parseAddress(text);
  if (bytes.length === 16) return bytes;
  out[10] = out[11] = 0xff;
  out.set(bytes, 12);
  return out;
}

/** The number of a v4 address, 0 for "". */
export function ipv4Number(text: string): number {
  if (text === "") return 0;
  const { bytes } = parseAddress(text);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}

/** 16 bytes as text; v4-mapped ones as v4. */
export function unmapped(bytes: Uint8Array): string {
  const v4 = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return IpAddress.fromBytes(v4 ? bytes.slice(12) : bytes).text;
}

/** An address, or a problem that names it. */
export function parseAddress(text: string): IpAddress {
  const address = IpAddress.tryParse(text);
  if (address !== undefined) return address;
  throw new ProblemError("ADDRESS_INVALID", {
    detail: `Cannot read address ${JSON.stringify(text)}`,
    found: text,
    expected: "an IPv4 or IPv6 address",
  });
}

/** A prefix, or a problem that names it. */
export function parsePrefix(text: string): Prefix {
  const prefix = Prefix.tryParse(text, { bare: true });
  if (prefix !== undefined) return prefix;
  throw new ProblemError("PREFIX_INVALID", {
    detail: `Cannot read prefix ${JSON.stringify(text)}`,
    found: text,
    expected: "an address with a prefix length",
  });
}

/** A key for comparing bytes. */
export function hex(bytes: Uint8Array): string {
  return bytes.toHex();
}
