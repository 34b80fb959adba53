/**
 * rtnetlink: requests of one message, answered at once by the kernel. Building and reading of messages are pure.
 *
 *     | u32 length | u16 type | u16 flags | u32 sequence | u32 port | family header | attributes: u16 length, u16 type, bytes, pad 4 |
 *
 * @module
 */
import { NetError } from "./errors.ts";
import { lastErrno, libc } from "./library.ts";
import type { Netns } from "./netns.ts";

/** Bytes that own their buffer. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Message types of rtnetlink. */
export const Rtm = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
} as const;

/** Flags of requests. */
export const Nlm = {
  REQUEST: 1,
  ACK: 4,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
} as const;

const HEADER_BYTES = 16, NLMSG_ERROR = 2, NLMSG_DONE = 3;
const AF_NETLINK = 16, SOCK_RAW = 3, SOCK_CLOEXEC = 0o2000000;
/** What a netlink socket talks to. */
export const NetlinkFamily = { ROUTE: 0, SOCK_DIAG: 4 } as const;
const SOL_NETLINK = 270, NETLINK_EXT_ACK = 11, NETLINK_GET_STRICT_CHK = 12;
const SOL_SOCKET = 1, SO_RCVTIMEO = 20;
const RECEIVE_BYTES = 1 << 17;
const NLA_TYPE_MASK = 0x3fff, NLA_NESTED = 0x8000;

/** One attribute; a value of attributes is nested. */
export type Attribute = readonly [type: number, value: Bytes | readonly Attribute[]];

/** Attributes as bytes. */
export function encodeAttributes(attributes: readonly Attribute[]): Bytes {
  const parts = attributes.map(([type, value]) => {
    const nested = !(value instanceof Uint8Array);
    const bytes = nested ? encodeAttributes(value) : value;
    const part = new Uint8Array(align(4 + bytes.length));
    const view = new DataView(part.buffer);
    view.setUint16(0, 4 + bytes.length, true);
    view.setUint16(2, nested ? type | NLA_NESTED : type, true);
    part.set(bytes, 4);
    return part;
  });
  return concat(parts);
}

/** Attributes by type; of a type that occurs twice the last one. Stops at what does not fit. */
export function decodeAttributes(bytes: Uint8Array): Map<number, Bytes> {
  const found = new Map<number, Bytes>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    found.set(view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.slice(at + 4, at + length) as Bytes);
    at += align(length);
  }
  return found;
}

/** A whole request. */
export function encodeMessage(type: number, flags: number, sequence: number, payload: Uint8Array): Bytes {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** 32 bits in the machine's order. */
export function u32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Zero-terminated text. */
export function text(value: string): Bytes {
  return new TextEncoder().encode(value + "\0") as Bytes;
}

/** Text of an attribute. */
export function textOf(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return "";
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Joins parts. */
export function concat(parts: readonly Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A netlink socket in one namespace. Not for concurrent use: each request is answered before the next. */
export class NetlinkSocket implements Disposable {
  #fd: number;
  #sequence = 1;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);

  /**
   * @param netns where it is opened; default: the process's own
   * @param family of {@link NetlinkFamily}; default: rtnetlink
   */
  constructor(netns?: Netns, family: number = NetlinkFamily.ROUTE) {
    const open = () => libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    this.#fd = netns === undefined ? open() : netns.enter(open);
    if (this.#fd < 0) throw NetError.fromErrno("open a netlink socket", lastErrno());
    libc().setsockopt(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, u32(1), 4);
    libc().setsockopt(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, u32(1), 4);
    const timeout = new Uint8Array(new BigInt64Array([5n, 0n]).buffer); // never hang on a kernel that says nothing
    libc().setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, 16);
  }

  /** Sends a change and waits for the kernel's answer. @throws {NetError} whose message begins "Cannot <action>" */
  change(action: string, type: number, flags: number, payload: Uint8Array): void {
    this.#exchange(action, type, Nlm.REQUEST | Nlm.ACK | flags, payload);
  }

  /** Asks for one object. Answers the payloads (family header and attributes). */
  get(action: string, type: number, payload: Uint8Array): Bytes[] {
    return this.#exchange(action, type, Nlm.REQUEST | Nlm.ACK, payload);
  }

  /** Asks for all objects. Where there are more than `max` it stops soon after them, and the socket is of no use any more. */
  dump(action: string, type: number, payload: Uint8Array, max: number = Infinity): Bytes[] {
    return this.#exchange(action, type, Nlm.REQUEST | Nlm.DUMP, payload, max);
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc().close(this.#fd);
    this.#fd = -1;
  }

  #exchange(
    action: string,
    type: number,
    flags: number,
    payload: Uint8Array,
    max: number = Infinity,
  ): Bytes[] {
    const sequence = this.#sequence++;
    const request = encodeMessage(type, flags, sequence, payload);
    if (libc().send(this.#fd, request, BigInt(request.length), 0) < 0n) {
      throw NetError.fromErrno(action, lastErrno());
    }
    const answers: Bytes[] = [];
    while (true) {
      const size = Number(libc().recv(this.#fd, this.#buffer, BigInt(this.#buffer.length), 0));
      if (size < 0) throw NetError.fromErrno(action, lastErrno());
      const view = new DataView(this.#buffer.buffer, 0, size);
      for (let at = 0; at + HEADER_BYTES <= size;) {
        const length = view.getUint32(at, true), kind = view.getUint16(at + 4, true);
        if (length < HEADER_BYTES || at + length > size) {
          throw new NetError("failed", `Cannot ${action}: torn answer`);
        }
        if (view.getUint32(at + 8, true) === sequence) {
          if (kind === NLMSG_DONE) return answers;
          if (kind === NLMSG_ERROR) {
            const errno = -view.getInt32(at + HEADER_BYTES, true);
            if (errno === 0) return answers;
            throw NetError.fromErrno(action, errno, kernelMessage(this.#buffer.subarray(at, at + length)));
          }
          answers.push(this.#buffer.slice(at + HEADER_BYTES, at + length));
        }
        at += align(length);
      }
      if (answers.length > max) return answers;
    }
  }
}

/** The text that the kernel adds to an error (NLMSGERR_ATTR_MSG), "" when there is none. */
function kernelMessage(message: Uint8Array): string {
  const NLM_F_CAPPED = 0x100, NLM_F_ACK_TLVS = 0x200, MSG = 1;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const flags = view.getUint16(6, true);
  if ((flags & NLM_F_ACK_TLVS) === 0) return "";
  const echoed = (flags & NLM_F_CAPPED) !== 0 ? HEADER_BYTES : view.getUint32(HEADER_BYTES + 4, true);
  return textOf(decodeAttributes(message.slice(HEADER_BYTES + 4 + align(echoed))).get(MSG));
}

function align(bytes: number): number {
  return (bytes + 3) & ~3;
}
