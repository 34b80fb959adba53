/**
 * The least BTF with which the kernel takes a program that has callbacks: it wants a type for every function. All are
 * `static int f(void)`, which promises nothing.
 *
 * @module
 */

const KIND_INT = 1, KIND_FUNC = 12, KIND_FUNC_PROTO = 13;
/** Id of the one function type. */
const FUNCTION = 3;
const INFO_BYTES = 8;

/** The blob for BPF_BTF_LOAD. */
export function functionBtf(): Uint8Array<ArrayBuffer> {
  const strings = new TextEncoder().encode("\0int\0f\0");
  // name, info (kind << 24 | linkage), size or type; an int has a word of encoding
  const words = [1, KIND_INT << 24, 4, 32 | 1 << 24, 0, KIND_FUNC_PROTO << 24, 1, 5, KIND_FUNC << 24, 2];
  const types = words.length * 4;
  const blob = new Uint8Array(24 + types + strings.length), view = new DataView(blob.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  [24, 0, types, types, strings.length].forEach((value, index) => view.setUint32(4 + index * 4, value, true));
  words.forEach((word, index) => view.setUint32(24 + index * 4, word, true));
  blob.set(strings, 24 + types);
  return blob;
}

/** `struct bpf_func_info` of functions that begin at these instruction slots. */
export function functionInfo(
  starts: readonly number[],
): { records: Uint8Array<ArrayBuffer>; recordBytes: number } {
  const view = new DataView(new ArrayBuffer(starts.length * INFO_BYTES));
  starts.forEach((start, index) => {
    view.setUint32(index * INFO_BYTES, start, true);
    view.setUint32(index * INFO_BYTES + 4, FUNCTION, true);
  });
  return { records: new Uint8Array(view.buffer), recordBytes: INFO_BYTES };
}

/** Where the functions of a program begin: at 0, and where calls and function addresses lead. */
export function functionStarts(instructions: Uint8Array<ArrayBuffer>): number[] {
  const view = new DataView(instructions.buffer, instructions.byteOffset, instructions.byteLength);
  const starts = new Set([0]);
  for (let slot = 0; slot < instructions.length / 8; slot++) {
    const opcode = view.getUint8(slot * 8), source = view.getUint8(slot * 8 + 1) >> 4;
    if (opcode === 0x85 && source === 1 || opcode === 0x18 && source === 4) {
      starts.add(slot + 1 + view.getInt32(slot * 8 + 4, true));
    }
    if (opcode === 0x18) slot++;
  }
  return [...starts].sort((a, b) => a - b);
}
