/**
 * Whose a connection is, and who gives a place up where all are taken: whoever has the most. So one client alone may have all
 * places but those kept for unix sockets, and loses them one by one as others come.
 * @module
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { X509Certificate } from "node:crypto";
import { IpAddress, isLoopback, Prefix } from "@weir/common";

/** A client as connections are counted for it. */
export interface GrpcPeer {
  /** Names of a certificate, an address, `loopback` or `unix`. */
  readonly name: string;
  /** It came by a unix socket, whose mode says who may. */
  readonly isLocal: boolean;
}

/** A host of IPv6 has this prefix for itself. */
const IPV6_HOST_BITS = 64;
const UNIX: GrpcPeer = { name: "unix", isLocal: true };
/** Its whole 127.0.0.0/8 is anybody's on this machine. */
const LOOPBACK = "loopback";

/** By address, of a socket that may be at its handshake still. */
export function addressPeer({ remoteAddress }: Pick<Socket, "remoteAddress">): GrpcPeer {
  if (remoteAddress === undefined) return UNIX;
  const address = IpAddress.tryParse(remoteAddress.replace(/%.*$/, "").replace(/^::ffff:(?=\d+\.)/, ""));
  if (address === undefined) return { name: remoteAddress, isLocal: false };
  if (isLoopback(address.text)) return { name: LOOPBACK, isLocal: false };
  const name = address.family === 6 ? Prefix.of(address, IPV6_HOST_BITS).text : address.text;
  return { name, isLocal: false };
}

/** By its certificate, where it showed one: several clients may have one address, and one client several. */
export function peerOf(socket: Socket): GrpcPeer {
  const raw = (socket as Partial<TLSSocket>).getPeerCertificate?.(true)?.raw;
  if (raw === undefined) return addressPeer(socket);
  const { subjectAltName, subject } = new X509Certificate(raw);
  return { name: subjectAltName ?? subject, isLocal: false };
}

/** What one client has. */
export interface Share<Id = unknown> {
  readonly name: string;
  readonly count: number;
  readonly newest: Id;
}

/**
 * Whose share gives a place up for `peer`: the greatest, by its newest. Undefined: nobody has two more than it has.
 * @param taken all that have a place, oldest first
 */
export function overShare<Id>(
  taken: Iterable<readonly [Id, GrpcPeer]>,
  peer: GrpcPeer,
): Share<Id> | undefined {
  const shares = new Map<string, Share<Id>>();
  for (const [newest, { name }] of taken) {
    shares.set(name, { name, newest, count: (shares.get(name)?.count ?? 0) + 1 });
  }
  const own = shares.get(peer.name)?.count ?? 0;
  let most: Share<Id> | undefined;
  for (const share of shares.values()) if (share.count > (most?.count ?? own + 1)) most = share;
  return most;
}
