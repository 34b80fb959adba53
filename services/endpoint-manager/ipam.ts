/**
 * Addresses of this node's pod CIDRs: handed out round robin, so that a freed address rests before it is used again.
 * @module
 */
import { IpAddress, Prefix } from "@weir/common";

/** The pool has no free address left, or the address that was asked for cannot be had. */
export class IpamError extends Error {
  override readonly name = "IpamError";
  constructor(readonly code: "IPAM_EXHAUSTED" | "IPAM_TAKEN" | "IPAM_OUTSIDE", message: string) {
    super(message);
  }
}

/**
 * One address pool. Never hands out the network address, the gateway (the first host address) or, for IPv4, the
 * broadcast address.
 */
export class PodAddresses {
  readonly prefix: Prefix;
  /** Router address that the endpoints use. */
  readonly gateway: IpAddress;
  readonly #owners = new Map<string, string>();
  readonly #last: bigint;
  #next = 2n;

  /** @param after the address that was given last before a restart; "": none is known */
  constructor(cidr: string, after = "") {
    this.prefix = Prefix.parse(cidr);
    const reserved = this.prefix.family === 4 ? 1n : 0n;
    this.#last = this.prefix.addressCount - 1n - reserved;
    this.gateway = this.prefix.addressAt(1);
    if (this.#last < 2n) {
      throw new IpamError(
        "IPAM_EXHAUSTED",
        `Cannot use pool ${cidr}: it holds no address beside the gateway`,
      );
    }
    const last = IpAddress.tryParse(after);
    if (last === undefined || !this.prefix.contains(last)) return;
    this.lastGiven = after;
    this.#next = this.#after(numberOf(last) - numberOf(this.prefix.address));
  }

  /** The address that was given last; "": none was. */
  lastGiven = "";

  /** Addresses in use. */
  get used(): number {
    return this.#owners.size;
  }

  /** Addresses that can be in use at once. */
  get usableMax(): bigint {
    return this.#last - 1n;
  }

  ownerOf(address: string): string | undefined {
    return this.#owners.get(address);
  }

  /** The next free address, now `owner`'s. @throws {IpamError} IPAM_EXHAUSTED */
  allocate(owner: string): IpAddress {
    if (BigInt(this.#owners.size) >= this.usableMax) {
      throw new IpamError(
        "IPAM_EXHAUSTED",
        `Cannot give ${owner} an address of ${this.prefix}: ${this.#owners.size} of ${this.usableMax} are in use`,
      );
    }
    for (;;) {
      const address = this.prefix.addressAt(this.#next);
      this.#next = this.#after(this.#next);
      if (this.#owners.has(address.text)) continue;
      this.#owners.set(address.text, owner);
      this.lastGiven = address.text;
      return address;
    }
  }

  #after(index: bigint): bigint {
    return index < 1n || index >= this.#last ? 2n : index + 1n;
  }

  /** Takes a certain address; repeatable for one owner. @throws {IpamError} IPAM_TAKEN, IPAM_OUTSIDE */
  claim(address: IpAddress, owner: string): void {
    if (
      !this.prefix.contains(address) || address.equals(this.gateway) || address.equals(this.prefix.address)
    ) {
      throw new IpamError(
        "IPAM_OUTSIDE",
        `Cannot give ${owner} ${address}: it is no endpoint address of ${this.prefix}`,
      );
    }
    const holder = this.#owners.get(address.text);
    if (holder !== undefined && holder !== owner) {
      throw new IpamError("IPAM_TAKEN", `Cannot give ${owner} ${address}: ${holder} has it`);
    }
    this.#owners.set(address.text, owner);
  }

  /** Frees an address if `owner` has it. Repeatable. */
  release(address: string, owner: string): void {
    if (this.#owners.get(address) === owner) this.#owners.delete(address);
  }
}

function numberOf(address: IpAddress): bigint {
  return address.bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

/** Endpoint numbers of a node, 1 to 4094, round robin. */
export class EndpointIds {
  readonly #used = new Set<number>();
  #next = 1;
  /** The one behind it is the host's. */
  static readonly max = 4094;

  get isFull(): boolean {
    return this.#used.size >= EndpointIds.max;
  }

  /** @throws {IpamError} IPAM_EXHAUSTED */
  allocate(): number {
    if (this.isFull) {
      throw new IpamError(
        "IPAM_EXHAUSTED",
        `Cannot add an endpoint: the node holds ${EndpointIds.max} of ${EndpointIds.max}`,
      );
    }
    while (this.#used.has(this.#next)) this.#next = this.#next % EndpointIds.max + 1;
    const id = this.#next;
    this.#next = id % EndpointIds.max + 1;
    this.#used.add(id);
    return id;
  }

  /** Takes a number back after a restart. False when somebody has it. */
  claim(id: number): boolean {
    if (id < 1 || id > EndpointIds.max || this.#used.has(id)) return false;
    this.#used.add(id);
    return true;
  }

  has(id: number): boolean {
    return this.#used.has(id);
  }

  release(id: number): void {
    this.#used.delete(id);
  }
}
