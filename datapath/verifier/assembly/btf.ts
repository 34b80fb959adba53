// Kernel structs as far as the host answered questions about them, and pointers to them.
import * as E from "./gen/codes";
import { truncate } from "./number";
import { fail1, fail2, failIS, failS, opI, opS } from "./outcome";
import {
  F_NULL,
  F_PERCPU,
  F_RCU,
  F_RDONLY,
  F_TRUSTED,
  F_UNTRUSTED,
  F_USER,
  isConst,
  K_BTF,
  K_MEM,
  Reg,
  setKind,
  setUnknown,
} from "./reg";

// the protocol's numbers, kernel_types.ts
const S_SCALAR: u32 = 1, S_POINTER: u32 = 2, S_OPAQUE: u32 = 3, S_OTHER: u32 = 4, S_BUFFER: u32 = 5;

const A_REFUSED: u32 = 0, A_POINTER: u32 = 2, A_OPAQUE: u32 = 3;
const SAFE_TRUSTED: u32 = 256, SAFE_TRUSTED_NULL: u32 = 512, SAFE_RCU: u32 = 1024, SAFE_RCU_NULL: u32 = 2048;
const Q_IS: u32 = 0x100, Q_ID: u32 = 0x200, Q_MEMORY: u32 = 0x10000;
const SLOT_BYTES: usize = 12, ANSWER_BYTES: usize = 24;
const SLOTS_MAX: u32 = 32;
/// What an iterator hands over of a map's element: the kernel compares what was touched with its size when it attaches.
const BUFFER_BYTES: i32 = 1 << 28;

const TYPE_MAX: u32 = 0x7fffffff;
/// Classes of structs; STRUCT_CLASSES of the protocol.
export const B_TASK: u32 = 1,
  B_REGS: u32 = 2,
  B_TCP6: u32 = 3,
  B_TCP: u32 = 4,
  B_TIMEWAIT: u32 = 5,
  B_REQUEST: u32 = 6;

export const B_UDP6: u32 = 7, B_UNIX: u32 = 8, B_MPTCP: u32 = 9, B_SOCKET: u32 = 10, B_SOCK_COMMON: u32 = 11;
export const B_SEQ: u32 = 12,
  B_PATH: u32 = 13,
  B_FILE: u32 = 14,
  B_SKB: u32 = 15,
  B_XDP: u32 = 16,
  B_CGROUP: u32 = 17,
  B_CSS: u32 = 18,
  B_VMA: u32 = 19;

const CLASS_NAMES: StaticArray<string> = [
  "",
  "task_struct",
  "pt_regs",
  "tcp6_sock",
  "tcp_sock",
  "tcp_timewait_sock",
  "tcp_request_sock",
  "udp6_sock",
  "unix_sock",
  "mptcp_sock",
  "socket",
  "sock_common",
  "seq_file",
  "path",
  "file",
  "sk_buff",
  "xdp_buff",
  "cgroup",
  "cgroup_subsys_state",
  "vm_area_struct",
];

export function className(c: u32): string {
  return "struct " + CLASS_NAMES[c];
}

export let hasAttach: bool = false;
export let attachTarget: string = "", attachRefused: string = "";
export let attachFlags: u32 = 0;
let slots: usize = 0, slotCount: u32 = 0;
let answers: usize = 0, answerCount: u32 = 0;
let structs: usize = 0, structCount: u32 = 0;
/* The section of the request, read by program.ts word by word; what lies in the tables is checked here. */
export function setAttach(target: string, refused: string, flags: u32, table: usize, count: u32): bool {
  if (count > SLOTS_MAX) return false;
  for (let k: u32 = 0; k < count; k++) {
    if (load<u32>(table + k * SLOT_BYTES) > S_BUFFER || load<u32>(table + k * SLOT_BYTES, 4) > TYPE_MAX) {
      return false;
    }
  }
  hasAttach = true;
  attachTarget = target;
  attachRefused = refused;
  attachFlags = flags;
  slots = table;
  slotCount = count;
  return true;
}

export const BYTES_OF_SLOT: u32 = 12, BYTES_OF_ANSWER: u32 = 24;
/// Answers come sorted by type, offset and question; each question once.
export function setAnswers(table: usize, count: u32): bool {
  for (let k: u32 = 0; k < count; k++) {
    const p = table + k * ANSWER_BYTES;
    const kind = load<u32>(p, 12), target = load<u32>(p, 16);
    if (load<u32>(p) > TYPE_MAX || load<u32>(p, 4) > TYPE_MAX || kind > A_OPAQUE || target > TYPE_MAX) {
      return false;
    }
    if (kind == A_POINTER && target == 0) return false;
    if (k > 0 && compare(p - ANSWER_BYTES, load<u32>(p), load<u32>(p, 4), load<u32>(p, 8)) >= 0) return false;
  }
  answers = table;
  answerCount = count;
  return true;
}

/// Structs are {id, size, name}; `table` was walked by the reader.
export function setStructs(table: usize, count: u32): void {
  structs = table;
  structCount = count;
}

function compare(p: usize, type: u32, offset: u32, what: u32): i32 {
  if (load<u32>(p) != type) return load<u32>(p) < type ? -1 : 1;
  if (load<u32>(p, 4) != offset) return load<u32>(p, 4) < offset ? -1 : 1;
  if (load<u32>(p, 8) != what) return load<u32>(p, 8) < what ? -1 : 1;
  return 0;
}

/// Address of the answer; 0 after asking for it, which ends the run.
function answerTo(insn: i32, type: u32, offset: u32, what: u32): usize {
  let lo: i32 = 0, hi = <i32> answerCount - 1;
  while (lo <= hi) {
    const m = (lo + hi) >> 1, p = answers + <usize> m * ANSWER_BYTES, c = compare(p, type, offset, what);
    if (c == 0) return p;
    if (c < 0) lo = m + 1;
    else hi = m - 1;
  }
  fail2(E.TYPE_QUESTION, insn, type, offset);
  opI(what);
  return 0;
}

function structAt(type: u32): usize {
  let p = structs;
  for (let k: u32 = 0; k < structCount; k++) {
    const n = load<u32>(p, 8);
    if (load<u32>(p) == type) return p;
    p += 12 + ((n + 3) & ~3);
  }
  return 0;
}

/// `struct task_struct`.
export function structName(type: u32): string {
  const p = structAt(type);
  return p ? String.UTF8.decodeUnsafe(p + 12, min<u32>(load<u32>(p, 8), 128)) : "a kernel struct";
}

function structSize(type: u32): u32 {
  const p = structAt(type);
  return p ? load<u32>(p, 4) : 0;
}

/// Pointer to a kernel struct of which the request says the type; others are answered as unsupported.
export function isTyped(r: Reg): bool {
  return r.kind == K_BTF && r.map >= 0;
}

export function isTrusted(r: Reg): bool {
  return r.ref != 0 || ((r.flags & F_TRUSTED) != 0 && (r.flags & (F_UNTRUSTED | F_USER | F_PERCPU)) == 0);
}

export function setPointer(r: Reg, type: u32, flags: u32, id: u32): void {
  setKind(r, K_BTF);
  r.map = <i32> type;
  r.flags = <u8> flags;
  if (flags & F_NULL) r.id = id;
}

/// What a tracing program reads from its context at `at`. 0: refused, 1: done, 2: failed with a code of its own.
export function contextSlot(insn: i32, at: i32, size: i32, signed: bool, t: Reg, id: u32): i32 {
  const k = <u32> at >> 3;
  if (at < 0 || at & 7 || k >= slotCount) return 0;
  const p = slots + k * SLOT_BYTES, kind = load<u32>(p), flags = load<u32>(p, 8);
  if (kind == S_SCALAR) {
    // flags 1: an address, which is read whole
    if (flags & 1 && size != 8) return 0;
    setUnknown(t);
    truncate(t, size);
    return 1;
  }
  if (kind == S_OTHER) {
    failS(E.UNSUPPORTED_ATTACH_TARGET, insn, attachTarget);
    opS("argument " + (k + 1).toString() + " has a type that it has no model of");
    return 2;
  }
  if (size != 8 || signed) return 0;
  if (kind == S_OPAQUE) setPointer(t, 0, F_UNTRUSTED, 0);
  else if (kind == S_BUFFER) {
    setKind(t, K_MEM);
    t.size = BUFFER_BYTES;
    t.map = 0; // moved by constants only
    t.flags = <u8> (flags & (F_NULL | F_RDONLY));
    if (t.flags & F_NULL) t.id = id;
  } else if (kind == S_POINTER && load<u32>(p, 4) != 0) {
    setPointer(
      t,
      load<u32>(p, 4),
      flags & (F_NULL | F_TRUSTED | F_RCU | F_UNTRUSTED | F_USER | F_PERCPU),
      id,
    );
  } else return 0;
  return 1;
}

function whyNot(why: u32): string {
  switch (why) {
    case 1:
      return "that is beyond its end";
    case 3:
      return "that is beyond the end of the field";
    case 4:
      return "a pointer is read whole or not at all";
    default:
      return "there is no field of that width";
  }
}

/// Reads through a typed pointer into t, as check_ptr_to_btf_access() of the kernel has it.
export function readStruct(
  insn: i32,
  regno: u32,
  r: Reg,
  off: i32,
  size: i32,
  gpl: bool,
  sleepable: bool,
  t: Reg,
  id: u32,
): bool {
  if (r.map < 0) return fail1(E.UNSUPPORTED_BTF_POINTER, insn, regno);
  const type = <u32> r.map;
  if (type == 0) return fail1(E.KERNEL_POINTER_OPAQUE, insn, regno);
  if (!gpl) return failIS(E.KERNEL_STRUCT_LICENCE, insn, regno, structName(type));
  if (r.flags & (F_USER | F_PERCPU)) {
    failIS(E.KERNEL_POINTER_ELSEWHERE, insn, regno, r.flags & F_USER ? "user space" : "per-CPU variables");
    return false;
  }
  if (!isConst(r)) {
    failIS(E.POINTER_VARIABLE_OFFSET, insn, regno, "pointer to " + structName(type));
    opI(r.smin);
    opI(r.smax);
    return false;
  }
  const at = <i64> r.off + <i64> r.bits + <i64> off;
  if (at < 0 || at > <i64> i32.MAX_VALUE) return refuse(insn, regno, type, at, size, "that is outside of it");
  const p = answerTo(insn, type, <u32> at, size);
  if (!p) return false;
  const kind = load<u32>(p, 12), flags = load<u32>(p, 20);
  if (kind == A_REFUSED) return refuse(insn, regno, type, at, size, whyNot(flags));
  if (kind == A_OPAQUE) {
    setPointer(t, 0, F_UNTRUSTED, 0);
    return true;
  }
  if (kind != A_POINTER) {
    setUnknown(t);
    truncate(t, size);
    return true;
  }
  let flag = flags & (F_RCU | F_UNTRUSTED | F_USER | F_PERCPU);
  if (r.flags & F_UNTRUSTED) flag = F_UNTRUSTED;
  else if (isTrusted(r) || r.flags & F_RCU) {
    if (flags & SAFE_TRUSTED) flag |= F_TRUSTED;
    else if (flags & SAFE_TRUSTED_NULL) flag |= F_TRUSTED | F_NULL;
    else if (!sleepable) {
      if (flags & SAFE_RCU) flag |= F_RCU;
      else if (flag & F_RCU || flags & SAFE_RCU_NULL) {
        flag |= F_RCU | F_NULL;
        if (flags & SAFE_RCU_NULL) flag &= ~F_UNTRUSTED;
      }
    } else flag = F_UNTRUSTED;
  } else flag &= ~F_RCU;
  setPointer(t, load<u32>(p, 16), flag, id);
  return true;
}

/// Whether a helper may read `size` bytes at r: all of them in one field.
export function structMemory(insn: i32, regno: u32, r: Reg, size: i64, gpl: bool): bool {
  const type = <u32> r.map;
  if (!gpl) return failIS(E.KERNEL_STRUCT_LICENCE, insn, regno, structName(type));
  if (!isConst(r) || r.off < 0 || r.bits != 0) {
    failIS(E.POINTER_VARIABLE_OFFSET, insn, regno, "pointer to " + structName(type));
    opI(<i64> r.off + r.smin);
    opI(<i64> r.off + r.smax);
    return false;
  }
  if (size >= <i64> Q_MEMORY) return refuse(insn, regno, type, r.off, size, whyNot(1));
  const p = answerTo(insn, type, <u32> r.off, Q_MEMORY + <u32> size);
  if (!p) return false;
  return load<u32>(p, 12) != A_REFUSED
    ? true
    : refuse(insn, regno, type, r.off, size, whyNot(load<u32>(p, 20)));
}

function refuse(insn: i32, regno: u32, type: u32, at: i64, size: i64, why: string): bool {
  failIS(E.KERNEL_STRUCT_ACCESS, insn, regno, structName(type));
  opI(structSize(type));
  opI(size);
  opI(at);
  opS(why);
  return false;
}

/// Whether r points to (or to the start of a first member that is) a struct of the class. 1 yes, 0 no, -1 asked.
export function pointsTo(insn: i32, r: Reg, c: u32): i32 {
  const type = <u32> r.map;
  if (type == 0) return 0;
  const p = answerTo(insn, type, <u32> r.off, Q_IS + c);
  if (!p) return -1;
  return load<u32>(p, 12) == A_REFUSED ? 0 : 1;
}

/// A result of a helper: pointer to a struct of the class. False: asked, or the kernel has no such struct.
export function setClass(insn: i32, r: Reg, c: u32, flags: u32, id: u32): bool {
  const p = answerTo(insn, 0, 0, Q_ID + c);
  if (!p) return false;
  if (load<u32>(p, 12) != A_POINTER) {
    failS(E.UNSUPPORTED_ATTACH_TARGET, insn, attachTarget);
    opS("the kernel's types have no " + className(c));
    return false;
  }
  setPointer(r, load<u32>(p, 16), flags, id);
  return true;
}
