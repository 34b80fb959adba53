/** Waiting for what comes when it comes. @module */

/** How long: far more than anything takes, for only what will never be is to fail, however slow the machine is. */
const WAIT_MS_MAX = 300_000;
/** On a machine that stood still meanwhile. */
const TRIES_MIN = 20;

/**
 * Tries until it holds, for five minutes and at least twenty times.
 * @param what is waited for; a function is asked when the wait was in vain, and may tell what was seen last
 * @param condition may throw: that is as false, and the last error is told
 * @throws when it never holds
 */
export async function until(
  what: string | (() => string),
  condition: () => Promise<boolean> | boolean,
  everyMs = 200,
): Promise<void> {
  let why = "";
  const startMs = performance.now();
  for (let tries = 0; tries < TRIES_MIN || performance.now() - startMs < WAIT_MS_MAX; tries++) {
    try {
      why = "";
      if (await condition()) return;
    } catch (error) {
      why = `: ${(error as Error).message}`;
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  throw new Error(
    `In vain for ${WAIT_MS_MAX / 60_000} minutes: ${typeof what === "string" ? what : what()}${why}`,
  );
}
