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
import type { SCTPChunkType } from "@weir/proto/flow";

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
  | { kind: "UDP"; sourcePort: number; destinationPort: number }
  /** `chunkType` of the first chunk, where Hubble names it. */
  | { kind: "SCTP"; sourcePort: number; destinationPort: number; chunkType?: SCTPChunkType }
  | { kind: "ICMPv4" | "ICMPv6"; type: number; code: number; mtu?: number; about?: Quoted };

/** The packet that an ICMP error quotes: what somebody could not deliver. */
export interface Quoted {
  destination: string;
  /** 0 where it has none, or it is not quoted. */
  port: number;
}

/** What could be read. */
export interface Packet {
  ip?: { family: 4 | 6; source: string; destination: string; protocol: number };
  transport?: Transport;
}

const ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8;
/** Extension headers that may stand between IPv6 and the transport: hop-by-hop, routing, fragment, destination, AH. */
const EXTENSIONS = new Set([0, 43, 44, 60, 51]);
const EXTENSIONS_MAX = 8;

/** Types of SCTP chunks that Hubble names (RFC 9260, section 3.2). */
const SCTP_CHUNKS: Readonly<Record<number, SCTPChunkType>> = {
  1: "INIT",
  2: "INIT_ACK",
  6: "ABORT",
  7: "SHUTDOWN",
  8: "SHUTDOWN_ACK",
  14: "SHUTDOWN_COMPLETE",
};

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const mac = (b: Uint8Array, at: number) =>
  `${HEX[b[at]]}:${HEX[b[at + 1]]}:${HEX[b[at + 2]]}:${HEX[b[at + 3]]}:${HEX[b[at + 4]]}:${HEX[b[at + 5]]}`;
const u16 = (b: Uint8Array, at: number) => b[at] << 8 | b[at + 1];

/** Texts of IPv4 addresses that were seen last, each at the place that its hash gives: packets are of few addresses, again and again. */
const TEXTS_MAX = 4096;
const textOf = new Uint32Array(TEXTS_MAX);
const texts: string[] = new Array(TEXTS_MAX).fill("0.0.0.0");

function ipv4(b: Uint8Array, at: number): string {
  const number = (b[at] << 24 | b[at + 1] << 16 | b[at + 2] << 8 | b[at + 3]) >>> 0;
  const place = Math.imul(number, 0x9e3779b1) >>> 20;
  if (textOf[place] !== number) {
    textOf[place] = number;
    texts[place] = `${b[at]}.${b[at + 1]}.${b[at + 2]}.${b[at + 3]}`;
  }
  return texts[place];
}

/** Addresses of the frame's own header; undefined: it has none, or it is cut. Nobody needs them before a whole flow is made. */
export function readEthernet(
  bytes: Uint8Array,
  layer: 2 | 3,
): { source: string; destination: string } | undefined {
  return layer === 2 && bytes.length >= 14
    ? { destination: mac(bytes, 0), source: mac(bytes, 6) }
    : undefined;
}

/** Reads a frame, or with `layer: 3` a packet that begins with its IP header. Never throws. */
export function readPacket(bytes: Uint8Array, layer: 2 | 3 = 2): Packet {
  const packet: Packet = {};
  let offset = 0;
  let version = 0;
  if (layer === 2) {
    if (bytes.length < 14) return packet;
    let type = u16(bytes, 12);
    offset = 14;
    for (let tags = 0; tags < 2 && (type === ETHERTYPE_VLAN || type === ETHERTYPE_QINQ); tags++) {
      if (bytes.length < offset + 4) return packet;
      type = u16(bytes, offset + 2);
      offset += 4;
    }
    version = type === ETHERTYPE_IPV4 ? 4 : type === ETHERTYPE_IPV6 ? 6 : 0;
  } else if (bytes.length > 0) {
    version = bytes[0] >> 4;
  }
  if (version === 4) readIpv4(packet, bytes, offset);
  else if (version === 6) readIpv6(packet, bytes, offset);
  return packet;
}

function readIpv4(packet: Packet, bytes: Uint8Array, at: number): void {
  if (bytes.length < at + 20) return;
  const headerBytes = (bytes[at] & 0x0f) * 4;
  const protocol = bytes[at + 9];
  packet.ip = {
    family: 4,
    source: ipv4(bytes, at + 12),
    destination: ipv4(bytes, at + 16),
    protocol,
  };
  const fragmentOffset = u16(bytes, at + 6) & 0x1fff;
  if (headerBytes >= 20 && fragmentOffset === 0) {
    readTransport(packet, bytes, at + headerBytes, protocol);
  }
}

function readIpv6(packet: Packet, bytes: Uint8Array, at: number): void {
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
      if ((u16(bytes, offset + 2) & 0xfff8) !== 0) return;
      offset += 8;
    } else {
      offset += protocol === 51 ? (bytes[offset + 1] + 2) * 4 : (bytes[offset + 1] + 1) * 8;
    }
    protocol = next;
    packet.ip.protocol = protocol;
  }
  readTransport(packet, bytes, offset, protocol);
}

function readTransport(
  packet: Packet,
  bytes: Uint8Array,
  at: number,
  protocol: number,
): void {
  switch (protocol) {
    case 6: {
      if (bytes.length < at + 14) return;
      const f = bytes[at + 13];
      packet.transport = {
        kind: "TCP",
        sourcePort: u16(bytes, at),
        destinationPort: u16(bytes, at + 2),
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
    case 132: {
      if (bytes.length < at + 4) return;
      const sourcePort = u16(bytes, at), destinationPort = u16(bytes, at + 2);
      packet.transport = protocol === 17
        ? { kind: "UDP", sourcePort, destinationPort }
        : { kind: "SCTP", sourcePort, destinationPort };
      const chunkType = protocol === 132 && SCTP_CHUNKS[bytes[at + 12]];
      if (chunkType) packet.transport = { kind: "SCTP", sourcePort, destinationPort, chunkType };
      return;
    }
    case 1:
    case 58:
      if (bytes.length < at + 2) return;
      packet.transport = { kind: protocol === 1 ? "ICMPv4" : "ICMPv6", type: bytes[at], code: bytes[at + 1] };
      if (bytes.length < at + 8) return;
      if (protocol === 1 && bytes[at] === 3 && bytes[at + 1] === 4) {
        packet.transport.mtu = u16(bytes, at + 6);
      }
      if (protocol === 58 && bytes[at] === 2) {
        packet.transport.mtu = u16(bytes, at + 4) * 65536 + u16(bytes, at + 6);
      }
      if (quotes(protocol, bytes[at])) packet.transport.about = quoted(bytes.subarray(at + 8));
  }
}

/** ICMP errors: destination unreachable, packet too big, time exceeded, parameter problem, and source quench. */
function quotes(protocol: number, type: number): boolean {
  return protocol === 1 ? [3, 4, 11, 12].includes(type) : type >= 1 && type <= 4;
}

/** Who a quoted packet was for. Little of it may be there, and of IPv6's extension headers nothing is read. */
function quoted(bytes: Uint8Array): Quoted | undefined {
  const version = bytes.length === 0 ? 0 : bytes[0] >> 4;
  const headerBytes = version === 4 ? (bytes[0] & 0x0f) * 4 : 40;
  if ((version !== 4 && version !== 6) || headerBytes < 20 || bytes.length < headerBytes) return undefined;
  const protocol = bytes[version === 4 ? 9 : 6];
  const hasPort = PORT_PROTOCOLS.has(protocol) && bytes.length >= headerBytes + 4;
  return {
    destination: version === 4 ? ipv4(bytes, 16) : IpAddress.fromBytes(bytes.subarray(24, 40)).text,
    port: hasPort ? (bytes[headerBytes + 2] << 8) | bytes[headerBytes + 3] : 0,
  };
}
const PORT_PROTOCOLS: ReadonlySet<number> = new Set([6, 17, 132]);
