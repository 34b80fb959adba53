/** Waiting that ends. @module */
import { systemClock, withDeadline } from "@weir/common";

/** What the promise gives; rejects when that takes longer than `ms`. What it began goes on by itself. */
export function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  promise.catch(() => {}); // it may fail when nobody waits any more
  const error = () => new Error(`no answer within ${ms / 1000} s`);
  return withDeadline({ clock: systemClock, ms, error }, () => promise);
}
