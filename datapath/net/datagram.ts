/**
 * UDP whose packets are never fragmented, with what the kernel knows beside the bytes: the address that a datagram was sent to, how
 * long it has waited, and the ICMP errors that datagrams met (Linux's ip(7), ipv6(7), socket(7)). Nothing here waits.
 *
 * @module
 */
import { AF_INET, AF_INET6 } from "./address.ts";
import { NetError } from "./errors.ts";
import { lastErrno, libc } from "./library.ts";
import { type Bytes, u32 } from "./netlink.ts";

const SOCK_DGRAM = 2, SOCK_CLOEXEC = 0o2000000, SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1, SO_TIMESTAMPNS = 35, CLOCK_REALTIME = 0;
const MSG_TRUNC = 0x20, MSG_CTRUNC = 8, MSG_ERRQUEUE = 0x2000;
const EAGAIN = 11, EINTR = 4, EMSGSIZE = 90;
/** Options by family: level, packet info (asked for; as it comes), MTU discovery, errors. */
const OPTIONS = {
  4: { level: 0, family: AF_INET, wantInfo: 8, info: 8, mtuDiscover: 10, errors: 11 },
  6: { level: 41, family: AF_INET6, wantInfo: 49, info: 50, mtuDiscover: 23, errors: 25 },
} as const;
const IPV6_V6ONLY = 26;
/** IP_PMTUDISC_PROBE: DF is set, and what the kernel has learned about the path does not count. */
const PMTUDISC_PROBE = 3;
const MESSAGE_BYTES = 56, NAME_BYTES = 28, CONTROL_BYTES = 256, CONTROL_HEADER_BYTES = 16;
const DATAGRAM_BYTES_MAX = 65_536;

/** Headers of a UDP packet without options, in bytes. */
export const UDP_HEADERS: Readonly<Record<4 | 6, number>> = { 4: 28, 6: 48 };

/** A datagram that came. Addresses have 4 or 16 bytes. */
export interface Datagram {
  /** Valid until the next call. */
  bytes: Uint8Array;
  /** It was longer than it may be: `bytes` is its beginning. */
  truncated: boolean;
  source: Bytes;
  sourcePort: number;
  /** The address that it was sent to; empty when the kernel did not say. */
  destination: Bytes;
  /** Milliseconds that it has waited to be read; undefined: the machine's clock was set meanwhile, or the kernel did not say. */
  waitedMs: number | undefined;
}

/** What an ICMP error, or the own kernel, says of a datagram that was sent. */
export interface DatagramError {
  /** Beginning of what was sent, as far as the error quotes it; empty when it quotes nothing. */
  bytes: Uint8Array;
  destination: Bytes;
  /** 111: nobody listens at the port; 113, 101: no way there; 90: too big. */
  errno: number;
  /** Bytes of a whole packet that fit, of errno 90; 0: not said. */
  mtu: number;
}

/** A UDP socket of one family on every address. Not for concurrent use. */
export class DatagramSocket implements Disposable {
  #fd: number;
  readonly #options: (typeof OPTIONS)[4 | 6];
  readonly #data = new Uint8Array(DATAGRAM_BYTES_MAX);
  readonly #name = new Uint8Array(NAME_BYTES);
  readonly #control = new Uint8Array(CONTROL_BYTES);
  readonly #vector = new Uint8Array(16);
  readonly #message = new Uint8Array(MESSAGE_BYTES);
  readonly family: 4 | 6;

  /** @throws {NetError} "exists" when the port is in use; "failed" where the kernel does not have the family */
  constructor(family: 4 | 6, port: number) {
    this.family = family;
    this.#options = OPTIONS[family];
    const { level, wantInfo, mtuDiscover, errors } = this.#options;
    this.#fd = libc().socket(this.#options.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (this.#fd < 0) throw NetError.fromErrno("open a datagram socket", lastErrno());
    const options: [number, number, number][] = [
      [level, wantInfo, 1],
      [level, mtuDiscover, PMTUDISC_PROBE],
      [level, errors, 1],
      [SOL_SOCKET, SO_TIMESTAMPNS, 1],
    ];
    if (family === 6) options.push([level, IPV6_V6ONLY, 1]);
    for (const [at, option, value] of options) {
      if (libc().setsockopt(this.#fd, at, option, u32(value), 4) < 0) this.#fail("set up a datagram socket");
    }
    const length = this.#writeName(new Uint8Array(family === 4 ? 4 : 16), port);
    if (libc().bind(this.#fd, this.#name, length) < 0) this.#fail(`listen on UDP port ${port}`);
  }

  /**
   * Sends one datagram.
   * @param source address of this host that it leaves with
   * @returns 0 or the errno: what it means is for the caller to say (90: larger than the device takes)
   */
  send(bytes: Uint8Array, to: { address: Bytes; port: number; source: Bytes }): number {
    const nameLength = this.#writeName(to.address, to.port);
    this.#data.set(bytes);
    const controlLength = this.#writeSource(to.source);
    for (let tries = 0;; tries++) {
      this.#prepare(nameLength, bytes.length, controlLength);
      if (libc().sendmsg(this.#fd, this.#message, 0) >= 0n) return 0;
      const errno = lastErrno();
      // An error of a datagram before is told once, here too: this one has not been sent.
      if (errno === EMSGSIZE || errno === EAGAIN || tries === 3) return errno;
    }
  }

  /** The next datagram; undefined when there is none. */
  receive(): Datagram | undefined {
    for (let tries = 0; tries < 16; tries++) {
      const read = this.#read(0);
      if (typeof read === "number") {
        if (read === EAGAIN) return undefined;
        continue; // an error of one that was sent: errors() has it
      }
      const control = this.#readControl(read.controlLength);
      const { address, port } = this.#readName();
      return {
        bytes: this.#data.subarray(0, read.length),
        truncated: (read.flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0,
        source: address,
        sourcePort: port,
        destination: control.destination,
        waitedMs: control.stampNs === undefined ? undefined : waitedMs(control.stampNs),
      };
    }
    return undefined;
  }

  /** The next error of a datagram that was sent; undefined when there is none. */
  receiveError(): DatagramError | undefined {
    const read = this.#read(MSG_ERRQUEUE);
    if (typeof read === "number") return undefined;
    const { errno, mtu } = this.#readControl(read.controlLength);
    return { bytes: this.#data.subarray(0, read.length), destination: this.#readName().address, errno, mtu };
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }

  #fail(action: string): never {
    const errno = lastErrno();
    this[Symbol.dispose]();
    throw NetError.fromErrno(action, errno);
  }

  #read(flags: number): number | { length: number; flags: number; controlLength: number } {
    while (true) {
      this.#prepare(NAME_BYTES, DATAGRAM_BYTES_MAX, CONTROL_BYTES);
      const length = Number(libc().recvmsg(this.#fd, this.#message, flags));
      const errno = length < 0 ? lastErrno() : 0;
      if (errno === EINTR) continue;
      if (errno !== 0) return errno;
      const view = new DataView(this.#message.buffer);
      return { length, flags: view.getUint32(48, true), controlLength: Number(view.getBigUint64(40, true)) };
    }
  }

  /** `struct msghdr`: name, its length, iovec, their count, control, its length, flags. */
  #prepare(nameLength: number, dataLength: number, controlLength: number): void {
    const vector = new DataView(this.#vector.buffer), view = new DataView(this.#message.buffer);
    vector.setBigUint64(0, pointer(this.#data), true);
    vector.setBigUint64(8, BigInt(dataLength), true);
    view.setBigUint64(0, pointer(this.#name), true);
    view.setUint32(8, nameLength, true);
    view.setBigUint64(16, pointer(this.#vector), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, pointer(this.#control), true);
    view.setBigUint64(40, BigInt(controlLength), true);
    view.setUint32(48, 0, true);
  }

  /** `struct sockaddr_in` or `sockaddr_in6`. */
  #writeName(address: Bytes, port: number): number {
    const view = new DataView(this.#name.buffer);
    this.#name.fill(0);
    view.setUint16(0, this.#options.family, true);
    view.setUint16(2, port);
    this.#name.set(address, address.length === 4 ? 4 : 8);
    return address.length === 4 ? 16 : 28;
  }

  #readName(): { address: Bytes; port: number } {
    const port = new DataView(this.#name.buffer).getUint16(2);
    return { address: this.#name.slice(...(this.family === 4 ? [4, 8] : [8, 24])), port };
  }

  /** `struct in_pktinfo` (index, source, destination) or `in6_pktinfo` (address, index). */
  #writeSource(source: Bytes): number {
    const { level, info } = this.#options, length = this.family === 4 ? 12 : 20;
    const view = new DataView(this.#control.buffer);
    this.#control.fill(0);
    view.setBigUint64(0, BigInt(CONTROL_HEADER_BYTES + length), true);
    view.setInt32(8, level, true);
    view.setInt32(12, info, true);
    this.#control.set(source, CONTROL_HEADER_BYTES + (this.family === 4 ? 4 : 0));
    return CONTROL_HEADER_BYTES + align(length);
  }

  #readControl(
    length: number,
  ): { destination: Bytes; stampNs: bigint | undefined; errno: number; mtu: number } {
    const view = new DataView(this.#control.buffer), { level, info, errors } = this.#options;
    const found = {
      destination: new Uint8Array(0),
      stampNs: undefined as bigint | undefined,
      errno: 0,
      mtu: 0,
    };
    for (let at = 0; at + CONTROL_HEADER_BYTES <= length;) {
      const size = Number(view.getBigUint64(at, true)), data = at + CONTROL_HEADER_BYTES;
      if (size < CONTROL_HEADER_BYTES || at + size > CONTROL_BYTES) break;
      const from = view.getInt32(at + 8, true), type = view.getInt32(at + 12, true);
      if (from === SOL_SOCKET && type === SO_TIMESTAMPNS) {
        found.stampNs = view.getBigInt64(data, true) * 1_000_000_000n + view.getBigInt64(data + 8, true);
      } else if (from === level && type === info) {
        found.destination = this.#control.slice(
          ...(this.family === 4 ? [data + 8, data + 12] : [data, data + 16]),
        );
      } else if (from === level && type === errors) {
        // struct sock_extended_err: errno, origin, type, code, pad, info (of EMSGSIZE the MTU), data
        found.errno = view.getUint32(data, true);
        if (found.errno === EMSGSIZE) found.mtu = view.getUint32(data + 8, true);
      }
      at += align(size);
    }
    return found;
  }
}

function align(length: number): number {
  return (length + 7) & ~7;
}

function pointer(bytes: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}

/** Since the kernel's stamp, which is of the wall clock as well. */
function waitedMs(stampNs: bigint): number | undefined {
  const now = new BigInt64Array(2);
  libc().clock_gettime(CLOCK_REALTIME, new Uint8Array(now.buffer));
  const waited = Number(now[0] * 1_000_000_000n + now[1] - stampNs) / 1e6;
  return waited >= 0 && waited < 3_600_000 ? waited : undefined;
}
