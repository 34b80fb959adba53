/**
 * Which addresses are this node's, as the programs are told: the kernel's own table of what it delivers here, at once after it
 * changed. (For the moment between, and for prefixes, the programs ask the routing tables: lib/local.h.)
 *
 * @module
 */
import { ADDRESS_BROADCAST, ADDRESS_HOST, type Bytes } from "@weir/maps";
import { listAddresses, listLocalAddresses, type NetlinkSocket } from "@weir/net";
import { hex, mapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";

/** Which addresses are this node's, as the programs are told. */
export class LocalAddressStore {
  readonly #parts: { kernel: Kernel; socket: NetlinkSocket };

  constructor(parts: { kernel: Kernel; socket: NetlinkSocket }) {
    this.#parts = parts;
  }

  /** Makes weir_addresses follow the kernel. Endpoints' addresses stay theirs. @param always of the configuration */
  refresh(always: readonly string[]): void {
    const { kernel } = this.#parts;
    const wanted = this.#wanted(always);
    const changed: { address: Bytes; prefixlen: number }[] = [];
    const present = new Map(kernel.addresses.entries().map(([address, owner]) => [hex(address), owner]));
    for (const [key, flags] of wanted) {
      const owner = present.get(key);
      if (owner !== undefined && (owner.endpoint !== 0 || owner.flags === flags)) continue;
      const address = bytesOf(key);
      kernel.addresses.put(address, { endpoint: 0, flags });
      changed.push({ address, prefixlen: 128 });
    }
    for (const [key, owner] of present) {
      if (owner.endpoint !== 0 || owner.flags === 0 || wanted.has(key)) continue;
      const address = bytesOf(key);
      kernel.addresses.delete(address);
      changed.push({ address, prefixlen: 128 });
    }
    kernel.revise(changed);
  }

  #wanted(always: readonly string[]): Map<string, number> {
    const wanted = new Map<string, number>();
    const add = (bytes: Uint8Array, flags: number) => {
      const address = bytes.length === 16 ? bytes : mapped([...bytes].join("."));
      if (!knownByBits(address)) wanted.set(hex(address), flags);
    };
    const { socket } = this.#parts;
    for (const { bytes, broadcast } of listLocalAddresses(socket)) {
      add(bytes, broadcast ? ADDRESS_BROADCAST : ADDRESS_HOST);
    }
    // Of devices that are down, or in tables of their own.
    for (const { bytes } of listAddresses(socket)) add(bytes, ADDRESS_HOST);
    for (const text of always) if (text !== "") add(mapped(text), ADDRESS_HOST);
    return wanted;
  }
}

/** 127.0.0.0/8, ::1, fe80::/10, and groups: the programs need no map for these. */
function knownByBits(address: Uint8Array): boolean {
  const v4 = address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff &&
    address[11] === 0xff;
  if (v4) return address[12] === 127 || address[12] >= 224;
  if (address[0] === 0xff || (address[0] === 0xfe && (address[1] & 0xc0) === 0x80)) return true;
  return address.subarray(0, 15).every((byte) => byte === 0) && address[15] <= 1;
}

function bytesOf(key: string): Bytes {
  return Uint8Array.fromHex(key) as Bytes;
}
