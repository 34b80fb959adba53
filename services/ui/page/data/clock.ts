/**
 * The time, for ages that go on: one timer for the whole page, and none while it is not seen.
 * @module
 */
import { useSyncExternalStore } from "react";

let now = Math.floor(Date.now() / 1000);
let timer: ReturnType<typeof setInterval> | undefined;
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    if (document.hidden) return;
    now = Math.floor(Date.now() / 1000);
    for (const each of listeners) each();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** Unix seconds, whole; anew each second. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}
