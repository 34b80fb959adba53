/**
 * The sockets of an endpoint, as the kernel has them: what listens where, and connections that are in trouble. Of an endpoint in
 * a network namespace those of the namespace, of a cgroup those of the node that its processes made.
 *
 *     endpoint ─▶ its namespace ─▶ sock_diag ─▶ listening, connections ─▶ /proc: whose they are
 *
 * @module
 */
import { type Clock, IpAddress, ProblemError } from "@weir/common";
import {
  AF_INET,
  AF_INET6,
  NetError,
  Netns,
  openSockDiag,
  readSocketStates,
  SOCKET_STATES,
  SOCKET_TIMER,
  type SocketState,
  type SocketStateQuery,
} from "@weir/net";
import {
  type DatapathEndpoint,
  EndpointSockets,
  ListeningSocket,
  TroubledConnection,
} from "@weir/proto/datapath";
import { readEndpointNetwork } from "./endpoint_network.ts";
import { cgroupIds, cgroupProcesses, namespaceProcesses, socketOwners } from "./socket_owners.ts";

const TCP = 6, UDP = 17;
/** Sockets that are read of each family and protocol, and rows that are answered. */
const READ_MAX = 4096, ROWS_MAX = 256;
/** States in which a connection may be in trouble. */
const CONNECTED = ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "CLOSE_WAIT", "LAST_ACK", "CLOSING"];
/** Longest look for whose sockets they are. */
const OWNERS_MS = 500;

/**
 * Reads the sockets of `endpoint`.
 * @param hostDevice the node's end of its device, where it has one
 * @param gateways of both families; "": none
 * @throws {ProblemError} SOCKETS_NOT_VISIBLE
 */
export async function readEndpointSockets(
  endpoint: DatapathEndpoint,
  hostDevice: string,
  gateways: readonly string[],
  clock: Clock,
): Promise<EndpointSockets> {
  const { name, kind, netns: path, cgroup } = endpoint;
  if (kind === "DEVICE") throw notVisible(name, "it is behind a device, where another kernel may be");
  let found: Found;
  try {
    using netns = kind === "NETNS" ? Netns.open(path) : undefined;
    const network = netns && readEndpointNetwork(netns, endpoint, hostDevice, gateways);
    found = readNamespace(netns, kind === "CGROUP" ? cgroupIds(cgroup) : undefined);
    const deadlineMs = clock.monotonicMs() + OWNERS_MS;
    const pids = netns === undefined
      ? cgroupProcesses(cgroup)
      : namespaceProcesses(netns.inode, clock, deadlineMs);
    const inodes = new Set(found.listening.map(({ inode }) => inode));
    const owners = await socketOwners(inodes, pids, clock, deadlineMs);
    return EndpointSockets.create({
      endpoint: name,
      listening: found.listening.slice(0, ROWS_MAX).map((socket) =>
        ListeningSocket.create({ ...listeningOf(socket), ...owners.get(socket.inode) })
      ),
      connections: found.troubled.slice(0, ROWS_MAX).map(connectionOf),
      established: found.established,
      network,
      truncated: found.truncated || found.listening.length > ROWS_MAX || found.troubled.length > ROWS_MAX,
    });
  } catch (error) {
    if (error instanceof NetError || error instanceof Deno.errors.NotFound) {
      throw notVisible(name, error.message, error);
    }
    throw error;
  }
}

interface Found {
  listening: SocketState[];
  troubled: SocketState[];
  established: number;
  truncated: boolean;
}

/** @param cgroups only sockets that were made there */
function readNamespace(netns: Netns | undefined, cgroups: ReadonlySet<bigint> | undefined): Found {
  let truncated = false;
  const read = (query: SocketStateQuery): SocketState[] => {
    const answer = readSome(netns, query);
    truncated ||= answer.truncated;
    return cgroups === undefined
      ? answer.sockets
      : answer.sockets.filter(({ cgroupId }) => cgroupId !== undefined && cgroups.has(cgroupId));
  };
  const listening: SocketState[] = [], connections: SocketState[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    listening.push(...read({ family, protocol: TCP, states: ["LISTEN"] }));
    listening.push(
      ...read({ family, protocol: UDP, states: ["CLOSE"] }).filter(({ sourcePort }) => sourcePort !== 0),
    );
    connections.push(...read({ family, protocol: TCP, states: CONNECTED, info: true }));
  }
  return {
    listening: listening.sort((a, b) => a.sourcePort - b.sourcePort || a.protocol - b.protocol),
    troubled: connections.filter(isTroubled),
    established: connections.filter(({ state }) => SOCKET_STATES[state] === "ESTABLISHED").length,
    truncated,
  };
}

/** TCP connections of a namespace that are not over. @throws {NetError} */
export function readConnections(netns: Netns): { connections: SocketState[]; truncated: boolean } {
  const answers = [AF_INET, AF_INET6].map((family) =>
    readSome(netns, { family, protocol: TCP, states: CONNECTED, info: true })
  );
  return {
    connections: answers.flatMap(({ sockets }) => sockets),
    truncated: answers.some(({ truncated }) => truncated),
  };
}

function readSome(
  netns: Netns | undefined,
  query: SocketStateQuery,
): { sockets: SocketState[]; truncated: boolean } {
  // One for each question: one that is cut short leaves it of no use.
  using diag = openSockDiag(netns);
  const sockets = readSocketStates(diag, query, READ_MAX);
  return { sockets, truncated: sockets.length > READ_MAX };
}

/** It waits to be opened, or for an acknowledgement so long that it sends again, or for a peer that does not read. */
function isTroubled({ state, timer, tcp }: SocketState): boolean {
  return SOCKET_STATES[state].startsWith("SYN_") || (tcp?.retransmits ?? 0) > 0 ||
    timer === SOCKET_TIMER.ZERO_WINDOW;
}

function listeningOf({ protocol, source, sourcePort, family, receiveQueue, sendQueue, v6only }: SocketState) {
  return {
    protocol: protocol === TCP ? "TCP" : "UDP",
    address: IpAddress.fromBytes(source).text,
    port: sourcePort,
    queue: receiveQueue,
    queueMax: protocol === TCP ? sendQueue : 0,
    v6only: family === AF_INET6 && v6only,
  };
}

function connectionOf(socket: SocketState): TroubledConnection {
  return TroubledConnection.create({
    state: SOCKET_STATES[socket.state],
    address: IpAddress.fromBytes(socket.source).text,
    port: socket.sourcePort,
    peerAddress: IpAddress.fromBytes(socket.destination).text,
    peerPort: socket.destinationPort,
    ...socket.tcp,
    peerReadsNothing: socket.timer === SOCKET_TIMER.ZERO_WINDOW,
  });
}

function notVisible(name: string, why: string, cause?: unknown): ProblemError {
  return new ProblemError("SOCKETS_NOT_VISIBLE", {
    status: 409,
    detail: `Cannot read the sockets of endpoint ${name}: ${why}`,
    found: why,
    expected: "a network namespace or a cgroup of this machine",
    cause,
  });
}
