/**
 * Port ranges as the datapath keeps them: the smallest set of aligned prefixes of the 16 bit port.
 * @module
 */

/** Highest port. */
export const PORT_MAX = 65535;

/** Ports whose upper `bits` bits equal those of `port`; bits 0 is every port, 16 one port. */
export interface PortPrefix {
  /** First port of the prefix, lower bits zero. */
  readonly port: number;
  /** How many upper bits count, 0 to 16. */
  readonly bits: number;
}

/**
 * The smallest set of prefixes that covers first..last and nothing else, in order (1-65534 gives 30, 0-65535 one).
 * @throws {RangeError} unless 0 <= first <= last <= 65535
 */
export function portPrefixes(first: number, last: number): PortPrefix[] {
  if (!Number.isInteger(first) || !Number.isInteger(last) || first < 0 || last > PORT_MAX || first > last) {
    throw new RangeError(`Cannot split port range ${first}-${last}: want 0 <= first <= last <= ${PORT_MAX}`);
  }
  const prefixes: PortPrefix[] = [];
  for (let port = first; port <= last;) {
    let size = port === 0 ? 65536 : port & -port;
    while (port + size - 1 > last) size /= 2;
    prefixes.push({ port, bits: 16 - Math.log2(size) });
    port += size;
  }
  return prefixes;
}

/** Last port of a prefix. */
export function portPrefixLast(prefix: PortPrefix): number {
  return prefix.port + (1 << (16 - prefix.bits)) - 1;
}

/** True when the port lies in the prefix. */
export function portPrefixContains(prefix: PortPrefix, port: number): boolean {
  return ((port ^ prefix.port) >>> (16 - prefix.bits)) === 0;
}
