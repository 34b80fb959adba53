// The module's surface: bytes in, report out.
import * as E from "./gen/codes";
import * as C from "./contract";
import * as O from "./outcome";
import { checkStructure } from "./structure";
import * as P from "./program";
import * as B from "./btf";
import { claimOf } from "./claims";
import { sleepableMap } from "./map_type";
import { checkDepth } from "./depth";
import { KF_NEW, KF_NEXT, kfuncKind, prepareKfuncs } from "./kfunc";
import { statesPeak, statesTotal } from "./live_states";
import { analyse } from "./liveness";
import { F_NULL, F_RDONLY, Reg, REG_BYTES } from "./reg";
import { prepareRelevance } from "./relevance";
import { cur } from "./run";
import { frameOf, memoryPeak, PATH_MAX, pathStep, regOf, setMemoryLimit } from "./state";
import { visits, visitsOf, walkAll } from "./walk";
export * from "./probe";

const REQUEST_MAX: u32 = 48 << 20;
/// Room for a request of `length` bytes; 0: too large.
export function alloc(length: u32): u32 {
  if (length > REQUEST_MAX) return 0;
  return <u32> heap.alloc((length + 7) & ~7);
}

/* What a report takes at most besides counts and claims: 8 operands of 208 bytes, 64 steps, 11 registers. */
const REPORT_BYTES: usize = 4096;
let out: usize = 0, outEnd: usize = 0, outAt: usize = 0;
function w32(v: u32): void {
  store<u32>(outAt, v);
  outAt += 4;
}

function w64(v: u64): void {
  store<u64>(outAt, v);
  outAt += 8;
}

let hashA: u64 = 0, hashB: u64 = 0;
function hash(p: usize, length: u32): void {
  let a: u32 = 0x811c9dc5, b: u32 = 0x9ae16a3b, c: u32 = 0x2f90404f, d: u32 = 0x165667b1;
  for (let at: usize = 0; at + 4 <= length; at += 4) {
    const word = load<u32>(p + at);
    a = (a ^ word) * 0x01000193;
    a ^= a >> 15;
    b = (b ^ word) * 0x85ebca6b;
    b ^= b >> 13;
    c = (c ^ word) * 0xc2b2ae35;
    c ^= c >> 16;
    d = (d ^ word) * 0x27d4eb2f;
    d ^= d >> 14;
  }
  hashA = (<u64> a << 32) | <u64> b;
  hashB = (<u64> c << 32) | <u64> d;
}

function run(pointer: usize, length: u32): bool {
  if (!P.readRequest(pointer, length)) return false;
  setMemoryLimit(P.memoryMax);
  const column = C.findColumn(P.progType, P.attachType);
  if (column < 0) return O.fail1(E.UNSUPPORTED_PROGRAM_TYPE, -1, P.progType);
  if (P.progFlags & ~C.FLAGS_KNOWN) {
    return O.failS(E.UNSUPPORTED_INSTRUCTION, -1, "Program flags beyond 0xff");
  }
  // system calls run in the context of whoever makes them, and only so
  if (column == C.P_SYSCALL && !(P.progFlags & C.FLAG_SLEEPABLE)) {
    return O.fail1(E.UNSUPPORTED_PROGRAM_TYPE, -1, P.progType);
  }
  C.setColumn(column);
  if (!checkAttach()) return false;
  if (!checkStructure()) return false;
  for (let i = 0; i < P.count; i++) {
    if (
      !(P.mark[i] & P.M_HIGH) && P.opcode(i) == P.OP_CALL && P.srcOf(i) == 0 &&
      (P.immOf(i) == C.H_LOOP || P.immOf(i) == C.H_FOR_EACH_MAP_ELEM)
    ) {
      P.mark[i] |= P.M_CALLBACK;
    }
  }
  for (let i = 0; i < P.count; i++) {
    if (P.mark[i] & P.M_HIGH || P.opcode(i) != P.OP_MAY_GOTO) continue;
    P.mark[i] |= P.M_CALLBACK;
    P.setUsesIterators();
  }
  prepareKfuncs();
  for (let i = 0; i < P.count; i++) {
    if (P.mark[i] & P.M_HIGH || P.opcode(i) != P.OP_CALL || P.srcOf(i) != 2) continue;
    const kind = kfuncKind(P.immOf(i));
    if (kind == KF_NEW) P.setUsesIterators();
    else if (kind == KF_NEXT) P.mark[i] |= P.M_CALLBACK;
  }
  analyse();
  prepareRelevance();
  return walkAll() && checkDepth();
}

/// What can be said of a program of type tracing before its instructions are looked at.
function checkAttach(): bool {
  const sleeps = (P.progFlags & 0x10) != 0;
  if (sleeps) {
    // uprobes, tracing but for tracepoints, system calls
    if (P.progType != 2 && P.progType != 31 && !(C.isTracing() && P.attachType != 23)) {
      return O.fail(E.NOT_SLEEPABLE, -1);
    }
    for (let k = 0; k < P.outerMaps; k++) {
      if (!sleepableMap(P.maps[k].type)) {
        return O.fail2(E.SLEEPABLE_MAP, -1, P.maps[k].handle, P.maps[k].type);
      }
    }
  }
  if (!C.isTracing()) return true;
  if (P.options & 2) return O.failS(E.UNSUPPORTED_STRICT, -1, "tracing programs");
  if (!B.hasAttach) {
    O.failS(E.UNKNOWN_ATTACH_TARGET, -1, "a function of the kernel");
    O.opS("nobody has said which one");
    return false;
  }
  if (B.attachRefused.length) {
    O.failS(E.UNKNOWN_ATTACH_TARGET, -1, B.attachTarget);
    O.opS(B.attachRefused);
    return false;
  }
  return true;
}

/// Verifies a request that lies where a fresh instance's alloc() would put it.
export function verifyPlaced(length: u32): u64 {
  return verify(alloc(length), length);
}

/// Verifies the request; returns where the report lies, and its length in the high half.
export function verify(pointer: u32, length: u32): u64 {
  hash(pointer, length);
  const ok = run(pointer, length);
  const counts = P.options & 4 ? P.count : 0;
  let claims = 0;
  for (let i = 0; i < P.count; i++) if (claimOf(i)) claims++;
  out = heap.alloc(REPORT_BYTES + <usize> counts * 4 + <usize> claims * (4 + 11 * 96));
  outAt = out;
  w32(0x50525657);
  w32(1);
  w64(hashA);
  w64(hashB);
  w32(ok ? 0 : E.codeClass(O.failCode));
  w32(ok ? 0 : O.failCode);
  w32(O.failInsn);
  w32(O.lostAt);
  w32(visits);
  w32(statesPeak);
  w32(statesTotal);
  w32(<u32> memoryPeak);
  w32(O.operandCount);
  for (let k = 0; k < O.operandCount; k++) {
    w32(O.operandKind[k]);
    if (O.operandKind[k] == 0) w64(O.operandInt[k]);
    else wText(O.operandText[k]);
  }
  const st = !ok && changetype<usize>(cur) != 0;
  const steps: u32 = st ? min<u32>(cur.pathCount, PATH_MAX) : 0;
  w32(steps);
  for (let k: u32 = 0; k < steps; k++) w32(pathStep(cur, cur.pathCount - steps + k));
  w32(st ? 11 : 0);
  if (st) { for (let r: u32 = 0; r < 11; r++) wReg(regOf(frameOf(cur, cur.depth), r)); }
  w32(counts);
  for (let i = 0; i < counts; i++) w32(visitsOf(i));
  w32(claims);
  for (let i = 0; i < P.count && claims; i++) {
    const p = claimOf(i);
    if (!p) continue;
    w32(i);
    for (let r: u32 = 0; r < 11; r++) wReg(changetype<Reg>(p + r * REG_BYTES));
  }
  return <u64> out | (<u64> (outAt - out) << 32);
}

function wText(s: string): void {
  const n = min<i32>(String.UTF8.byteLength(s), 200);
  w32(n);
  const b = String.UTF8.encode(s);
  memory.copy(outAt, changetype<usize>(b), n);
  memory.fill(outAt + n, 0, (4 - (n & 3)) & 3);
  outAt += (n + 3) & ~3;
}

function wReg(r: Reg): void {
  w32(r.kind);
  w32((r.flags & F_NULL ? 1 : 0) | (r.flags & F_RDONLY ? 2 : 0));
  w32(r.off);
  w32(r.size);
  w32(
    r.map >= 0 && r.map < P.maps.length && r.kind != 16 && r.kind != 0 && r.kind != 13 && r.kind != 14
      ? P.maps[r.map].handle
      : -1,
  );
  w32(r.id);
  w64(r.bits);
  w64(r.unk);
  w64(r.smin);
  w64(r.smax);
  w64(r.umin);
  w64(r.umax);
  w32(r.s32min);
  w32(r.s32max);
  w32(r.u32min);
  w32(r.u32max);
  w32(0);
  w32(0);
}
