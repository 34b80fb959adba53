// References that a program has to release.
import * as E from "./gen/codes";
import { failS, opI } from "./outcome";
import { K_ITER, K_MEM } from "./reg";
import { cur, freshId } from "./run";
import { refOf, REFS_MAX } from "./state";

export function acquire(insn: i32, kind: u8): u32 {
  if (cur.refCount >= REFS_MAX) {
    failS(E.UNSUPPORTED_INSTRUCTION, insn, "More than 16 references at a time");
    return 0;
  }
  const id = freshId();
  const r = refOf(cur, cur.refCount++);
  r.id = id;
  r.insn = insn;
  r.kind = kind;
  r.frame = <u8> cur.depth;
  return id;
}

export function refName(kind: u8): string {
  return kind == K_MEM ? "ring buffer memory" : kind == K_ITER ? "iterator" : "socket reference";
}

export function heldAtTailCall(i: i32): bool {
  failS(E.REFERENCE_AT_TAIL_CALL, i, refName(refOf(cur, 0).kind));
  opI(refOf(cur, 0).insn);
  return false;
}
