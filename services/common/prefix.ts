/**
 * IP prefixes of both families: parse, contain, format.
 * @module
 */
import { AddressError, IpAddress, type IpFamily } from "./address.ts";

/** An immutable prefix; the bits below its length are zero. */
export class Prefix {
  /** Canonical text `address/length`. */
  readonly text: string;

  private constructor(readonly address: IpAddress, readonly length: number) {
    this.text = `${address.text}/${length}`;
  }

  /** A prefix around an address; host bits are cleared. @throws {AddressError} on a length beyond the family's bits */
  static of(address: IpAddress, length: number): Prefix {
    if (!Number.isInteger(length) || length < 0 || length > address.bits) {
      throw new AddressError(`${address}/${length}`, `a length from 0 to ${address.bits}`);
    }
    const bytes = address.bytes;
    for (let i = 0; i < bytes.length; i++) {
      const kept = Math.min(8, Math.max(0, length - i * 8));
      bytes[i] &= 0xff << (8 - kept);
    }
    return new Prefix(IpAddress.fromBytes(bytes), length);
  }

  /** The prefix of one address, /32 or /128. */
  static host(address: IpAddress): Prefix {
    return new Prefix(address, address.bits);
  }

  /**
   * Reads `address/length`; host bits are cleared. A bare address is a host prefix unless `bare` is false.
   * @throws {AddressError}
   */
  static parse(text: string, options: { bare?: boolean } = {}): Prefix {
    const prefix = Prefix.tryParse(text, options);
    if (prefix) return prefix;
    if (text.includes("/")) throw new AddressError(text, "address/length");
    if (options.bare === false) throw new AddressError(text, "a prefix length after a slash");
    return Prefix.host(IpAddress.parse(text));
  }

  /** Like {@link Prefix.parse}, undefined for a text that is none: without an error, which costs as much as the rest. */
  static tryParse(text: string, options: { bare?: boolean } = {}): Prefix | undefined {
    const slash = text.indexOf("/");
    if (slash < 0) {
      const address = options.bare === false ? undefined : IpAddress.tryParse(text);
      return address && Prefix.host(address);
    }
    const length = text.slice(slash + 1);
    const address = IpAddress.tryParse(text.slice(0, slash));
    if (!address || !/^(0|[1-9][0-9]{0,2})$/.test(length) || Number(length) > address.bits) return undefined;
    return Prefix.of(address, Number(length));
  }

  get family(): IpFamily {
    return this.address.family;
  }

  /** True for a prefix of one address. */
  get isHost(): boolean {
    return this.length === this.address.bits;
  }

  /** True when the address, or the whole other prefix, lies inside. Another family never does. */
  contains(other: IpAddress | Prefix): boolean {
    const address = other instanceof Prefix ? other.address : other;
    if (address.family !== this.family) return false;
    if (other instanceof Prefix && other.length < this.length) return false;
    const whole = this.length >> 3;
    for (let i = 0; i < whole; i++) if (address.byteAt(i) !== this.address.byteAt(i)) return false;
    const rest = this.length & 7;
    return rest === 0 || ((address.byteAt(whole) ^ this.address.byteAt(whole)) >> (8 - rest)) === 0;
  }

  equals(other: Prefix): boolean {
    return this.text === other.text;
  }

  /** Order: family, address, shorter first. */
  compare(other: Prefix): number {
    return this.address.compare(other.address) || this.length - other.length;
  }

  /** The first address of the prefix plus `index`. @throws {AddressError} beyond the prefix */
  addressAt(index: number | bigint): IpAddress {
    const address = this.address.add(index);
    if (!this.contains(address)) {
      throw new AddressError(`${this.text} index ${index}`, "an index inside the prefix");
    }
    return address;
  }

  /** How many addresses the prefix holds. */
  get addressCount(): bigint {
    return 1n << BigInt(this.address.bits - this.length);
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}
