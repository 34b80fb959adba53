// Calls of kernel functions (kfuncs).
import * as E from "./gen/codes";
import { immOf } from "./instruction";
import { failIS } from "./outcome";
import { kfuncName } from "./request";

/// A function that is never called may be anything: a weak one that the kernel lacks stands behind a branch not taken.
export function callKfunc(i: i32): bool {
  const id = immOf(i);
  return failIS(E.UNSUPPORTED_KFUNC, i, id, kfuncName(id));
}
