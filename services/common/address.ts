/**
 * IP addresses of both families as values: text in, bytes in network order out, and back.
 * @module
 */

/** Address family, 4 or 6. */
export type IpFamily = 4 | 6;

/** A text that is no IP address or prefix. */
export class AddressError extends Error {
  override readonly name = "AddressError";
  readonly code = "ADDRESS_INVALID";
  constructor(readonly subject: string, readonly expected: string) {
    super(`Cannot read address ${JSON.stringify(subject.slice(0, 80))}: want ${expected}`);
  }
}

/** An immutable IPv4 or IPv6 address. Zones are not part of an address and are refused. */
export class IpAddress {
  /** Canonical text: dotted decimal, or RFC 5952. */
  readonly text: string;
  readonly #octets: Uint8Array;

  private constructor(readonly family: IpFamily, octets: Uint8Array) {
    this.#octets = octets;
    this.text = family === 4 ? octets.join(".") : formatIpv6(octets);
  }

  /** Reads an address. Octets with leading zeros, zones and mixed forms out of range are refused. @throws {AddressError} */
  static parse(text: string): IpAddress {
    const octets = parseIpv4(text) ?? parseIpv6(text);
    if (!octets) throw new AddressError(text, "an IPv4 or IPv6 address without zone");
    return new IpAddress(octets.length === 4 ? 4 : 6, octets);
  }

  /** Like {@link IpAddress.parse}, undefined for a text that is none. */
  static tryParse(text: string): IpAddress | undefined {
    const octets = parseIpv4(text) ?? parseIpv6(text);
    return octets && new IpAddress(octets.length === 4 ? 4 : 6, octets);
  }

  /** An address of 4 or 16 bytes in network order; they are copied. @throws {AddressError} */
  static fromBytes(bytes: Uint8Array): IpAddress {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new AddressError(`${bytes.length} bytes`, "4 or 16 bytes");
    }
    return new IpAddress(bytes.length === 4 ? 4 : 6, bytes.slice());
  }

  /** An address of its number (network order, 32 or 128 bits). */
  static fromBigInt(value: bigint, family: IpFamily): IpAddress {
    const octets = new Uint8Array(family === 4 ? 4 : 16);
    for (let i = octets.length - 1; i >= 0; i--, value >>= 8n) octets[i] = Number(value & 0xffn);
    if (value !== 0n) throw new AddressError(String(value), `a number of ${octets.length * 8} bits`);
    return new IpAddress(family, octets);
  }

  /** 32 or 128. */
  get bits(): number {
    return this.family === 4 ? 32 : 128;
  }

  /** A copy of the bytes in network order. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#octets);
  }

  /** The byte at an index, without a copy. */
  byteAt(index: number): number {
    return this.#octets[index];
  }

  /** The address as a number. */
  toBigInt(): bigint {
    let value = 0n;
    for (const octet of this.#octets) value = (value << 8n) | BigInt(octet);
    return value;
  }

  /** The address `offset` further (or back). @throws {AddressError} when that leaves the family's space */
  add(offset: number | bigint): IpAddress {
    const sum = this.toBigInt() + BigInt(offset);
    if (sum < 0n) throw new AddressError(`${this.text} ${offset}`, "an address not below zero");
    return IpAddress.fromBigInt(sum, this.family);
  }

  equals(other: IpAddress): boolean {
    return this.text === other.text && this.family === other.family;
  }

  /** Order: IPv4 before IPv6, then by number. */
  compare(other: IpAddress): number {
    if (this.family !== other.family) return this.family - other.family;
    for (let i = 0; i < this.#octets.length; i++) {
      if (this.#octets[i] !== other.#octets[i]) return this.#octets[i] - other.#octets[i];
    }
    return 0;
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const octets = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    octets[index] = Number(part);
  }
  return octets;
}

function parseIpv6(text: string): Uint8Array | undefined {
  if (text.length > 45 || !/^[0-9a-fA-F:.]+$/.test(text)) return undefined;
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1], true) : [];
  if (!head || !tail) return undefined;
  const missing = 16 - head.length - tail.length;
  // "::" stands for at least one group of zeros (RFC 4291 section 2.2).
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Uint8Array.from([...head, ...new Array(missing).fill(0), ...tail]);
}

/** Bytes of colon-separated groups; the last may be dotted decimal where the half ends the address. */
function parseGroups(text: string, mayEndDotted: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (mayEndDotted && index === groups.length - 1 && group.includes(".")) {
      const octets = parseIpv4(group);
      if (!octets) return undefined;
      bytes.push(...octets);
      continue;
    }
    if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
    const value = parseInt(group, 16);
    bytes.push(value >> 8, value & 0xff);
  }
  return bytes;
}

function formatIpv6(octets: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((octets[i] << 8) | octets[i + 1]);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${octets.subarray(12).join(".")}`;
  }
  // RFC 5952: the first longest run of at least two zero groups becomes "::".
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) [start, length] = [i, run];
    if (run > 0) i += run - 1;
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}
