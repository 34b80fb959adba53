/**
 * Addresses of handles: a prefix, and the number of the connection in its last 24 bits.
 *
 *     240 . n . n . n          fd57:4c37::  nn : nnnn
 *
 * @module
 */
import { IpAddress, Prefix } from "@weir/common";

const NUMBER_BITS = 24n;

/** The prefixes of this node's handles. */
export class HandlePrefixes {
  readonly #prefixes: readonly Prefix[];

  /** @param texts prefixes of either family; empty ones are none @throws {Error} what is no prefix */
  constructor(texts: readonly string[]) {
    this.#prefixes = texts.filter((text) => text !== "").map((text) => Prefix.parse(text));
  }

  /** The number in an address as a socket tells it; undefined where it is no handle's. */
  numberOf(address: string): number | undefined {
    const ip = IpAddress.tryParse(address.replace(/^::ffff:(?=\d+\.)/i, ""));
    const prefix = ip && this.#prefixes.find((one) => one.contains(ip));
    if (ip === undefined || prefix === undefined) return undefined;
    const hostBits = BigInt(ip.bits - prefix.length);
    const bits = hostBits < NUMBER_BITS ? hostBits : NUMBER_BITS;
    const number = Number(ip.toBigInt() & ((1n << bits) - 1n));
    return number === 0 ? undefined : number;
  }
}
