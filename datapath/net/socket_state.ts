/**
 * Sockets of a namespace with what they are at: queues, retransmissions, the cgroup. By sock_diag: `struct inet_diag_msg` and
 * its attributes of linux/inet_diag.h, `struct tcp_info` of linux/tcp.h.
 *
 * @module
 */
import { decodeAttributes, type NetlinkSocket } from "./netlink.ts";
import { decodeInetSocket, type InetSocket } from "./sock_diag.ts";

const SOCK_DIAG_BY_FAMILY = 20;
const REQUEST_BYTES = 56, MESSAGE_BYTES = 72;
const ATTRIBUTE = { INFO: 2, V6ONLY: 11, CGROUP_ID: 21 } as const;
/** Wants `struct tcp_info`. */
const EXTENSION_INFO = 1 << (ATTRIBUTE.INFO - 1);

/** States of sockets as the kernel numbers them (include/net/tcp_states.h); UDP: ESTABLISHED is connected, CLOSE is not. */
export const SOCKET_STATES: readonly string[] = [
  "",
  "ESTABLISHED",
  "SYN_SENT",
  "SYN_RECV",
  "FIN_WAIT1",
  "FIN_WAIT2",
  "TIME_WAIT",
  "CLOSE",
  "CLOSE_WAIT",
  "LAST_ACK",
  "LISTEN",
  "CLOSING",
];

/** What a socket's timer waits for (idiag_timer). */
export const SOCKET_TIMER = { RETRANSMIT: 1, KEEPALIVE: 2, TIME_WAIT: 3, ZERO_WINDOW: 4 } as const;

/** A socket and what it is at. */
export interface SocketState extends InetSocket {
  /** One of {@link SOCKET_TIMER}, 0: none. */
  timer: number;
  /** Bytes that wait to be read. TCP in LISTEN: connections that wait to be accepted. */
  receiveQueue: number;
  /** Bytes that wait to be sent or acknowledged. TCP in LISTEN: how many connections may wait. */
  sendQueue: number;
  /** Of who made it. */
  uid: number;
  inode: number;
  v6only: boolean;
  /** cgroup of who made it; undefined where the kernel does not tell (before 5.8). */
  cgroupId?: bigint;
  tcp?: TcpState;
}

/** Of `struct tcp_info`. */
export interface TcpState {
  /** Times that the oldest segment was sent again, and nothing came. */
  retransmits: number;
  /** Segments sent again since it is open. */
  totalRetransmits: number;
  /** Segments that wait for an acknowledgement. */
  unacked: number;
  /** Path MTU and segment size in bytes. */
  pmtu: number;
  mss: number;
}

/** Which sockets. */
export interface SocketStateQuery {
  /** AF_INET or AF_INET6. */
  family: number;
  /** TCP 6 or UDP 17. */
  protocol: number;
  /** Names of {@link SOCKET_STATES}. */
  states: readonly string[];
  /** Port of this end; default: any. */
  sourcePort?: number;
  /** Fill `tcp`. */
  info?: boolean;
}

/**
 * Sockets of the namespace of `diag`, at most `max` of them: with one more there may be others. A dump that was cut short leaves
 * `diag` of no use.
 * @throws {NetError}
 */
export function readSocketStates(diag: NetlinkSocket, query: SocketStateQuery, max: number): SocketState[] {
  const request = new Uint8Array(REQUEST_BYTES);
  request[0] = query.family;
  request[1] = query.protocol;
  request[2] = query.info ? EXTENSION_INFO : 0;
  const states = query.states.reduce((mask, name) => mask | 1 << SOCKET_STATES.indexOf(name), 0);
  const view = new DataView(request.buffer);
  view.setUint32(4, states, true);
  view.setUint16(8, query.sourcePort ?? 0);
  return diag.dump("list sockets", SOCK_DIAG_BY_FAMILY, request, max)
    .filter((message) => message.length >= MESSAGE_BYTES)
    .map((message) => decodeSocketState(message, query.protocol));
}

/** One answer of the kernel. */
function decodeSocketState(message: Uint8Array, protocol: number): SocketState {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const attributes = decodeAttributes(message.subarray(MESSAGE_BYTES));
  const info = attributes.get(ATTRIBUTE.INFO), cgroup = attributes.get(ATTRIBUTE.CGROUP_ID);
  return {
    ...decodeInetSocket(message, protocol),
    timer: message[2],
    receiveQueue: view.getUint32(56, true),
    sendQueue: view.getUint32(60, true),
    uid: view.getUint32(64, true),
    inode: view.getUint32(68, true),
    v6only: (attributes.get(ATTRIBUTE.V6ONLY)?.[0] ?? 0) !== 0,
    ...(cgroup !== undefined && cgroup.length >= 8
      ? { cgroupId: new DataView(cgroup.buffer).getBigUint64(0, true) }
      : {}),
    ...(info !== undefined && info.length >= 104 ? { tcp: decodeTcpInfo(info) } : {}),
  };
}

function decodeTcpInfo(info: Uint8Array<ArrayBuffer>): TcpState {
  const view = new DataView(info.buffer);
  return {
    retransmits: info[2],
    totalRetransmits: view.getUint32(100, true),
    unacked: view.getUint32(24, true),
    pmtu: view.getUint32(60, true),
    mss: view.getUint32(16, true),
  };
}
