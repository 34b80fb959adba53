/**
 * Ranges of addresses of one family, as "first-last" or as a prefix.
 * @module
 */
import { IpAddress, type IpFamily, Prefix } from "@weir/common";

/** A range, both ends included, as numbers. */
export interface AddressRange {
  family: IpFamily;
  first: bigint;
  last: bigint;
}

/** Reads a prefix, an address, or `FIRST-LAST`; undefined for anything else. */
export function parseRange(text: string): AddressRange | undefined {
  const dash = text.indexOf("-");
  if (dash < 0) {
    const prefix = Prefix.tryParse(text.trim());
    if (prefix === undefined) return undefined;
    const first = prefix.address.toBigInt();
    return { family: prefix.family, first, last: first + prefix.addressCount - 1n };
  }
  const first = IpAddress.tryParse(text.slice(0, dash).trim());
  const last = IpAddress.tryParse(text.slice(dash + 1).trim());
  if (first === undefined || last === undefined || first.family !== last.family) return undefined;
  if (first.compare(last) > 0) return undefined;
  return { family: first.family, first: first.toBigInt(), last: last.toBigInt() };
}

/** The range as a prefix where it is one, else `FIRST-LAST`. */
export function rangeText({ family, first, last }: AddressRange): string {
  const start = IpAddress.fromBigInt(first, family);
  const size = last - first + 1n;
  const hostBits = size.toString(2).length - 1;
  if (size === 1n << BigInt(hostBits) && first % size === 0n) {
    return Prefix.of(start, start.bits - hostBits).text;
  }
  return `${start.text}-${IpAddress.fromBigInt(last, family).text}`;
}

/** Whether two ranges share an address. */
export function rangesOverlap(a: AddressRange, b: AddressRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

/** Whether the range holds the address. */
export function rangeHolds(range: AddressRange, address: IpAddress): boolean {
  if (range.family !== address.family) return false;
  const number = address.toBigInt();
  return number >= range.first && number <= range.last;
}
