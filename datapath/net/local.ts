/** What the kernel delivers on this host: the routing table "local", and what happens to it. @module */
import { AF_INET, AF_INET6 } from "./address.ts";
import { NetError } from "./errors.ts";
import { lastErrno, libc } from "./library.ts";
import {
  type Bytes,
  concat,
  decodeAttributes,
  encodeAttributes,
  type NetlinkSocket,
  Rtm,
  u32,
} from "./netlink.ts";

const RT_TABLE_LOCAL = 255, RTA_DST = 1, RTA_TABLE = 15;
const RTN_LOCAL = 2, RTN_BROADCAST = 3, RTN_ANYCAST = 4;
/** `RTMGRP_*`: changes of addresses and routes of both families. */
const GROUPS = 0x10 | 0x40 | 0x100 | 0x400;
const AF_NETLINK = 16, SOCK_RAW = 3, SOCK_CLOEXEC = 0o2000000, SOCK_NONBLOCK = 0o4000;
const POLLIN = 1, EAGAIN = 11, EINTR = 4, ENOBUFS = 105;
const POLL_MS = 250, RECEIVE_BYTES = 1 << 16, HEADER_BYTES = 16;

/** An address that packets to are delivered here: one of the host's, or the broadcast address of one of its networks. */
export interface LocalAddress {
  /** 4 or 16. */
  bytes: Bytes;
  broadcast: boolean;
}

/** The kernel's routes of the table "local", both families; payloads begin with struct rtmsg. */
export function dumpLocalTable(socket: NetlinkSocket): Bytes[] {
  return [AF_INET, AF_INET6].flatMap((family) => {
    const header = new Uint8Array(12);
    header[0] = family;
    const request = concat([header, encodeAttributes([[RTA_TABLE, u32(RT_TABLE_LOCAL)]])]);
    try {
      return socket.dump("list local routes", Rtm.GETROUTE, request);
    } catch (error) {
      // A host without IPv6 has no such table.
      if (family === AF_INET6 && error instanceof NetError) return [];
      throw error;
    }
  });
}

/** Single addresses of the table "local". (Prefixes of it, such as 127.0.0.0/8, are left out.) */
export function listLocalAddresses(socket: NetlinkSocket): LocalAddress[] {
  const found: LocalAddress[] = [];
  for (const payload of dumpLocalTable(socket)) {
    const type = payload[7];
    if (
      payload[4] !== RT_TABLE_LOCAL ||
      (type !== RTN_LOCAL && type !== RTN_BROADCAST && type !== RTN_ANYCAST)
    ) continue;
    const bytes = decodeAttributes(payload.subarray(12)).get(RTA_DST);
    if (bytes === undefined || payload[1] !== bytes.length * 8) continue;
    found.push({ bytes, broadcast: type === RTN_BROADCAST });
  }
  return found;
}

/** Says whenever the host got or lost an address, or its table "local" changed. */
export class LocalWatcher implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  #closed = false;
  readonly #onChange: () => void;

  /** @param onChange after the kernel has changed, once for what came together; what it throws is its own */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#fd = libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (this.#fd < 0) throw NetError.fromErrno("open a netlink socket", lastErrno());
    const own = new Uint8Array(12); // struct sockaddr_nl: family, pad, port (0: the kernel chooses), groups
    const view = new DataView(own.buffer);
    view.setUint16(0, AF_NETLINK, true);
    view.setUint32(8, GROUPS, true);
    if (libc().bind(this.#fd, own, own.length) < 0) {
      const errno = lastErrno();
      libc().close(this.#fd);
      throw NetError.fromErrno("watch addresses", errno);
    }
    this.#watch();
  }

  /** No call of `onChange` after this. The socket is closed when the wait that is under way has ended. */
  [Symbol.dispose](): void {
    this.#closed = true;
  }

  async #watch(): Promise<void> {
    const wanted = new Uint8Array(8); // struct pollfd
    const view = new DataView(wanted.buffer);
    view.setInt32(0, this.#fd, true);
    view.setInt16(4, POLLIN, true);
    while (!this.#closed) {
      // On a thread of its own; it ends by itself, so that closing needs no wake-up.
      await libc().poll(wanted, 1n, POLL_MS);
      if (!this.#closed && this.#take()) this.#onChange();
    }
    libc().close(this.#fd);
  }

  /** Reads what there is. True when something of it concerns local delivery. */
  #take(): boolean {
    let changed = false;
    while (true) {
      const size = Number(libc().recv(this.#fd, this.#buffer, BigInt(this.#buffer.length), 0));
      if (size <= 0) {
        const errno = size < 0 ? lastErrno() : EAGAIN;
        if (errno === EINTR) continue;
        // Some were lost: whatever they said.
        if (errno !== ENOBUFS) return changed;
        changed = true;
        continue;
      }
      changed = concernsLocal(this.#buffer.subarray(0, size)) || changed;
    }
  }
}

/** Is an address or a route of the table "local" among these messages, other than of one link alone? */
export function concernsLocal(messages: Uint8Array): boolean {
  const view = new DataView(messages.buffer, messages.byteOffset, messages.byteLength);
  for (let at = 0; at + HEADER_BYTES <= messages.length;) {
    const length = view.getUint32(at, true), type = view.getUint16(at + 4, true);
    if (length < HEADER_BYTES || at + length > messages.length) return true; // torn: rather once too often
    const payload = messages.subarray(at + HEADER_BYTES, at + length);
    if (type === Rtm.NEWADDR || type === Rtm.DELADDR) {
      if (!isLinkLocal(payload[0], decodeAttributes(payload.subarray(8)).get(1))) return true;
    } else if ((type === Rtm.NEWROUTE || type === Rtm.DELROUTE) && payload[4] === RT_TABLE_LOCAL) {
      if (!isLinkLocal(payload[0], decodeAttributes(payload.subarray(12)).get(RTA_DST))) return true;
    }
    at += (length + 3) & ~3;
  }
  return false;
}

/** fe80::/10 and ff00::/8: every device that comes up has them, and the programs know them by their bits. */
function isLinkLocal(family: number, bytes: Uint8Array | undefined): boolean {
  return family === AF_INET6 && bytes !== undefined &&
    (bytes[0] === 0xff || (bytes[0] === 0xfe && (bytes[1] & 0xc0) === 0x80));
}
