/** What is asked of the rules for each command. @module */

/** One command, as rules see it. */
export interface MemcacheQuestion {
  /** By its name in the text protocol, in either protocol. */
  readonly command: string;
  readonly keys: readonly string[];
}

/** The rules' answer. */
export interface MemcacheVerdict {
  readonly allowed: boolean;
  /** What the client is told: one line of printable ASCII, without its end. */
  readonly text: string;
  /** The connection may not go on, and why; "": it may. Read only where it is not allowed. */
  readonly closes: string;
}

/** Judges by the rules of the moment, and records. */
export type MemcacheJudge = (question: MemcacheQuestion) => MemcacheVerdict;

/** Bytes that cannot be read as commands, or as answers to them. */
export class MemcacheFormError extends Error {
  override name = "MemcacheFormError";
}
