// A register's abstract value: what kind it is, and the number or the variable part of its offset.

export const K_NONE: u8 = 0, K_NUM: u8 = 1, K_CTX: u8 = 2, K_MAP: u8 = 3, K_VALUE: u8 = 4, K_FP: u8 = 5;
export const K_PKT: u8 = 6, K_META: u8 = 7, K_END: u8 = 8, K_SOCK: u8 = 9, K_SKC: u8 = 10, K_TCP: u8 = 11;
export const K_XSK: u8 = 12, K_MEM: u8 = 13, K_BTF: u8 = 14, K_FLOW: u8 = 15, K_FUNC: u8 = 16, K_KEY: u8 = 17;
/// State of an open-coded iterator; only ever in a stack slot. `map`: which one, `off`: which of its words, `ref`: the
/// reference that it is, `flags` F_DRAINED, `size`: how often it went on.
export const K_ITER: u8 = 18;
export const F_DRAINED: u8 = 1;
export const F_NULL: u8 = 1; // may be NULL
export const F_RDONLY: u8 = 2;
export const F_RINGBUF: u8 = 4; // memory of ringbuf_reserve
// pointers to kernel structs: what is known of their lifetime, and where they point
export const F_TRUSTED: u8 = 8, F_RCU: u8 = 16, F_UNTRUSTED: u8 = 32, F_USER: u8 = 64, F_PERCPU: u8 = 128;

/// How a number relates to the value that its id names, `delta` being its `off`: it is value + delta; its low half is that
/// of value + delta and the high half is 0.
export const L_WHOLE: u8 = 0, L_LOW: u8 = 1;

/* 96 bytes. `off` is the fixed part of a pointer's offset; the numbers describe the variable part. `from`: which
 * numbers of the last kept state on this path the number was made of, see relevance.ts. */
@unmanaged
export class Reg {
  kind: u8;
  flags: u8;
  frame: u8; // stack pointers: the frame they point into; numbers with an id: L_WHOLE or L_LOW
  pad: u8;
  off: i32; // numbers with an id: what they are more than the value that it names
  id: u32; // numbers: one value they are made of; nullable pointers: one check serves all; packet: one base
  ref: u32; // acquired reference, 0 none
  map: i32; // index of the map, -1 none; K_FUNC: start of the function; K_BTF: type, 0 something that is no struct
  size: i32; // packet: bytes proved from the base; K_MEM: bytes of the memory; K_NUM: see setLost
  bits: u64;
  unk: u64;
  smin: i64;
  smax: i64;
  umin: u64;
  umax: u64;
  s32min: i32;
  s32max: i32;
  u32min: u32;
  u32max: u32;
  from: u64;
}

export const REG_BYTES: u32 = offsetof<Reg>();
/// Twelve words one by one: a call of memory.copy costs more than they do.
export function copyReg(to: Reg, from: Reg): void {
  const a = changetype<usize>(to), b = changetype<usize>(from);
  store<u64>(a, load<u64>(b));
  store<u64>(a, load<u64>(b, 8), 8);
  store<u64>(a, load<u64>(b, 16), 16);
  store<u64>(a, load<u64>(b, 24), 24);
  store<u64>(a, load<u64>(b, 32), 32);
  store<u64>(a, load<u64>(b, 40), 40);
  store<u64>(a, load<u64>(b, 48), 48);
  store<u64>(a, load<u64>(b, 56), 56);
  store<u64>(a, load<u64>(b, 64), 64);
  store<u64>(a, load<u64>(b, 72), 72);
  store<u64>(a, load<u64>(b, 80), 80);
  store<u64>(a, load<u64>(b, 88), 88);
}

/// The number is made of no other's value any more.
export function unlink(r: Reg): void {
  r.id = 0;
  r.off = 0;
  r.frame = L_WHOLE;
}

export function noBounds(r: Reg): void {
  r.bits = 0;
  r.unk = u64.MAX_VALUE;
  r.smin = i64.MIN_VALUE;
  r.smax = i64.MAX_VALUE;
  r.umin = 0;
  r.umax = u64.MAX_VALUE;
  r.s32min = i32.MIN_VALUE;
  r.s32max = i32.MAX_VALUE;
  r.u32min = 0;
  r.u32max = u32.MAX_VALUE;
}

export function setKind(r: Reg, kind: u8): void {
  const a = changetype<usize>(r);
  store<u64>(a, kind);
  store<u64>(a, 0, 8);
  store<u64>(a, 0xffffffff, 16); // map -1, size 0
  store<u64>(a, 0, 24);
  store<u64>(a, 0, 32);
  store<u64>(a, 0, 40);
  store<u64>(a, 0, 48);
  store<u64>(a, 0, 56);
  store<u64>(a, 0, 64);
  store<u64>(a, 0, 72);
  store<u64>(a, 0, 80);
  store<u64>(a, 0, 88);
}

export function setUnknown(r: Reg): void {
  head(r);
  noBounds(r);
}

/// All of a plain number made of nothing but its bounds, which are set after.
function head(r: Reg): void {
  const a = changetype<usize>(r);
  store<u64>(a, K_NUM);
  store<u64>(a, 0, 8);
  store<u64>(a, 0xffffffff, 16);
  r.from = 0;
}

/// A pointer that is a number from now on because of instruction `insn`; explanations say so, nothing rests on it.
export function setLost(r: Reg, insn: i32): void {
  setUnknown(r);
  r.size = insn + 1;
}

export function setValue(r: Reg, v: u64): void {
  r.bits = v;
  r.unk = 0;
  r.smin = r.smax = <i64> v;
  r.umin = r.umax = v;
  r.s32min = r.s32max = <i32> v;
  r.u32min = r.u32max = <u32> v;
}

export function setConst(r: Reg, v: u64): void {
  head(r);
  setValue(r, v);
}

export function isConst(r: Reg): bool {
  return r.unk == 0;
}
