/**
 * The packet of a probe, the payload of UDP port 7446. A request may be padded with zeros to any size; its answer has no padding, so
 * that it is never larger.
 *
 *     0        4         5      6      7      8        16        24         28        32
 *     | "WRPB" | version | kind | path | zero | nonce  | session | sequence | hold µs |
 *
 * Numbers are big endian. @module
 */

/** Where every datapath listens, on UDP. */
export const PROBE_PORT = 7446;
/** Bytes of a probe without padding. */
export const PROBE_BYTES = 32;

const MAGIC = 0x57525042, VERSION = 1;
const KINDS = [undefined, "request", "answer"] as const, PATHS = [undefined, "POD", "UNDERLAY"] as const;

/** A request, or the answer to it. */
export interface ProbePacket {
  kind: "request" | "answer";
  path: "POD" | "UNDERLAY";
  /** Random; the answer has the request's. */
  nonce: bigint;
  /** Random number of the process that sends this. */
  session: bigint;
  /** Of small requests, by path, from 1 on; 0: not counted. */
  sequence: number;
  /** Of answers: microseconds from the request's arrival to this. */
  holdUs: number;
}

/** @param bytes of the payload, at least {@link PROBE_BYTES} */
export function encodeProbe(packet: ProbePacket, bytes = PROBE_BYTES): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(Math.max(PROBE_BYTES, bytes));
  const view = new DataView(out.buffer);
  view.setUint32(0, MAGIC);
  view.setUint8(4, VERSION);
  view.setUint8(5, KINDS.indexOf(packet.kind));
  view.setUint8(6, PATHS.indexOf(packet.path));
  view.setBigUint64(8, packet.nonce);
  view.setBigUint64(16, packet.session);
  view.setUint32(24, packet.sequence);
  view.setUint32(28, Math.min(0xffff_ffff, Math.max(0, Math.round(packet.holdUs))));
  return out;
}

/** undefined: it is no probe, or of a version that is not known. */
export function decodeProbe(bytes: Uint8Array): ProbePacket | undefined {
  if (bytes.length < PROBE_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = KINDS[view.getUint8(5)], path = PATHS[view.getUint8(6)];
  if (view.getUint32(0) !== MAGIC || view.getUint8(4) !== VERSION || !kind || !path) return undefined;
  return {
    kind,
    path,
    nonce: view.getBigUint64(8),
    session: view.getBigUint64(16),
    sequence: view.getUint32(24),
    holdUs: view.getUint32(28),
  };
}
