// How many states there are at a time, and were in all.
import * as E from "./gen/codes";
import { fail1 } from "./outcome";
import { statesMax } from "./request";
import { cur } from "./run";
import { freeState, State } from "./state";

export let statesPeak: u32 = 0, statesTotal: u32 = 0;
let statesNow: u32 = 0;

export function countState(): bool {
  statesTotal++;
  statesNow++;
  if (statesNow > statesPeak) statesPeak = statesNow;
  return statesNow <= statesMax ? true : fail1(E.STATE_LIMIT, cur.insn, statesNow);
}

export function dropState(s: State): void {
  statesNow--;
  freeState(s);
}
