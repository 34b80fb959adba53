/** The few instructions that probing programs are made of. @module */

/** One instruction: 8 bytes. */
export type Instruction = readonly [
  opcode: number,
  dst: number,
  src: number,
  offset: number,
  immediate: number,
];

const SIZE_BITS: Record<number, number> = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };

export const moveImmediate = (dst: number, value: number): Instruction => [0xb7, dst, 0, 0, value];
export const move = (dst: number, src: number): Instruction => [0xbf, dst, src, 0, 0];
export const addImmediate = (dst: number, value: number): Instruction => [0x07, dst, 0, 0, value];
export const load = (bytes: number, dst: number, src: number, offset: number): Instruction => [
  0x61 | SIZE_BITS[bytes],
  dst,
  src,
  offset,
  0,
];
export const store = (bytes: number, dst: number, src: number, offset: number): Instruction => [
  0x63 | SIZE_BITS[bytes],
  dst,
  src,
  offset,
  0,
];
export const call = (helper: number): Instruction => [0x85, 0, 0, 0, helper];
export const exit: Instruction = [0x95, 0, 0, 0, 0];

/** `dst = map`, two slots; with `value` the address of the map's first value instead. */
export const loadMap = (dst: number, fd: number, value = false): Instruction[] => [
  [0x18, dst, value ? 2 : 1, 0, fd],
  [0, 0, 0, 0, 0],
];

/** The bytes of a program. */
export function encode(instructions: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(instructions.length * 8));
  instructions.forEach(([opcode, dst, src, offset, immediate], index) => {
    view.setUint8(index * 8, opcode);
    view.setUint8(index * 8 + 1, dst | src << 4);
    view.setInt16(index * 8 + 2, offset, true);
    view.setInt32(index * 8 + 4, immediate, true);
  });
  return new Uint8Array(view.buffer);
}
