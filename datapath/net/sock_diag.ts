/**
 * Sockets of a namespace by sock_diag: which there are, and ending one from outside. The layouts are `struct
 * inet_diag_req_v2` and `struct inet_diag_msg` of linux/inet_diag.h.
 *
 * @module
 */
import { NetError } from "./errors.ts";
import { type Bytes, NetlinkFamily, NetlinkSocket } from "./netlink.ts";
import type { Netns } from "./netns.ts";

const SOCK_DIAG_BY_FAMILY = 20, SOCK_DESTROY = 21;
const REQUEST_BYTES = 56, MESSAGE_BYTES = 72;
const STATES_ALL = 0xffffffff;
const ENOENT = 2, EOPNOTSUPP = 95;

/** A TCP or UDP socket. Addresses have 4 or 16 bytes, by its family. */
export interface InetSocket {
  family: number;
  protocol: number;
  state: number;
  source: Bytes;
  sourcePort: number;
  destination: Bytes;
  destinationPort: number;
  ifindex: number;
  /** The same number that `bpf_get_socket_cookie` gives. */
  cookie: bigint;
}

/** Which sockets are listed. */
export interface SocketQuery {
  /** AF_INET or AF_INET6. */
  family: number;
  /** TCP 6 or UDP 17. */
  protocol: number;
  /** Port of the other end; default: any. */
  destinationPort?: number;
}

/** A netlink socket for this module. @param netns default: the process's own */
export function openSockDiag(netns?: Netns): NetlinkSocket {
  return new NetlinkSocket(netns, NetlinkFamily.SOCK_DIAG);
}

/** Sockets of the namespace of `diag`. @throws {NetError} */
export function listSockets(diag: NetlinkSocket, query: SocketQuery): InetSocket[] {
  const request = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(request.buffer);
  request[0] = query.family;
  request[1] = query.protocol;
  view.setUint32(4, STATES_ALL, true);
  view.setUint16(10, query.destinationPort ?? 0);
  return diag.dump("list sockets", SOCK_DIAG_BY_FAMILY, request)
    .filter((message) => message.length >= MESSAGE_BYTES)
    .map((message) => decodeInetSocket(message, query.protocol));
}

/**
 * Ends a socket as if its connection had broken: its owner gets ECONNABORTED.
 * @returns false when it was gone already
 * @throws {NetError} `failed` with errno EOPNOTSUPP where the kernel cannot (CONFIG_INET_DIAG_DESTROY)
 */
export function destroySocket(diag: NetlinkSocket, socket: InetSocket): boolean {
  const request = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(request.buffer);
  request[0] = socket.family;
  request[1] = socket.protocol;
  view.setUint32(4, STATES_ALL, true);
  view.setUint16(8, socket.sourcePort);
  view.setUint16(10, socket.destinationPort);
  request.set(socket.source, 12);
  request.set(socket.destination, 28);
  view.setUint32(44, socket.ifindex, true);
  view.setBigUint64(48, socket.cookie, true);
  try {
    diag.change("destroy a socket", SOCK_DESTROY, 0, request);
    return true;
  } catch (error) {
    if (error instanceof NetError && error.errno === ENOENT) return false;
    throw error;
  }
}

/** Whether an error of {@link destroySocket} says that this kernel cannot. */
export function cannotDestroySockets(error: unknown): boolean {
  return error instanceof NetError && error.errno === EOPNOTSUPP;
}

/** One answer of the kernel: the message without its netlink header. */
export function decodeInetSocket(message: Uint8Array, protocol: number): InetSocket {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const family = message[0], bytes = family === 2 ? 4 : 16;
  return {
    family,
    protocol,
    state: message[1],
    sourcePort: view.getUint16(4),
    destinationPort: view.getUint16(6),
    source: message.slice(8, 8 + bytes) as Bytes,
    destination: message.slice(24, 24 + bytes) as Bytes,
    ifindex: view.getUint32(40, true),
    cookie: view.getBigUint64(44, true),
  };
}
