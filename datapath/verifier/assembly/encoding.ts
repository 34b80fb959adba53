// Encoding: which opcodes there are and which of their fields are in use.
import * as E from "./gen/codes";
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_JMP,
  BPF_JMP32,
  BPF_LD,
  BPF_LDX,
  BPF_ST,
  dstOf,
  immOf,
  LOAD_ACQUIRE,
  offOf,
  OP_CALL,
  OP_EXIT,
  OP_LDIMM,
  OP_MAY_GOTO,
  srcOf,
  STORE_RELEASE,
} from "./instruction";
import { fail, fail1, fail2, failS } from "./outcome";
import { FIELD_TIMER, findMap, hasField, hasLock } from "./program";
import { MAP_CGROUP_STORAGE, MAP_PERCPU_CGROUP_STORAGE } from "./map_type";
import { maps, progType } from "./request";

/// Program types in which the kernel takes no map with locks: socket filters and tracing in any context.
function mayLock(): bool {
  return progType != 1 && progType != 2 && progType != 5 && progType != 7 && progType != 17 && progType != 24;
}

/// Program types in which the kernel takes no map with timers: tracing in any context.
function mayTime(): bool {
  return progType == 1 || mayLock();
}

/* Map of each of the two storage types of control groups; -1: none yet. */
let storage: i32 = -1, percpuStorage: i32 = -1;
/// bpf_get_local_storage gives the program's storage of a type whatever map it is handed: of two maps the second one's
/// values would be taken for the first one's (bpf_cgroup_storage_assign).
function isOnlyStorage(i: i32, map: i32): bool {
  const type = maps[map].type;
  if (type == MAP_CGROUP_STORAGE) {
    if (storage < 0) storage = map;
    return storage == map ? true : fail2(E.SECOND_STORAGE_MAP, i, maps[map].handle, maps[storage].handle);
  }
  if (type == MAP_PERCPU_CGROUP_STORAGE) {
    if (percpuStorage < 0) percpuStorage = map;
    return percpuStorage == map
      ? true
      : fail2(E.SECOND_STORAGE_MAP, i, maps[map].handle, maps[percpuStorage].handle);
  }
  return true;
}

export function checkEncoding(i: i32, op: u8): bool {
  const dst = dstOf(i), src = srcOf(i), off = offOf(i), imm = immOf(i);
  if (dst > 10) return fail1(E.BAD_REGISTER, i, dst);
  const c = op & 7;
  if (c == BPF_ALU || c == BPF_ALU64) {
    const o = op & 0xf0;
    if (o > 0xd0) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (o == 0xd0) {
      if (off != 0 || src != 0) return fail1(E.RESERVED_FIELD, i, op);
      if (imm != 16 && imm != 32 && imm != 64) return fail1(E.RESERVED_FIELD, i, op);
      if (c == BPF_ALU64 && op & 8) return fail1(E.RESERVED_FIELD, i, op);
    } else if (o == 0x80) {
      if (op & 8 || off != 0 || src != 0 || imm != 0) return fail1(E.RESERVED_FIELD, i, op);
    } else if (op & 8) {
      if (src > 10) return fail1(E.BAD_REGISTER, i, src);
      if (o == 0xb0 && c == BPF_ALU64 && off == 1 && (imm == 1 || imm == 1 << 16)) {
        return failS(E.UNSUPPORTED_INSTRUCTION, i, "Address space cast (arena)");
      }
      if (imm != 0) return fail1(E.RESERVED_FIELD, i, op);
      if (o == 0xb0) {
        if (off != 0 && off != 8 && off != 16 && !(off == 32 && c == BPF_ALU64)) {
          return fail1(E.RESERVED_FIELD, i, op);
        }
      } else if (off != 0 && !(off == 1 && (o == 0x30 || o == 0x90))) return fail1(E.RESERVED_FIELD, i, op);
    } else {
      if (src != 0) return fail1(E.RESERVED_FIELD, i, op);
      if (off != 0 && !(off == 1 && (o == 0x30 || o == 0x90))) return fail1(E.RESERVED_FIELD, i, op);
      if (o == 0x60 || o == 0x70 || o == 0xc0) {
        const width = c == BPF_ALU64 ? 64 : 32;
        if (imm < 0 || imm >= width) return fail2(E.SHIFT_OUT_OF_RANGE, i, imm, width);
      }
    }
    return true;
  }
  if (src > 10) return fail1(E.BAD_REGISTER, i, src);
  if (c == BPF_JMP || c == BPF_JMP32) {
    const o = op & 0xf0;
    if (c == BPF_JMP && o == 0x80) {
      if (op != OP_CALL || off != 0 && src != 2 || dst != 0 || src > 2) return fail1(E.RESERVED_FIELD, i, op);
      return true;
    }
    if (c == BPF_JMP && o == 0x90) {
      if (op != OP_EXIT || off != 0 || imm != 0 || src != 0 || dst != 0) {
        return fail1(E.RESERVED_FIELD, i, op);
      }
      return true;
    }
    if (o == 0) {
      if (op & 8 || src != 0 || dst != 0) return fail1(E.RESERVED_FIELD, i, op);
      if (c == BPF_JMP ? imm != 0 : off != 0) return fail1(E.RESERVED_FIELD, i, op);
      return true;
    }
    // JMP32 has comparisons only: its opcodes 0x86, 0x8e (call) and 0x96, 0x9e (exit) are none
    if (c == BPF_JMP32 && (o == 0x80 || o == 0x90)) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (o == 0xe0) {
      return op != OP_MAY_GOTO || src != 0 || dst != 0 || imm != 0 ? fail1(E.RESERVED_FIELD, i, op) : true;
    }
    if (o > 0xd0) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (op & 8 ? imm != 0 : src != 0) return fail1(E.RESERVED_FIELD, i, op);
    return true;
  }
  const mode = op & 0xe0, size = op & 0x18;
  if (c == BPF_LD) {
    if (op == OP_LDIMM) {
      if (off != 0) return fail1(E.RESERVED_FIELD, i, op);
      if (src == 3) return fail1(E.UNSUPPORTED_EXTERN, i, imm);
      if (src == 5 || src == 6) return failS(E.UNSUPPORTED_INSTRUCTION, i, "Map reference by index");
      if (src > 6) return fail1(E.RESERVED_FIELD, i, op);
      if (src == 1 || src == 2) {
        if (findMap(<u32> imm) < 0) return fail1(E.UNKNOWN_MAP, i, <u32> imm);
        if (src == 1 && immOf(i + 1) != 0) return fail1(E.RESERVED_FIELD, i, op);
        if (!mayTime() && hasField(findMap(<u32> imm), FIELD_TIMER, -1)) {
          return fail2(E.TIMER_MAP_PROGRAM, i, imm, progType);
        }
        if (!isOnlyStorage(i, findMap(<u32> imm))) return false;
        if (!mayLock() && hasLock(findMap(<u32> imm), -1)) return fail2(E.LOCK_MAP_PROGRAM, i, imm, progType);
      }
      return true;
    }
    if ((mode != 0x20 && mode != 0x40) || size == 0x18) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (off != 0 || dst != 0 || (mode == 0x20 && src != 0)) return fail1(E.RESERVED_FIELD, i, op);
    return true;
  }
  if (c == BPF_LDX) {
    if (mode != 0x60 && !(mode == 0x80 && size != 0x18)) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (imm != 0) return fail1(E.RESERVED_FIELD, i, op);
    return true;
  }
  if (c == BPF_ST) {
    if (mode != 0x60) return fail1(E.UNKNOWN_OPCODE, i, op);
    if (src != 0) return fail1(E.RESERVED_FIELD, i, op);
    return true;
  }
  if (mode == 0x60) return imm == 0 ? true : fail1(E.RESERVED_FIELD, i, op);
  if (mode != 0xc0) return fail1(E.UNKNOWN_OPCODE, i, op);
  // of any size, unlike what reads and writes at once
  if (imm == LOAD_ACQUIRE) return dst == 10 ? fail(E.FRAME_POINTER_WRITE, i) : true;
  if (imm == STORE_RELEASE) return true;
  if (size != 0 && size != 0x18) return fail1(E.UNKNOWN_OPCODE, i, op);
  const plain = imm & ~1;
  if (plain != 0 && plain != 0x40 && plain != 0x50 && plain != 0xa0 && imm != 0xe1 && imm != 0xf1) {
    return fail1(E.RESERVED_FIELD, i, op);
  }
  if (imm != 0 && src == 10 && imm & 1) return fail(E.FRAME_POINTER_WRITE, i);
  return true;
}
