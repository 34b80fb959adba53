/** Routes, marked as Weir's by their protocol number; and fixed neighbours. @module */
import { AF_INET, AF_INET6 } from "./address.ts";
import { gone } from "./link.ts";
import { dumpLocalTable } from "./local.ts";
import {
  type Attribute,
  type Bytes,
  concat,
  decodeAttributes,
  encodeAttributes,
  type NetlinkSocket,
  Nlm,
  Rtm,
  u32,
} from "./netlink.ts";

/** Protocol number of every route that Weir makes: the owner mark ("W"). */
export const ROUTE_PROTOCOL = 87;

const Rta = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, METRICS: 8, TABLE: 15 } as const;
const RTAX_MTU = 2,
  RT_TABLE_LOCAL = 255,
  RT_SCOPE_HOST = 254,
  RTN_LOCAL = 2,
  RT_TABLE_MAIN = 254,
  RT_SCOPE_UNIVERSE = 0,
  RT_SCOPE_LINK = 253,
  RTN_UNICAST = 1,
  RTNH_F_ONLINK = 4;

/** A route. Addresses have 4 or 16 bytes. */
export interface Route {
  destination: Bytes;
  prefixLength: number;
  ifindex: number;
  gateway?: Bytes;
  /** The gateway is on the device although no address says so. */
  onlink?: boolean;
  /** Preferred source address. */
  source?: Bytes;
  mtu?: number;
  /** What it leads to is delivered on this host: of the table "local". */
  local?: boolean;
  /** Default {@link ROUTE_PROTOCOL}. */
  protocol?: number;
}

/** Adds or replaces a route. Repeatable. */
export function putRoute(socket: NetlinkSocket, route: Route): void {
  socket.change("add a route", Rtm.NEWROUTE, Nlm.CREATE | Nlm.REPLACE, encodeRoute(route));
}

/** Deletes a route; false when there is none. */
export function deleteRoute(socket: NetlinkSocket, route: Route): boolean {
  return gone(() => socket.change("delete a route", Rtm.DELROUTE, 0, encodeRoute(route)));
}

/** Routes of the main table, of one protocol number if asked. */
export function listRoutes(socket: NetlinkSocket, protocol?: number): Route[] {
  const found: Route[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const header = new Uint8Array(12);
    header[0] = family;
    for (const payload of socket.dump("list routes", Rtm.GETROUTE, header)) {
      const route = decodeRoute(payload);
      if (route !== undefined && (protocol === undefined || route.protocol === protocol)) found.push(route);
    }
  }
  return found;
}

/** Routes of the table "local", of one protocol number. */
export function listLocalRoutes(socket: NetlinkSocket, protocol = ROUTE_PROTOCOL): Route[] {
  return dumpLocalTable(socket)
    .map((payload) => decodeRoute(payload, true))
    .filter((route) => route !== undefined)
    .filter((route) => route.protocol === protocol);
}

/** The payload of a route request. */
export function encodeRoute(route: Route): Bytes {
  const v4 = route.destination.length === 4;
  const header = new Uint8Array(12);
  header[0] = v4 ? AF_INET : AF_INET6;
  header[1] = route.prefixLength;
  header[4] = route.local ? RT_TABLE_LOCAL : RT_TABLE_MAIN;
  header[5] = route.protocol ?? ROUTE_PROTOCOL;
  header[6] = !v4 || route.gateway !== undefined
    ? RT_SCOPE_UNIVERSE
    : route.local
    ? RT_SCOPE_HOST
    : RT_SCOPE_LINK;
  header[7] = route.local ? RTN_LOCAL : RTN_UNICAST;
  if (route.onlink) new DataView(header.buffer).setUint32(8, RTNH_F_ONLINK, true);
  const attributes: Attribute[] = [[Rta.OIF, u32(route.ifindex)]];
  if (route.prefixLength > 0) attributes.push([Rta.DST, route.destination]);
  if (route.gateway !== undefined) attributes.push([Rta.GATEWAY, route.gateway]);
  if (route.source !== undefined) attributes.push([Rta.PREFSRC, route.source]);
  if (route.mtu !== undefined) attributes.push([Rta.METRICS, [[RTAX_MTU, u32(route.mtu)]]]);
  return concat([header, encodeAttributes(attributes)]);
}

/** A route out of an answer's payload; undefined for other tables, kinds and cached routes. @param local of the table "local" */
export function decodeRoute(payload: Uint8Array, local = false): Route | undefined {
  const RTM_F_CLONED = 0x200;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [table, type] = local ? [RT_TABLE_LOCAL, RTN_LOCAL] : [RT_TABLE_MAIN, RTN_UNICAST];
  if (payload[4] !== table || payload[7] !== type || view.getUint32(8, true) & RTM_F_CLONED) {
    return undefined;
  }
  const attributes = decodeAttributes(payload.subarray(12));
  const oif = attributes.get(Rta.OIF);
  if (oif === undefined) return undefined;
  return {
    destination: attributes.get(Rta.DST) ?? new Uint8Array(payload[0] === AF_INET ? 4 : 16),
    prefixLength: payload[1],
    ifindex: new DataView(oif.buffer).getUint32(0, true),
    gateway: attributes.get(Rta.GATEWAY),
    source: attributes.get(Rta.PREFSRC),
    protocol: payload[5],
    ...(local ? { local } : {}),
  };
}

/** Puts a permanent neighbour: address -> link-layer address. Repeatable. */
export function putNeighbour(socket: NetlinkSocket, ifindex: number, address: Bytes, mac: Bytes): void {
  const NDA_DST = 1, NDA_LLADDR = 2, NUD_PERMANENT = 0x80;
  const header = new Uint8Array(12);
  header[0] = address.length === 4 ? AF_INET : AF_INET6;
  const view = new DataView(header.buffer);
  view.setInt32(4, ifindex, true);
  view.setUint16(8, NUD_PERMANENT, true);
  socket.change(
    `set a neighbour on device ${ifindex}`,
    Rtm.NEWNEIGH,
    Nlm.CREATE | Nlm.REPLACE,
    concat([header, encodeAttributes([[NDA_DST, address], [NDA_LLADDR, mac]])]),
  );
}
