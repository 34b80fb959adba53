/**
 * Where an entry lies in the table of one direction and identity.
 *
 * ```
 *  0        8                 24
 * +--------+------------------+
 * |protocol|       port       |   prefix 0: any protocol; 8: any port; 9..24: port prefix
 * +--------+------------------+
 * ```
 *
 * @module
 */
import type { MapStateEntry } from "@weir/proto/policy";

/** Length of the prefix: 0 any protocol, 8 any port, 9 to 24 with port bits. */
export function entryPrefixLength(entry: Pick<MapStateEntry, "protocol" | "portPrefixLength">): number {
  return entry.protocol === 0 ? 0 : 8 + entry.portPrefixLength;
}

/** A number for (protocol, port) cut to a prefix length: below 2^29, so exact. */
export function prefixKey(protocol: number, port: number, length: number): number {
  if (length === 0) return 0;
  const bits = length - 8;
  const masked = bits === 0 ? 0 : (port >>> (16 - bits)) << (16 - bits);
  return (length << 24 >>> 0) + protocol * 65536 + masked;
}

/** The key of an entry's own prefix. */
export function entryKey(entry: Pick<MapStateEntry, "protocol" | "port" | "portPrefixLength">): number {
  return prefixKey(entry.protocol, entry.port, entryPrefixLength(entry));
}

/** Keys of all prefixes around an entry's, its own the last. */
export function* coveringKeys(
  entry: Pick<MapStateEntry, "protocol" | "port" | "portPrefixLength">,
): Generator<number> {
  const length = entryPrefixLength(entry);
  for (let shorter = 0; shorter <= length; shorter = shorter === 0 ? 8 : shorter + 1) {
    yield prefixKey(entry.protocol, entry.port, shorter);
  }
}
