/**
 * Packets, made byte by byte with right checksums and lengths, so that a test can then spoil exactly one thing.
 * @module
 */
export type Bytes = Uint8Array<ArrayBuffer>;

export const ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58, SCTP = 132;
export const FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16;

export function macBytes(text: string): Bytes {
  return Uint8Array.from(text.split(":"), (part) => parseInt(part, 16));
}
function ipv4Bytes(text: string): number[] {
  return text.split(".").map(Number);
}
export function ipv4Number(text: string): number {
  return new DataView(Uint8Array.from(ipv4Bytes(text)).buffer).getUint32(0);
}
export function ipv6Bytes(text: string): number[] {
  const [head, tail] = text.split("::");
  const words = (part: string | undefined) => part ? part.split(":").map((word) => parseInt(word, 16)) : [];
  const left = words(head), right = words(tail);
  const all = [...left, ...Array(8 - left.length - right.length).fill(0), ...right];
  return all.flatMap((word) => [word >> 8, word & 255]);
}
/** 16 bytes, v4 mapped. */
export function address(text: string): Bytes {
  return Uint8Array.from(
    text.includes(":") ? ipv6Bytes(text) : [...Array(10).fill(0), 255, 255, ...ipv4Bytes(text)],
  );
}
export function be16(value: number): number[] {
  return [value >> 8 & 255, value & 255];
}
export function be32(value: number): number[] {
  return [...be16(value >>> 16), ...be16(value & 0xffff)];
}
/** Ones' complement sum of the internet's checksums. */
export function checksum(...parts: ArrayLike<number>[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += part[i] << 8 | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export interface PacketSpec {
  from: string;
  to: string;
  protocol?: number;
  sport?: number;
  dport?: number;
  flags?: number;
  seq?: number;
  /** ICMP type, code and id. */
  type?: number;
  code?: number;
  id?: number;
  payload?: ArrayLike<number>;
  ttl?: number;
  /** Whole upper layer, instead of one made from the fields above. */
  upper?: ArrayLike<number>;
  /** IPv4 options (a multiple of 4) or IPv6 extension headers (the last says what follows). */
  options?: number[];
  nextHeader?: number;
  /** IPv4: fragment field and datagram id. */
  fragment?: number;
  datagram?: number;
  macTo?: string;
  macFrom?: string;
}

function upperLayer(spec: PacketSpec, protocol: number, pseudo: number[]): number[] {
  if (spec.upper) return Array.from(spec.upper);
  const payload = Array.from(spec.payload ?? []);
  const ports = [...be16(spec.sport ?? 40000), ...be16(spec.dport ?? 80)];
  let bytes: number[], at: number;
  switch (protocol) {
    case TCP:
      bytes = [
        ...ports,
        ...be32(spec.seq ?? 1000),
        ...be32(2000),
        0x50,
        spec.flags ?? SYN,
        ...be16(65535),
        0,
        0,
        0,
        0,
        ...payload,
      ];
      at = 16;
      break;
    case UDP:
      bytes = [...ports, ...be16(8 + payload.length), 0, 0, ...payload];
      at = 6;
      break;
    case SCTP:
      return [...ports, ...be32(1), ...be32(0), ...payload];
    case ICMP:
    case ICMPV6:
      bytes = [
        spec.type ?? (protocol === ICMP ? 8 : 128),
        spec.code ?? 0,
        0,
        0,
        ...be16(spec.id ?? 7),
        0,
        1,
        ...payload,
      ];
      at = 2;
      if (protocol === ICMP) pseudo = [];
      break;
    default:
      return payload;
  }
  const head = pseudo.length ? [...pseudo, ...be32(bytes.length), 0, 0, 0, protocol] : [];
  const sum = checksum(head, bytes);
  bytes[at] = sum >> 8;
  bytes[at + 1] = sum & 255;
  return bytes;
}

/** The packet from its IP header on. */
export function ipPacket(spec: PacketSpec): Bytes {
  const v6 = spec.to.includes(":");
  const protocol = spec.protocol ?? TCP;
  const options = spec.options ?? [];
  const ends = v6
    ? [...ipv6Bytes(spec.from), ...ipv6Bytes(spec.to)]
    : [...ipv4Bytes(spec.from), ...ipv4Bytes(spec.to)];
  const upper = upperLayer(spec, protocol, ends);
  if (v6) {
    const length = options.length + upper.length;
    return Uint8Array.from([
      0x60,
      0,
      0,
      0,
      ...be16(length),
      spec.nextHeader ?? protocol,
      spec.ttl ?? 64,
      ...ends,
      ...options,
      ...upper,
    ]);
  }
  const header = [
    0x40 | (5 + options.length / 4),
    0,
    ...be16(20 + options.length + upper.length),
    ...be16(spec.datagram ?? 1),
    ...be16(spec.fragment ?? 0),
    spec.ttl ?? 64,
    protocol,
    0,
    0,
    ...ends,
    ...options,
  ];
  const sum = checksum(header);
  header[10] = sum >> 8;
  header[11] = sum & 255;
  return Uint8Array.from([...header, ...upper]);
}

/** The packet as a frame. */
export function packet(spec: PacketSpec): Bytes {
  const type = spec.to.includes(":") ? 0x86dd : 0x0800;
  return Uint8Array.from([
    ...macBytes(spec.macTo ?? "02:00:00:00:02:01"),
    ...macBytes(spec.macFrom ?? "02:00:00:00:01:01"),
    ...be16(type),
    ...ipPacket(spec),
  ]);
}

/** Recomputes the IPv4 header's checksum after something in it was spoiled. */
export function fixIpv4(frame: Bytes, l3 = 14): Bytes {
  const length = (frame[l3] & 15) * 4;
  frame[l3 + 10] = frame[l3 + 11] = 0;
  const sum = checksum(frame.subarray(l3, l3 + length));
  frame[l3 + 10] = sum >> 8;
  frame[l3 + 11] = sum & 255;
  return frame;
}

/** True when the IPv4 header's checksum is right. */
export function ipv4ChecksumRight(frame: Bytes, l3 = 14): boolean {
  return checksum(frame.subarray(l3, l3 + (frame[l3] & 15) * 4)) === 0;
}

export interface ArpSpec {
  operation: number;
  senderMac: string;
  sender: string;
  targetMac?: string;
  target: string;
}
export function arp(spec: ArpSpec): Bytes {
  return Uint8Array.from([
    ...Array(6).fill(255),
    ...macBytes(spec.senderMac),
    ...be16(0x0806),
    ...be16(1),
    ...be16(0x0800),
    6,
    4,
    ...be16(spec.operation),
    ...macBytes(spec.senderMac),
    ...ipv4Bytes(spec.sender),
    ...macBytes(spec.targetMac ?? "00:00:00:00:00:00"),
    ...ipv4Bytes(spec.target),
  ]);
}
