/** Which errors a database gave: those of the code that runs within a transaction are its own. @module */

const given = new WeakSet<object>();

/** Marks an error that a driver gave; answers it. */
export function markDatabaseError<E>(error: E): E {
  if (typeof error === "object" && error !== null) given.add(error);
  return error;
}

/** True for an error that was marked. */
export function isDatabaseError(error: unknown): boolean {
  return typeof error === "object" && error !== null && given.has(error);
}
