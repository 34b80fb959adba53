/**
 * The two checksums of segments (native protocol 5, section 2.2): CRC24 of a header, CRC32 of a payload.
 * @module
 */

import { crc32 } from "node:zlib";

const CRC24_INIT = 0x875060;
const CRC24_POLYNOMIAL = 0x1974f0b;
/** Bytes before a payload, so that a payload of zeros has no checksum of zero. */
const CRC32_START = crc32(new Uint8Array([0xfa, 0x2d, 0x55, 0xca]));

/** CRC24 of the `length` bytes at `offset`, the first of them first. 24 bits. */
export function crc24(bytes: Uint8Array, offset: number, length: number): number {
  let crc = CRC24_INIT;
  for (let index = offset; index < offset + length; index++) {
    crc ^= bytes[index] << 16;
    for (let bit = 0; bit < 8; bit++) {
      crc <<= 1;
      if ((crc & 0x1000000) !== 0) crc ^= CRC24_POLYNOMIAL;
    }
  }
  return crc;
}

/** CRC32 of a payload, unsigned. */
export function payloadCrc32(payload: Uint8Array): number {
  return crc32(payload, CRC32_START);
}
