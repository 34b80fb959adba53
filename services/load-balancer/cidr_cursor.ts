/**
 * Free addresses of a service CIDR.
 * @module
 */
import { IpAddress, type Prefix } from "@weir/common";

/** Addresses of a service CIDR, in a circle, those for static use (the first 1/16, at most 256) last. */
export class CidrCursor {
  readonly #first: bigint;
  readonly #last: bigint;
  readonly #dynamic: bigint;
  #next: bigint;

  constructor(readonly cidr: Prefix) {
    const start = cidr.address.toBigInt(), size = cidr.addressCount;
    // Neither the network's own address nor IPv4's broadcast address.
    this.#first = size > 2n ? start + 1n : start;
    this.#last = size > 2n && cidr.family === 4 ? start + size - 2n : start + size - 1n;
    const share = size / 16n > 256n ? 256n : size / 16n;
    this.#dynamic = size < 256n ? this.#first : this.#first + share;
    this.#next = this.#dynamic;
  }

  /** Whether the CIDR holds the address. */
  holds(text: string): boolean {
    return this.cidr.contains(IpAddress.parse(text));
  }

  /** The next address that `isTaken` does not know; undefined when all are taken. */
  next(isTaken: (address: string) => boolean): string | undefined {
    const { family } = this.cidr;
    const free = (number: bigint) => {
      const { text } = IpAddress.fromBigInt(number, family);
      return isTaken(text) ? undefined : text;
    };
    const count = this.#last - this.#dynamic + 1n;
    for (let i = 0n; i < count; i++) {
      const found = free(this.#next);
      this.#next = this.#next >= this.#last ? this.#dynamic : this.#next + 1n;
      if (found !== undefined) return found;
    }
    for (let number = this.#first; number < this.#dynamic; number++) {
      const found = free(number);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
