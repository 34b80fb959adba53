/** Devices: veth pairs, the VXLAN device, aliases (the owner mark), state. @module */
import { NetError } from "./errors.ts";
import {
  type Attribute,
  type Bytes,
  concat,
  decodeAttributes,
  encodeAttributes,
  type NetlinkSocket,
  Nlm,
  Rtm,
  text,
  textOf,
  u32,
} from "./netlink.ts";
import type { Netns } from "./netns.ts";

/** IFLA_* attributes. */
const Ifla = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  IFALIAS: 20,
  XDP: 43,
  AF_SPEC: 26,
  NET_NS_FD: 28,
  EXT_MASK: 29,
  LINK_NETNSID: 37,
} as const;
const IFF_UP = 1, IFF_NOARP = 0x80, IFF_LOOPBACK = 8;
const INFO_KIND = 1, INFO_DATA = 2, VETH_INFO_PEER = 1, IFLA_VLAN_ID = 1;
const AF_INET6 = 10, INET6_ADDR_GEN_MODE = 8, ADDR_GEN_NONE = 1;
const Vxlan = {
  PORT: 15,
  UDP_CSUM: 18,
  UDP_ZERO_CSUM6_TX: 19,
  UDP_ZERO_CSUM6_RX: 20,
  LEARNING: 7,
  COLLECT_METADATA: 25,
};

/** Longest name of a device in characters (IFNAMSIZ less the final NUL). */
export const DEVICE_NAME_CHARS_MAX = 15;

/** A device as the kernel shows it. */
export interface Device {
  ifindex: number;
  name: string;
  /** "aa:bb:cc:dd:ee:ff", "" without a link-layer address. */
  mac: string;
  mtu: number;
  up: boolean;
  loopback: boolean;
  /** Kind, e.g. "veth", "vxlan"; "" for hardware. */
  kind: string;
  alias: string;
  /** Id that this namespace has for the one where the other end is (a veth's), when that is another. */
  peerNetnsId?: number;
  /** Where an XDP program hangs, if one does: in the driver, or behind it. */
  xdp?: "native" | "generic";
  /** Of a VLAN device: the device below, and its number. */
  vlan?: { parent: number; id: number };
}

/** What a new veth pair is to be. */
export interface VethSpec {
  name: string;
  mac: string;
  peerName: string;
  peerMac: string;
  /** Namespace of the peer. */
  netns: Netns;
  mtu: number;
}

/** Creates a veth pair whose peer is born in its namespace. @throws {NetError} name-taken */
export function createVeth(socket: NetlinkSocket, spec: VethSpec): void {
  const peer = concat([
    linkHeader(0),
    encodeAttributes([
      [Ifla.IFNAME, text(spec.peerName)],
      [Ifla.ADDRESS, parseMac(spec.peerMac)],
      [Ifla.MTU, u32(spec.mtu)],
      [Ifla.NET_NS_FD, u32(spec.netns.fd)],
    ]),
  ]);
  create(socket, `create veth ${spec.name} with peer ${spec.peerName} in ${spec.netns.path}`, [
    [Ifla.IFNAME, text(spec.name)],
    [Ifla.ADDRESS, parseMac(spec.mac)],
    [Ifla.MTU, u32(spec.mtu)],
    [Ifla.LINKINFO, [[INFO_KIND, text("veth")], [INFO_DATA, [[VETH_INFO_PEER, peer]]]]],
  ]);
}

/** Creates a VXLAN device whose remote and VNI come with every packet (collect metadata). @throws {NetError} name-taken */
export function createVxlan(
  socket: NetlinkSocket,
  spec: { name: string; port: number; mtu: number; mac: string },
): void {
  const port = new Uint8Array(2);
  new DataView(port.buffer).setUint16(0, spec.port, false);
  const on = Uint8Array.of(1), off = Uint8Array.of(0);
  create(socket, `create VXLAN device ${spec.name}`, [
    [Ifla.IFNAME, text(spec.name)],
    [Ifla.ADDRESS, parseMac(spec.mac)],
    [Ifla.MTU, u32(spec.mtu)],
    [Ifla.LINKINFO, [[INFO_KIND, text("vxlan")], [INFO_DATA, [
      [Vxlan.PORT, port],
      [Vxlan.COLLECT_METADATA, on],
      [Vxlan.LEARNING, off],
      [Vxlan.UDP_CSUM, off],
      [Vxlan.UDP_ZERO_CSUM6_TX, on],
      [Vxlan.UDP_ZERO_CSUM6_RX, on],
    ]]]],
  ]);
}

/** Changes of a device that exists. Absent fields stay. */
export interface DeviceChange {
  up?: boolean;
  /** Without ARP and neighbour discovery: every packet goes to the device's own link-layer address. */
  noarp?: boolean;
  mtu?: number;
  alias?: string;
  mac?: string;
  /** No link-local IPv6 address of the kernel's making; to be set before the device goes up. */
  noLinkLocal?: boolean;
}

/** Changes a device. @throws {NetError} not-found */
export function changeDevice(socket: NetlinkSocket, ifindex: number, change: DeviceChange): void {
  const attributes: Attribute[] = [];
  if (change.mtu !== undefined) attributes.push([Ifla.MTU, u32(change.mtu)]);
  if (change.alias !== undefined) attributes.push([Ifla.IFALIAS, text(change.alias)]);
  if (change.mac !== undefined) attributes.push([Ifla.ADDRESS, parseMac(change.mac)]);
  if (change.noLinkLocal) {
    attributes.push([Ifla.AF_SPEC, [[AF_INET6, [[INET6_ADDR_GEN_MODE, Uint8Array.of(ADDR_GEN_NONE)]]]]]);
  }
  let flags = 0, mask = 0;
  if (change.up !== undefined) {
    mask |= IFF_UP;
    flags |= change.up ? IFF_UP : 0;
  }
  if (change.noarp !== undefined) {
    mask |= IFF_NOARP;
    flags |= change.noarp ? IFF_NOARP : 0;
  }
  const payload = concat([linkHeader(ifindex, flags, mask), encodeAttributes(attributes)]);
  socket.change(`change device ${ifindex}`, Rtm.NEWLINK, 0, payload);
}

/** Deletes a device; false when there is none. A veth takes its peer with it. */
export function deleteDevice(socket: NetlinkSocket, ifindex: number): boolean {
  return gone(() => socket.change(`delete device ${ifindex}`, Rtm.DELLINK, 0, linkHeader(ifindex)));
}

/** The device of that name, undefined when there is none. */
export function findDevice(socket: NetlinkSocket, name: string): Device | undefined {
  if (name.length === 0 || name.length > DEVICE_NAME_CHARS_MAX) return undefined;
  return one(() =>
    socket.get(
      `find device ${name}`,
      Rtm.GETLINK,
      concat([linkHeader(0), encodeAttributes([[Ifla.IFNAME, text(name)]])]),
    )
  );
}

/** The device of that index, undefined when there is none. */
export function deviceAt(socket: NetlinkSocket, ifindex: number): Device | undefined {
  return one(() => socket.get(`find device ${ifindex}`, Rtm.GETLINK, linkHeader(ifindex)));
}

/** All devices of the namespace. */
export function listDevices(socket: NetlinkSocket): Device[] {
  return socket.dump("list devices", Rtm.GETLINK, linkHeader(0)).map(decodeDevice);
}

/** A device out of an answer's payload. */
export function decodeDevice(payload: Uint8Array): Device {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const attributes = decodeAttributes(payload.subarray(16));
  const info = attributes.get(Ifla.LINKINFO);
  const mtu = attributes.get(Ifla.MTU);
  const flags = view.getUint32(8, true);
  return {
    ifindex: view.getInt32(4, true),
    name: textOf(attributes.get(Ifla.IFNAME)),
    mac: formatMac(attributes.get(Ifla.ADDRESS) ?? new Uint8Array(0)),
    mtu: mtu === undefined ? 0 : new DataView(mtu.buffer).getUint32(0, true),
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind: info === undefined ? "" : textOf(decodeAttributes(info).get(INFO_KIND)),
    alias: textOf(attributes.get(Ifla.IFALIAS)),
    ...peerNetnsId(attributes.get(Ifla.LINK_NETNSID)),
    ...xdpMode(attributes.get(Ifla.XDP)),
    ...vlanOf(info, attributes.get(Ifla.LINK)),
  };
}

function vlanOf(info: Uint8Array | undefined, link: Uint8Array | undefined): { vlan?: Device["vlan"] } {
  if (info === undefined || link === undefined) return {};
  const parts = decodeAttributes(info);
  const data = parts.get(INFO_DATA);
  if (textOf(parts.get(INFO_KIND)) !== "vlan" || data === undefined) return {};
  const id = decodeAttributes(data).get(IFLA_VLAN_ID);
  if (id === undefined) return {};
  const number = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { vlan: { parent: number(link).getInt32(0, true), id: number(id).getUint16(0, true) } };
}

/** An s32; negative: it has none. */
function peerNetnsId(bytes?: Uint8Array): { peerNetnsId?: number } {
  const id = bytes && new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  return id !== undefined && id >= 0 ? { peerNetnsId: id } : {};
}

/** IFLA_XDP_ATTACHED: 1 in the driver, 2 behind it. */
function xdpMode(xdp: Uint8Array | undefined): { xdp?: "native" | "generic" } {
  const IFLA_XDP_ATTACHED = 2;
  const attached = xdp && decodeAttributes(xdp).get(IFLA_XDP_ATTACHED)?.[0];
  return attached === 1 ? { xdp: "native" } : attached === 2 ? { xdp: "generic" } : {};
}

/** Bytes of "aa:bb:cc:dd:ee:ff". @throws {NetError} invalid */
export function parseMac(mac: string): Bytes {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) {
    throw new NetError("invalid", `Cannot read MAC address ${mac}`);
  }
  return Uint8Array.from(mac.split(":"), (part) => parseInt(part, 16));
}

/** "aa:bb:cc:dd:ee:ff". */
export function formatMac(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** `struct ifinfomsg`: family, pad, type, index, flags, change. */
function linkHeader(ifindex: number, flags = 0, mask = 0): Bytes {
  const view = new DataView(new ArrayBuffer(16));
  view.setInt32(4, ifindex, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, mask, true);
  return new Uint8Array(view.buffer);
}

function create(socket: NetlinkSocket, action: string, attributes: Attribute[]): void {
  try {
    socket.change(
      action,
      Rtm.NEWLINK,
      Nlm.CREATE | Nlm.EXCL,
      concat([linkHeader(0), encodeAttributes(attributes)]),
    );
  } catch (error) {
    if (error instanceof NetError && error.code === "exists") {
      throw new NetError("name-taken", `Cannot ${action}: the name is taken`, error.errno, { cause: error });
    }
    throw error;
  }
}

function one(ask: () => Bytes[]): Device | undefined {
  try {
    const [found] = ask();
    return found === undefined ? undefined : decodeDevice(found);
  } catch (error) {
    if (error instanceof NetError && error.code === "not-found") return undefined;
    throw error;
  }
}

/** False instead of a "not found" error. */
export function gone(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof NetError && error.code === "not-found") return false;
    throw error;
  }
}
