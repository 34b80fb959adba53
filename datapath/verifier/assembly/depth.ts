// Stack depth over call chains, with the depths that the walk found.
import { newTable } from "./table";
import * as E from "./gen/codes";
import { FLAG_SLEEPABLE } from "./contract";
import * as P from "./program";
import { fail2 } from "./outcome";

function round(depth: i32): i32 {
  return max(16, (depth + 15) & ~15); // a frame of the JIT
}

/// Stack that may be in use below a function that makes a tail call. The jump takes that function's frame away, but not
/// those of its callers, and up to 33 programs follow one another: the kernel's stack holds 33 times this.
const BEFORE_TAIL_CALL: i32 = 256;

const KPROBE: i32 = 2,
  TRACEPOINT: i32 = 5,
  PERF_EVENT: i32 = 7,
  RAW_TRACEPOINT: i32 = 17,
  TRACING: i32 = 26;
const TRACE_ITER: i32 = 28;
/// A function with less lies on the kernel's stack (BPF_PRIV_STACK_MIN_SIZE).
const PRIVATE_MIN: i32 = 64;

/// Whether large functions have a stack of their own, per CPU, instead of a frame on the kernel's (bpf_enable_priv_stack(),
/// from 6.13 on).
///
/// Sound because such a stack has one user at a time: functions do not recurse, each has its own, and of these program types
/// the kernel starts none on a CPU where the same program runs (bpf_prog_active, prog->active, bpf_prog_check_recur()); so
/// no iterators, and no uprobes that may sleep, which nobody counts. A tail call would enter other programs whose frames nobody counted, and a timer's function runs while the
/// program does: with either all stay on the kernel's stack. (The kernel keeps only what the timer reaches there.)
function hasPrivateStacks(): bool {
  if (P.options & P.OPTION_NO_PRIVATE_STACKS) return false;
  const type = P.progType;
  if (
    type != KPROBE && type != TRACEPOINT && type != PERF_EVENT && type != RAW_TRACEPOINT &&
    !(type == TRACING && P.attachType != TRACE_ITER)
  ) {
    return false;
  }
  if (type == KPROBE && P.progFlags & FLAG_SLEEPABLE) return false;
  for (let k = 0; k < P.subs.length; k++) if (P.subs[k].tailCalls || P.subs[k].isAsync) return false;
  return true;
}

/// Bytes of function k on the stack that a chain of calls shares.
function shared(k: i32, apart: bool): i32 {
  const own = round(P.subs[k].depth);
  return apart && own >= PRIVATE_MIN ? 0 : own;
}

/// No chain of calls uses more than 512 bytes, none with a tail call at its end 256 or more below it. The 16 bytes that the
/// kernel adds for the counter and the clock of may_goto do not count: the JIT makes the frame that much longer, and a kernel
/// that would interpret the program refuses it (bpf_do_misc_fixups()).
export function checkDepth(): bool {
  const n = P.subs.length;
  if (n == 1) return true;
  const apart = hasPrivateStacks();
  // longest chain from each function: calls do not recurse, so `n` rounds reach the end
  const frames = newTable<i32>(n);
  for (let k = 0; k < n; k++) frames[k] = 1;
  const total = newTable<i32>(n);
  for (let k = 0; k < n; k++) total[k] = shared(k, apart);
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
      const sum = shared(a, apart) + total[b];
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
