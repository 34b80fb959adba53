// Functions that a timer calls: later, on a stack of their own, with the map, the key and the value. Each is walked once per
// map, when all that the program itself does has been walked: what it finds does not depend on who set it.
import * as E from "./gen/codes";
import { FLAG_SLEEPABLE } from "./contract";
import { failS } from "./outcome";
import { findSub, hasLock } from "./program";
import { F_RDONLY, K_KEY, K_MAP, K_VALUE, setKind } from "./reg";
import { progFlags, subs } from "./request";
import { cur, freshId } from "./run";
import { enterFrame, frameOf, newState, regOf, State } from "./state";

/// `callback` of the lowest frame of such a function.
export const CALLED_LATER: u8 = 3;

/* Function and map of each, and how many of them were walked. */
const functions: Array<i32> = [];
const maps: Array<i32> = [];
let walked: i32 = 0;
export function forgetLater(): void {
  functions.length = 0;
  maps.length = 0;
  walked = 0;
}

/// Whether what is walked may sleep: what a timer calls may not, whatever its program may.
export function maySleepHere(): bool {
  return (progFlags & FLAG_SLEEPABLE) != 0 && frameOf(cur, 0).callback != CALLED_LATER;
}

/// A timer in a value of the map will call the function at `start`.
export function callLater(i: i32, map: i32, start: i32): bool {
  const k = findSub(start);
  if (subs[k].isGlobal) return failS(E.UNSUPPORTED_INSTRUCTION, i, "Global function as a callback");
  subs[k].isAsync = true;
  for (let n = 0; n < functions.length; n++) if (functions[n] == k && maps[n] == map) return true;
  functions.push(k);
  maps.push(map);
  return true;
}

/// The next of them to be walked; null: none is left.
export function nextLater(): State {
  if (walked >= functions.length) return changetype<State>(0);
  const k = functions[walked], map = maps[walked++], st = newState();
  const f = enterFrame(st, 0, k, -1);
  f.callback = CALLED_LATER;
  setKind(regOf(f, 1), K_MAP);
  regOf(f, 1).map = map;
  setKind(regOf(f, 2), K_KEY);
  regOf(f, 2).map = map;
  regOf(f, 2).flags = F_RDONLY;
  setKind(regOf(f, 3), K_VALUE);
  regOf(f, 3).map = map;
  if (hasLock(map, -1)) regOf(f, 3).id = freshId();
  st.insn = subs[k].start;
  return st;
}
