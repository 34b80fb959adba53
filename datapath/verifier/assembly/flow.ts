// Control flow: jumps stay in their function, every instruction is reached, no function calls itself.
import { newTable } from "./table";
import * as E from "./gen/codes";
import { CONTRACT, H_CHECK_MTU, H_TAIL_CALL, H_TIMER_SET_CALLBACK } from "./gen/tables";
import {
  immOf,
  isJump,
  OP_CALL,
  OP_EXIT,
  OP_JA,
  OP_JA32,
  OP_LDIMM,
  opcode,
  srcOf,
  targetOf,
} from "./instruction";
import { fail, fail1, failS } from "./outcome";
import { findSub, M_HIGH, M_JOIN, M_SEEN, M_TARGET, mark, setUsesWritten, subOf } from "./program";
import { count, subs } from "./request";

/// Jumps stay in their function, every instruction is reached from its function's start.
export function checkFlow(): bool {
  const stack = newTable<i32>(count);
  for (let k = 0; k < subs.length; k++) {
    const s = subs[k];
    let last = s.end - 1;
    if (mark[last] & M_HIGH) return fail(E.FALLS_OFF_END, last);
    const lop = opcode(last);
    if (lop != OP_EXIT && lop != OP_JA && lop != OP_JA32) return fail(E.FALLS_OFF_END, last);
    let top = 0;
    stack[top++] = s.start;
    mark[s.start] |= M_SEEN;
    while (top > 0) {
      const i = stack[--top];
      const op = opcode(i);
      if (op == OP_EXIT) continue;
      if (isJump(op)) {
        const t = targetOf(i);
        if (t < s.start || t >= s.end) return fail1(E.JUMP_OUT_OF_RANGE, i, t);
        if (mark[t] & M_HIGH) return fail1(E.JUMP_INTO_LD_IMM64, i, t);
        mark[t] |= M_TARGET | M_JOIN;
        if (!(mark[t] & M_SEEN)) {
          mark[t] |= M_SEEN;
          stack[top++] = t;
        }
        if (op == OP_JA || op == OP_JA32) continue;
        if (i + 1 < s.end) mark[i + 1] |= M_TARGET;
      }
      const next = i + (op == OP_LDIMM ? 2 : 1);
      if (next >= s.end) return fail(E.FALLS_OFF_END, i);
      if (op == OP_CALL && srcOf(i) != 2) mark[next] |= M_TARGET;
      if (!(mark[next] & M_SEEN)) {
        mark[next] |= M_SEEN;
        stack[top++] = next;
      }
    }
    for (let i = s.start; i < s.end; i++) {
      if (!(mark[i] & (M_SEEN | M_HIGH))) return fail1(E.UNREACHABLE_INSTRUCTION, i, i);
    }
  }
  return true;
}

/// A helper calls the function and goes on behind it: what replaces or ends the function at its own will may not be in
/// it, nor in what it calls, walked or not.
function calledBack(a: i32, reach: StaticArray<u8>): bool {
  const n = subs.length;
  for (let b = 0; b < n; b++) {
    if (b != a && !reach[a * n + b]) continue;
    if (subs[b].tailCalls) return fail1(E.TAIL_CALL_IN_CALLBACK, subs[b].start, subs[a].start);
    if (subs[b].usesLdAbs) return failS(E.LD_ABS, subs[b].start, "a helper calls the function");
  }
  return true;
}

/// Adds what is reached in more than one step.
function close(reach: StaticArray<u8>, n: i32): void {
  for (let k = 0; k < n; k++) {
    for (let a = 0; a < n; a++) {
      if (!reach[a * n + k]) continue;
      for (let b = 0; b < n; b++) if (reach[k * n + b]) reach[a * n + b] = 1;
    }
  }
}

/// No recursion; what a function does that its callers must know.
export function checkCalls(): bool {
  const n = subs.length;
  let usesTimers = false;
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i), s = subs[subOf[i]];
    if (op == OP_CALL && srcOf(i) == 0) {
      if (immOf(i) == H_TAIL_CALL) {
        s.tailCalls = true;
        s.changesPacket = true;
      }
      if (helperChangesPacket(immOf(i))) s.changesPacket = true;
      if (helperMaySleep(immOf(i))) s.maySleep = true;
      if (immOf(i) == H_CHECK_MTU) setUsesWritten();
      if (immOf(i) == H_TIMER_SET_CALLBACK) usesTimers = true;
    }
    if (op & 7) continue;
    if (op != OP_LDIMM) s.usesLdAbs = true;
  }
  // reach[a * n + b]: a calls b, in one or more steps
  const reach = newTable<u8>(n * n), reachByCalls = newTable<u8>(n * n);
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i);
    if ((op == OP_CALL && srcOf(i) == 1) || (op == OP_LDIMM && srcOf(i) == 4)) {
      const b = findSub(i + 1 + immOf(i));
      reach[<i32> subOf[i] * n + b] = 1;
      if (op == OP_CALL) reachByCalls[<i32> subOf[i] * n + b] = 1;
    }
  }
  close(reach, n);
  if (usesTimers) close(reachByCalls, n);
  for (let a = 0; a < n; a++) {
    if (subs[a].isCallback && !calledBack(a, reach)) return false;
    // A timer's function may set the timer again: that is no recursion. Where there are timers only calls count; a callback
    // that calls itself back by a helper then ends at the depth of calls.
    if (usesTimers ? reachByCalls[a * n + a] : reach[a * n + a]) {
      return fail1(E.RECURSIVE_CALL, subs[a].start, subs[a].start);
    }
    for (let b = 0; b < n; b++) {
      if (reach[a * n + b]) {
        if (subs[b].changesPacket) subs[a].changesPacket = true;
        if (subs[b].maySleep) subs[a].maySleep = true;
      }
    }
  }
  return true;
}

export function helperChangesPacket(id: i32): bool {
  return id > 0 && id < 256 && (CONTRACT[id * 8] & 4) != 0;
}

function helperMaySleep(id: i32): bool {
  return id > 0 && id < 256 && (CONTRACT[id * 8] & 16) != 0;
}
