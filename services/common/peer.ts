/**
 * Who sent a request: the certificate or token of a TCP connection, in terms of the cluster. A request without a peer
 * came over a local unix socket (or from this process) and is trusted, as the socket's mode says.
 * @module
 */
import { ProblemError } from "./problem.ts";

/** Roles that a certificate or a token may name; `anonymous` is whoever showed neither. */
export const PEER_ROLES = ["control-plane", "node", "reader", "admin", "viewer", "anonymous"] as const;
/** One of {@link PEER_ROLES}. */
export type PeerRole = typeof PEER_ROLES[number];

/** Who is at the other end of a TCP connection. */
export interface Peer {
  readonly role: PeerRole;
  /** Name of the node (of a `reader` too), of the person or of the tool; "" for `anonymous`. */
  readonly node: string;
}

/** Facts about the connection that a request came over. */
export interface Connection {
  /** The other end's address, e.g. "10.0.0.7". */
  readonly remoteAddress: string;
  /** When its certificate was issued, Unix milliseconds; absent without one. */
  readonly issuedUnixMs?: number;
}

const peers = new WeakMap<Request, Peer>();
const connections = new WeakMap<Request, Connection>();

/** Tells who sent a request; the listener does, before the handler is called. */
export function setPeer(request: Request, peer: Peer, connection?: Connection): void {
  peers.set(request, peer);
  if (connection !== undefined) connections.set(request, connection);
}

/** Who sent a request; undefined for a local, trusted caller. */
export function peerOf(request: Request): Peer | undefined {
  return peers.get(request);
}

/** The TCP connection of a request; undefined for a unix socket. */
export function connectionOf(request: Request): Connection | undefined {
  return connections.get(request);
}

/** "node node-2", for messages and logs. */
export function peerText(peer: Peer): string {
  return peer.node === "" ? peer.role : `${peer.role} ${peer.node}`;
}

/**
 * Refuses a node that means to change what another node owns. Domain code calls this inside its transaction, where
 * what is stored cannot change any more. Callers that are no node (local, control plane) are not bound by it.
 *
 * @param owner name of the node that owns the object; "" is nobody's, which no node may change
 * @throws {ProblemError} NOT_OWNER, status 403
 */
export function assertOwner(peer: Peer | undefined, owner: string, what: string): void {
  if (peer === undefined || peer.role !== "node" || peer.node === owner) return;
  throw new ProblemError("NOT_OWNER", {
    status: 403,
    detail: `Cannot change ${what} as ${peerText(peer)}: it belongs to ${
      owner === "" ? "no node" : `node ${owner}`
    }`,
    found: owner || "no node",
    expected: peer.node,
    action: "A node changes only what is its own",
  });
}
