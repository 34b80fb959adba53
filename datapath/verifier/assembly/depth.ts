// Stack depth over call chains, with the depths that the walk found.
import { newTable } from "./table";
import * as E from "./gen/codes";
import * as P from "./program";
import { fail2 } from "./outcome";

function round(depth: i32): i32 {
  return max(16, (depth + 15) & ~15); // a frame of the JIT
}

/// Stack that may be in use below a function that makes a tail call. The jump takes that function's frame away, but not
/// those of its callers, and up to 33 programs follow one another: the kernel's stack holds 33 times this.
const BEFORE_TAIL_CALL: i32 = 256;

/// No chain of calls uses more than 512 bytes, none with a tail call at its end 256 or more below it.
export function checkDepth(): bool {
  const n = P.subs.length;
  // the counter and the clock of may_goto lie on the stack, too
  for (let k = 0; k < n; k++) {
    const s = P.subs[k];
    if (s.mayGoto && s.depth + 16 > 512) return fail2(E.STACK_DEPTH, s.start, s.depth + 16, 512);
  }
  if (n == 1) return true;
  // longest chain from each function: calls do not recurse, so `n` rounds reach the end
  const frames = newTable<i32>(n);
  for (let k = 0; k < n; k++) frames[k] = 1;
  const total = newTable<i32>(n);
  for (let k = 0; k < n; k++) total[k] = round(P.subs[k].depth);
  // what the callers of each function hold together, over all chains
  const above = newTable<i32>(n);
  for (let pass = 0; pass < 9; pass++) {
    let changed = false;
    for (let i = 0; i < P.count; i++) {
      if (P.mark[i] & P.M_HIGH) continue;
      const op = P.opcode(i);
      const call = (op == P.OP_CALL && P.srcOf(i) == 1) || (op == P.OP_LDIMM && P.srcOf(i) == 4);
      if (!call) continue;
      const a = <i32> P.subOf[i], b = P.findSub(i + 1 + P.immOf(i));
      // what a timer calls does not run on top of who set it
      if (op == P.OP_LDIMM && P.subs[b].isAsync) continue;
      const sum = round(P.subs[a].depth) + total[b];
      if (sum > 512) return fail2(E.STACK_DEPTH, i, sum, 512);
      const held = above[a] + round(P.subs[a].depth);
      if (P.subs[b].tailCalls && held >= BEFORE_TAIL_CALL) {
        return fail2(E.STACK_BEFORE_TAIL_CALL, i, held, BEFORE_TAIL_CALL);
      }
      if (held > above[b]) {
        above[b] = held;
        changed = true;
      }
      if (frames[b] + 1 > 8) return fail2(E.CALL_DEPTH, i, frames[b] + 1, 8);
      if (frames[b] + 1 > frames[a]) {
        frames[a] = frames[b] + 1;
        changed = true;
      }
      if (sum > total[a]) {
        total[a] = sum;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return true;
}
