/** Waiting for what becomes of an endpoint, with a deadline. @module */
import type { Clock, WatchedTable } from "@weir/common";
import type { Endpoint } from "@weir/proto/endpoint";

/** What ends a wait. */
export interface WaitOptions {
  readonly clock: Clock;
  readonly msMax: number;
  readonly signal: AbortSignal;
}

/**
 * Waits until `isDone` says so of the endpoint of that name; undefined where there is none (any more).
 * @returns whether it came in time, and was not aborted
 */
export async function waitForEndpoint(
  view: WatchedTable<Endpoint>,
  name: string,
  isDone: (endpoint: Endpoint | undefined) => boolean,
  { clock, msMax, signal }: WaitOptions,
): Promise<boolean> {
  if (isDone(view.get(name))) return true;
  const done = Promise.withResolvers<boolean>(), over = new AbortController();
  const stopListening = view.onChange(() => {
    if (isDone(view.get(name))) done.resolve(true);
  });
  const abort = () => done.resolve(false);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  void clock.sleep(msMax, over.signal).then(() => done.resolve(false));
  try {
    return await done.promise;
  } finally {
    over.abort();
    stopListening();
    signal.removeEventListener("abort", abort);
  }
}

/** What is gone already need not be deleted. */
export function ignoreNotFound(error: { status?: number }): void {
  if (error.status !== 404) throw error;
}
