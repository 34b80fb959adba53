/** The time that commands speak of: the clock's, or that of a sysdump that is looked into. @module */
let stoppedAtMs: number | undefined;

/** Milliseconds since 1970. */
export function nowMs(): number {
  return stoppedAtMs ?? Date.now();
}

/** The same in seconds. */
export function nowS(): number {
  return nowMs() / 1000;
}

/** From now on it is this time; undefined: the clock's again. */
export function stopClock(atMs: number | undefined): void {
  stoppedAtMs = atMs;
}
