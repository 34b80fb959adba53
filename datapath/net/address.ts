/** Addresses of devices. @module */
import {
  type Bytes,
  concat,
  decodeAttributes,
  encodeAttributes,
  type NetlinkSocket,
  Nlm,
  Rtm,
  u32,
} from "./netlink.ts";

const IFA_ADDRESS = 1, IFA_LOCAL = 2, IFA_FLAGS = 8, IFA_F_NODAD = 2;
/** Address families. */
export const AF_INET = 2, AF_INET6 = 10;

/** An address on a device; `bytes` has 4 or 16. */
export interface DeviceAddress {
  ifindex: number;
  bytes: Bytes;
  prefixLength: number;
  /** 0 global, 253 link, 254 host. */
  scope: number;
}

/** Adds an address, usable at once (no duplicate address detection). Repeatable. */
export function addAddress(socket: NetlinkSocket, ifindex: number, bytes: Bytes, prefixLength: number): void {
  const payload = concat([
    addressHeader(bytes.length, prefixLength, ifindex),
    encodeAttributes([[IFA_LOCAL, bytes], [IFA_ADDRESS, bytes], [IFA_FLAGS, u32(IFA_F_NODAD)]]),
  ]);
  socket.change(`add an address to device ${ifindex}`, Rtm.NEWADDR, Nlm.CREATE | Nlm.REPLACE, payload);
}

/** All addresses of the namespace, or of one device. */
export function listAddresses(socket: NetlinkSocket, ifindex?: number): DeviceAddress[] {
  const found: DeviceAddress[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const header = new Uint8Array(8);
    header[0] = family;
    for (const payload of socket.dump("list addresses", Rtm.GETADDR, header)) {
      const attributes = decodeAttributes(payload.subarray(8));
      const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
      if (bytes === undefined) continue;
      const view = new DataView(payload.buffer, payload.byteOffset);
      found.push({ ifindex: view.getUint32(4, true), bytes, prefixLength: payload[1], scope: payload[3] });
    }
  }
  return ifindex === undefined ? found : found.filter((address) => address.ifindex === ifindex);
}

/** `struct ifaddrmsg`: family, prefixlen, flags, scope, index. */
function addressHeader(bytes: number, prefixLength: number, ifindex: number): Bytes {
  const header = new Uint8Array(8);
  header[0] = bytes === 4 ? AF_INET : AF_INET6;
  header[1] = prefixLength;
  new DataView(header.buffer).setUint32(4, ifindex, true);
  return header;
}

/** Deletes an address; false when there is none. */
export function deleteAddress(
  socket: NetlinkSocket,
  ifindex: number,
  bytes: Bytes,
  prefixLength: number,
): boolean {
  const payload = concat([
    addressHeader(bytes.length, prefixLength, ifindex),
    encodeAttributes([[IFA_LOCAL, bytes], [IFA_ADDRESS, bytes]]),
  ]);
  try {
    socket.change(`delete an address of device ${ifindex}`, Rtm.DELADDR, 0, payload);
    return true;
  } catch (error) {
    // EADDRNOTAVAIL: it is not there.
    if ((error as { errno?: number }).errno === 99 || (error as { code?: string }).code === "not-found") {
      return false;
    }
    throw error;
  }
}
