/** What an error of the database means for the history. @module */

/** SQLite says that the file is damaged: CORRUPT, NOTADB. What fails while it is opened has no code. */
export function isDamage(error: unknown): boolean {
  const { errcode, cause, message = "" } = (error ?? {}) as Error & { errcode?: number };
  return (errcode !== undefined && [11, 26].includes(errcode & 0xff)) ||
    /^(file is not a database|database disk image is malformed)$/.test(message) ||
    (cause !== undefined && cause !== error && isDamage(cause));
}

/**
 * The database is there, and does not take what it was given: it never will. PostgreSQL: data exceptions (22), integrity (23), program
 * limits (54); SQLite: TOOBIG, CONSTRAINT, MISMATCH, RANGE.
 */
export function isRefusal(error: unknown): boolean {
  const own = error as { code?: string; errcode?: number; cause?: unknown } | undefined;
  if (own === undefined || own === null) return false;
  const sqlite = own.errcode === undefined ? 0 : own.errcode & 0xff;
  return /^(22|23|54)[0-9A-Z]{3}$/.test(own.code ?? "") || [18, 19, 20, 25].includes(sqlite) ||
    (own.cause !== error && isRefusal(own.cause));
}
