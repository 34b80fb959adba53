// The paths that are to be walked yet: a stack of states, the newest first.
import * as E from "./gen/codes";
import { countState } from "./live_states";
import { fail1 } from "./outcome";
import { memoryOk, State } from "./state";

const WAITING_MAX: u32 = 8192;
let waitingCount: u32 = 0;
let waiting: State = changetype<State>(0); // linked by next

/// Puts a state on the stack of those to continue later.
export function wait(s: State, insn: i32): bool {
  s.next = changetype<usize>(waiting);
  waiting = s;
  if (s.parent) changetype<State>(s.parent).branches++;
  waitingCount++;
  if (waitingCount > WAITING_MAX) return fail1(E.BRANCH_LIMIT, insn, waitingCount);
  return countState() && memoryOk(insn);
}

/// The state that waits on top; null: none.
export function nextWaiting(): State {
  const next = waiting;
  if (!changetype<usize>(next)) return next;
  waiting = changetype<State>(next.next);
  next.next = 0;
  waitingCount--;
  return next;
}

/// Another function is walked: its paths are counted from none.
export function forgetWaiting(): void {
  waitingCount = 0;
}
