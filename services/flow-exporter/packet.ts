/**
 * The captured head of a packet, read as far as its bytes go. A packet is the peer's data: whatever is truncated or
 * absurd ends the reading, and what was read before stays.
 *
 *     | dst 6 | src 6 | ethertype 2 | IPv4 or IPv6 header | TCP, UDP, SCTP or ICMP header |
 *
 * Formats: RFC 791, 8200, 9293, 768, 9260, 792, 4443.
 * @module
 */
import { IpAddress } from "@weir/common";

/** Flags of a TCP header, by name. */
export interface TcpFlags {
  FIN: boolean;
  SYN: boolean;
  RST: boolean;
  PSH: boolean;
  ACK: boolean;
  URG: boolean;
  ECE: boolean;
  CWR: boolean;
  NS: boolean;
}

/** Transport header. Ports in host order. */
export type Transport =
  | { kind: "TCP"; sourcePort: number; destinationPort: number; flags: TcpFlags }
  | { kind: "UDP" | "SCTP"; sourcePort: number; destinationPort: number }
  | { kind: "ICMPv4" | "ICMPv6"; type: number; code: number };

/** What could be read. */
export interface Packet {
  ethernet?: { source: string; destination: string };
  ip?: { family: 4 | 6; source: string; destination: string; protocol: number };
  transport?: Transport;
}

const ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8;
/** Extension headers that may stand between IPv6 and the transport: hop-by-hop, routing, fragment, destination, AH. */
const EXTENSIONS = new Set([0, 43, 44, 60, 51]);
const EXTENSIONS_MAX = 8;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
// Written out: these two run for every packet that is seen.
const mac = (b: Uint8Array, at: number) =>
  `${HEX[b[at]]}:${HEX[b[at + 1]]}:${HEX[b[at + 2]]}:${HEX[b[at + 3]]}:${HEX[b[at + 4]]}:${HEX[b[at + 5]]}`;
const ipv4 = (b: Uint8Array, at: number) => `${b[at]}.${b[at + 1]}.${b[at + 2]}.${b[at + 3]}`;

/** Reads a frame, or with `layer: 3` a packet that begins with its IP header. Never throws. */
export function readPacket(bytes: Uint8Array, layer: 2 | 3 = 2): Packet {
  const packet: Packet = {};
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  let version = 0;
  if (layer === 2) {
    if (bytes.length < 14) return packet;
    packet.ethernet = { destination: mac(bytes, 0), source: mac(bytes, 6) };
    let type = view.getUint16(12);
    offset = 14;
    for (let tags = 0; tags < 2 && (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ); tags++) {
      if (bytes.length < offset + 4) return packet;
      type = view.getUint16(offset + 2);
      offset += 4;
    }
    version = type === ETHERTYPE_IPV4 ? 4 : type === ETHERTYPE_IPV6 ? 6 : 0;
  } else if (bytes.length > 0) {
    version = bytes[0] >> 4;
  }
  if (version === 4) readIpv4(packet, bytes, view, offset);
  else if (version === 6) readIpv6(packet, bytes, view, offset);
  return packet;
}

function readIpv4(packet: Packet, bytes: Uint8Array, view: DataView, at: number): void {
  if (bytes.length < at + 20) return;
  const headerBytes = (bytes[at] & 0x0f) * 4;
  const protocol = bytes[at + 9];
  packet.ip = {
    family: 4,
    source: ipv4(bytes, at + 12),
    destination: ipv4(bytes, at + 16),
    protocol,
  };
  const fragmentOffset = view.getUint16(at + 6) & 0x1fff;
  if (headerBytes >= 20 && fragmentOffset === 0) {
    readTransport(packet, bytes, view, at + headerBytes, protocol);
  }
}

function readIpv6(packet: Packet, bytes: Uint8Array, view: DataView, at: number): void {
  if (bytes.length < at + 40) return;
  let protocol = bytes[at + 6];
  let offset = at + 40;
  packet.ip = {
    family: 6,
    source: IpAddress.fromBytes(bytes.subarray(at + 8, at + 24)).text,
    destination: IpAddress.fromBytes(bytes.subarray(at + 24, at + 40)).text,
    protocol,
  };
  for (let i = 0; i < EXTENSIONS_MAX && EXTENSIONS.has(protocol); i++) {
    if (bytes.length < offset + 8) return;
    const next = bytes[offset];
    if (protocol === 44) {
      if ((view.getUint16(offset + 2) & 0xfff8) !== 0) return;
      offset += 8;
    } else {
      offset += protocol === 51 ? (bytes[offset + 1] + 2) * 4 : (bytes[offset + 1] + 1) * 8;
    }
    protocol = next;
    packet.ip.protocol = protocol;
  }
  readTransport(packet, bytes, view, offset, protocol);
}

function readTransport(
  packet: Packet,
  bytes: Uint8Array,
  view: DataView,
  at: number,
  protocol: number,
): void {
  switch (protocol) {
    case 6: {
      if (bytes.length < at + 14) return;
      const f = bytes[at + 13];
      packet.transport = {
        kind: "TCP",
        sourcePort: view.getUint16(at),
        destinationPort: view.getUint16(at + 2),
        flags: {
          FIN: (f & 1) !== 0,
          SYN: (f & 2) !== 0,
          RST: (f & 4) !== 0,
          PSH: (f & 8) !== 0,
          ACK: (f & 16) !== 0,
          URG: (f & 32) !== 0,
          ECE: (f & 64) !== 0,
          CWR: (f & 128) !== 0,
          NS: (bytes[at + 12] & 1) !== 0,
        },
      };
      return;
    }
    case 17:
    case 132:
      if (bytes.length < at + 4) return;
      packet.transport = {
        kind: protocol === 17 ? "UDP" : "SCTP",
        sourcePort: view.getUint16(at),
        destinationPort: view.getUint16(at + 2),
      };
      return;
    case 1:
    case 58:
      if (bytes.length < at + 2) return;
      packet.transport = { kind: protocol === 1 ? "ICMPv4" : "ICMPv6", type: bytes[at], code: bytes[at + 1] };
  }
}
