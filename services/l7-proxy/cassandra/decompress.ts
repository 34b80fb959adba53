/**
 * Decoders of LZ4 blocks and of raw Snappy. Both write at most `want` bytes: what a block begins with can be read before
 * the rest of it is there, and a block that lies about its size makes nothing grow.
 * @module
 */

/** A block that is none. */
export class DecompressError extends Error {
  override name = "DecompressError";
}

/**
 * Decodes an LZ4 block.
 *
 * @param input The block, or its beginning.
 * @param want Bytes of output that are enough; at most the block's plain length.
 * @returns As many bytes as `input` holds, up to `want`. Throws {@link DecompressError}.
 */
export function decompressLz4(input: Uint8Array, want: number): Uint8Array {
  const output = new Uint8Array(want);
  let at = 0;
  let filled = 0;
  while (at < input.length && filled < want) {
    const token = input[at++];
    let literals = token >> 4;
    if (literals === 15) {
      const [length, next] = longLength(input, at, literals);
      if (next < 0) break;
      literals = length;
      at = next;
    }
    const available = Math.min(literals, input.length - at, want - filled);
    copyLiterals(input, at, output, filled, available);
    at += available;
    filled += available;
    // The block ends with literals, or there is no more of it yet.
    if (available < literals || at + 2 > input.length) break;
    const distance = input[at] | (input[at + 1] << 8);
    at += 2;
    let length = token & 15;
    if (length === 15) {
      const [long, next] = longLength(input, at, length);
      if (next < 0) break;
      length = long;
      at = next;
    }
    if (distance === 0 || distance > filled) {
      throw new DecompressError(`LZ4: a copy from ${distance} bytes back, only ${filled} are there`);
    }
    filled = copyMatch(output, filled, distance, Math.min(length + 4, want - filled));
  }
  return output.subarray(0, filled);
}

/** A length that goes on while bytes are 255, and where it ends; -1: beyond the input. */
function longLength(input: Uint8Array, at: number, start: number): [number, number] {
  let length = start;
  for (; at < input.length; at++) {
    length += input[at];
    if (input[at] !== 255) return [length, at + 1];
  }
  return [length, -1];
}

/** Plain length that a raw Snappy block begins with, and where the block goes on. Throws {@link DecompressError}. */
export function snappyLength(input: Uint8Array): { plain: number; at: number } | null {
  let plain = 0;
  for (let at = 0; at < 5; at++) {
    if (at >= input.length) return null;
    plain += (input[at] & 0x7f) * 2 ** (7 * at);
    if (input[at] < 0x80) {
      if (plain > 0x7fffffff) throw new DecompressError(`Snappy: a plain length of ${plain} bytes`);
      return { plain, at: at + 1 };
    }
  }
  throw new DecompressError("Snappy: a plain length without an end");
}

/** Decodes raw Snappy from `at`, behind its length; the rest is as for LZ4. Throws {@link DecompressError}. */
export function decompressSnappy(input: Uint8Array, at: number, want: number): Uint8Array {
  const output = new Uint8Array(want);
  let filled = 0;
  while (at < input.length && filled < want) {
    const tag = input[at];
    const kind = tag & 3;
    if (kind === 0) {
      let length = (tag >> 2) + 1;
      const more = length > 60 ? length - 60 : 0;
      if (at + 1 + more > input.length) break;
      if (more > 0) length = littleEndian(input, at + 1, more) + 1;
      at += 1 + more;
      const available = Math.min(length, input.length - at, want - filled);
      copyLiterals(input, at, output, filled, available);
      at += available;
      filled += available;
      if (available < length) break;
      continue;
    }
    const size = kind === 1 ? 2 : kind === 2 ? 3 : 5;
    if (at + size > input.length) break;
    const length = kind === 1 ? ((tag >> 2) & 7) + 4 : (tag >> 2) + 1;
    const distance = kind === 1 ? ((tag >> 5) << 8) | input[at + 1] : littleEndian(input, at + 1, size - 1);
    if (distance === 0 || distance > filled) {
      throw new DecompressError(`Snappy: a copy from ${distance} bytes back, only ${filled} are there`);
    }
    at += size;
    filled = copyMatch(output, filled, distance, Math.min(length, want - filled));
  }
  return output.subarray(0, filled);
}

function littleEndian(input: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let index = length - 1; index >= 0; index--) value = value * 256 + input[at + index];
  return value;
}

function copyLiterals(
  input: Uint8Array,
  at: number,
  output: Uint8Array,
  filled: number,
  length: number,
): void {
  if (length > 32) output.set(input.subarray(at, at + length), filled);
  else for (let index = 0; index < length; index++) output[filled + index] = input[at + index];
}

/** Copies from the output itself; source and target may overlap, then the source repeats. Returns the new end. */
function copyMatch(output: Uint8Array, filled: number, distance: number, length: number): number {
  if (length > 32 && distance >= length) {
    output.copyWithin(filled, filled - distance, filled - distance + length);
    return filled + length;
  }
  for (let index = 0; index < length; index++) output[filled + index] = output[filled - distance + index];
  return filled + length;
}
