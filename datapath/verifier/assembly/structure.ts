// The program's structure, checked before the walk: encoding, functions, control flow.
import * as E from "./gen/codes";
import { checkEncoding } from "./encoding";
import { checkCalls, checkFlow } from "./flow";
import { immOf, OP_CALL, OP_LDIMM, opcode, srcOf } from "./instruction";
import { fail, fail1, fail2 } from "./outcome";
import { findSub, forgetInstructions, INSNS_MAX, M_HIGH, mark, setUsesCallbacks, subOf } from "./program";
import { count, insns, outerMaps, Sub, subs } from "./request";

const FUNCTIONS_MAX: i32 = 256;
const MAPS_MAX: i32 = 64;

function addSub(start: i32): bool {
  if (findSub(start) >= 0) return true;
  if (subs.length >= FUNCTIONS_MAX) return fail2(E.TOO_MANY_FUNCTIONS, start, subs.length + 1, FUNCTIONS_MAX);
  const sub = new Sub();
  sub.start = start;
  subs.push(sub);
  return true;
}

/// Checks encoding, functions and control flow of the whole program.
export function checkStructure(): bool {
  if (count == 0) return fail(E.EMPTY_PROGRAM, -1);
  if (count > INSNS_MAX) return fail2(E.PROGRAM_TOO_LARGE, -1, count, INSNS_MAX);
  forgetInstructions();
  let usedMaps = 0;
  if (!addSub(0)) return false;
  for (let i = 0; i < count; i++) {
    const op = opcode(i);
    if (op == OP_LDIMM) {
      if (i + 1 >= count || load<u32>(insns + (<usize> (i + 1) << 3)) != 0) {
        return fail(E.INCOMPLETE_LD_IMM64, i);
      }
      mark[i + 1] |= M_HIGH;
      if (srcOf(i) == 1 || srcOf(i) == 2) usedMaps++;
    }
    if (!checkEncoding(i, op)) return false;
    if (op == OP_LDIMM) i++;
  }
  for (let i = 0; i < count; i++) {
    if (mark[i] & M_HIGH) continue;
    const op = opcode(i);
    let callee = -1;
    if (op == OP_CALL && srcOf(i) == 1) callee = i + 1 + immOf(i);
    else if (op == OP_LDIMM && srcOf(i) == 4) callee = i + 1 + immOf(i);
    else continue;
    if (callee < 0 || callee >= count || mark[callee] & M_HIGH) return fail1(E.JUMP_OUT_OF_RANGE, i, callee);
    if (!addSub(callee)) return false;
    if (op == OP_LDIMM) {
      subs[findSub(callee)].isCallback = true;
      setUsesCallbacks();
    }
  }
  if (outerMaps > MAPS_MAX) return fail2(E.TOO_MANY_MAPS, -1, outerMaps, MAPS_MAX);
  if (subs.length > 1) subs.sort((a, b) => a.start - b.start);
  for (let k = 0; k < subs.length; k++) {
    const s = subs[k];
    if (
      s.start < 0 || s.start >= count || mark[s.start] & M_HIGH || (k > 0 && subs[k - 1].start == s.start)
    ) {
      return fail1(E.BAD_SUBPROGRAM_TABLE, -1, s.start);
    }
    s.end = k + 1 < subs.length ? subs[k + 1].start : count;
    if (s.end > count) return fail1(E.BAD_SUBPROGRAM_TABLE, -1, s.end);
    for (let i = s.start; i < s.end; i++) subOf[i] = <u8> k;
  }
  return checkFlow() && checkCalls();
}
