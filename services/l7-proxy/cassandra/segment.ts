/**
 * Segments of native protocol 5, in which envelopes travel once the answer to STARTUP is sent. Little endian.
 *
 *     without compression: | payload length 17, self-contained 1, unused 6  |  CRC24  | payload | CRC32 |
 *     with LZ4:            | compressed 17, plain 17, self-contained 1, unused 5 | CRC24 | payload | CRC32 |
 *
 * A plain length of 0 says that the payload is stored as it is. A self-contained segment holds whole envelopes, another one
 * a piece of a single envelope.
 * @module
 */

import { crc24, payloadCrc32 } from "./checksum.ts";
import { decompressLz4 } from "./decompress.ts";

/** Bytes of a payload, also of its plain form. */
export const SEGMENT_PAYLOAD_BYTES_MAX = 0x1ffff;
const CHECKSUM_BYTES = 4;

/** A segment's header. */
export interface SegmentHeader {
  /** Bytes of the payload as it is sent. */
  readonly payloadBytes: number;
  /** Bytes of what it stands for. */
  readonly plainBytes: number;
  readonly compressed: boolean;
  readonly selfContained: boolean;
  /** Bytes of the whole segment. */
  readonly bytes: number;
}

/** Bytes of a header with its checksum. */
export function segmentHeaderBytes(lz4: boolean): number {
  return lz4 ? 8 : 6;
}

/** Reads the header at `offset`, whose bytes are all there; a text says why it is none. */
export function readSegmentHeader(bytes: Uint8Array, offset: number, lz4: boolean): SegmentHeader | string {
  const length = lz4 ? 5 : 3;
  const sum = bytes[offset + length] | (bytes[offset + length + 1] << 8) | (bytes[offset + length + 2] << 16);
  if (crc24(bytes, offset, length) !== sum) return "a segment's header does not fit its checksum";
  const low = bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16);
  const payloadBytes = low & 0x1ffff;
  if (payloadBytes === 0) return "a segment without a payload";
  const overhead = segmentHeaderBytes(lz4) + CHECKSUM_BYTES;
  if (!lz4) {
    if (low >> 18 !== 0) return "a segment's header with unknown bits";
    const selfContained = (low & 0x20000) !== 0;
    return {
      payloadBytes,
      plainBytes: payloadBytes,
      compressed: false,
      selfContained,
      bytes: payloadBytes + overhead,
    };
  }
  const high = (low >> 17) | (bytes[offset + 3] << 7) | (bytes[offset + 4] << 15);
  if (high >> 18 !== 0) return "a segment's header with unknown bits";
  const plain = high & 0x1ffff;
  return {
    payloadBytes,
    plainBytes: plain === 0 ? payloadBytes : plain,
    compressed: plain !== 0,
    selfContained: (high & 0x20000) !== 0,
    bytes: payloadBytes + overhead,
  };
}

/** The payload as sent of the whole segment at the start of `segment`. */
export function segmentPayload(segment: Uint8Array, header: SegmentHeader): Uint8Array {
  const start = header.bytes - CHECKSUM_BYTES - header.payloadBytes;
  return segment.subarray(start, start + header.payloadBytes);
}

/** Whether a whole segment's payload fits its checksum. */
export function segmentIsIntact(segment: Uint8Array, header: SegmentHeader): boolean {
  const at = header.bytes - CHECKSUM_BYTES;
  const sum = (segment[at] | (segment[at + 1] << 8) | (segment[at + 2] << 16) | (segment[at + 3] << 24)) >>>
    0;
  return payloadCrc32(segmentPayload(segment, header)) === sum;
}

/** The first `want` bytes of what the payload stands for. Throws DecompressError. */
export function plainPayload(
  segment: Uint8Array,
  header: SegmentHeader,
  want = header.plainBytes,
): Uint8Array {
  const payload = segmentPayload(segment, header);
  if (!header.compressed) return payload.subarray(0, want);
  return decompressLz4(payload, Math.min(want, header.plainBytes));
}

/** A self-contained segment around whole envelopes, stored plain; at most {@link SEGMENT_PAYLOAD_BYTES_MAX} bytes. */
export function encodeSegment(payload: Uint8Array, lz4: boolean): Uint8Array<ArrayBuffer> {
  const header = segmentHeaderBytes(lz4);
  const bytes = new Uint8Array(header + payload.length + CHECKSUM_BYTES);
  bytes[0] = payload.length;
  bytes[1] = payload.length >> 8;
  bytes[2] = (payload.length >> 16) | (lz4 ? 0 : 0x02);
  if (lz4) bytes[4] = 0x04;
  const sum = crc24(bytes, 0, header - 3);
  bytes[header - 3] = sum;
  bytes[header - 2] = sum >> 8;
  bytes[header - 1] = sum >> 16;
  bytes.set(payload, header);
  new DataView(bytes.buffer).setUint32(header + payload.length, payloadCrc32(payload), true);
  return bytes;
}
