/** What a connection of memcached's protocols has to do with the rest of the proxy: its judge and its records. @module */
import { denialText } from "./denial_text.ts";
import {
  MemcacheConnection,
  type MemcacheQuestion,
  type MemcacheShared,
  type MemcacheVerdict,
} from "./memcache/mod.ts";
import type { RedirectedConnection } from "./redirected_connection.ts";
import { StepConnection } from "./step_connection.ts";

/** Keys of a record. */
const KEYS_RECORDED_MAX = 16;
/** Keys that a denial names; more make a line that clients cut. */
const KEYS_NAMED_MAX = 3;

/** One connection. */
export class MemcacheHost {
  readonly #connection: RedirectedConnection;
  readonly #protocol: MemcacheConnection;
  /** Why the rules end it; "": they do not. */
  #closedBy = "";

  constructor(connection: RedirectedConnection, shared: MemcacheShared) {
    this.#connection = connection;
    this.#protocol = new MemcacheConnection({ shared, judge: (question) => this.#judge(question) });
  }

  /** Runs the connection to its end and closes both sides. Never rejects. @returns why it ended */
  run(): Promise<string> {
    return new StepConnection(this.#connection, this.#protocol, () => this.#closedBy).run();
  }

  /** Judges, and records for each end whose rules were asked. */
  #judge({ command, keys }: MemcacheQuestion): MemcacheVerdict {
    const connection = this.#connection;
    const { verdict, sides, why } = connection.judge.judge({ kind: "MEMCACHE", command, keys });
    const isAllowed = verdict === "allowed";
    if (verdict === "closed") this.#closedBy = why;
    const text = isAllowed ? "" : denialText(sides, wordsOf(command, keys));
    connection.counted(verdict);
    for (const { side, allowed, cookie } of sides) {
      connection.record({
        direction: side,
        type: "REQUEST",
        verdict: allowed ? "FORWARDED" : "DENIED",
        cookie,
        reason: allowed ? "" : why || text,
        memcache: { command, keys: keys.slice(0, KEYS_RECORDED_MAX) },
      });
    }
    return { allowed: isAllowed, text: lineOf(text), closes: verdict === "closed" ? why : "" };
  }
}

function wordsOf(command: string, keys: readonly string[]): string {
  const named = keys.slice(0, KEYS_NAMED_MAX).join(" ");
  return `${command} ${named}${keys.length > KEYS_NAMED_MAX ? " ..." : ""}`.trimEnd();
}

/** Begins as the field's denial does, in characters that cannot end a line. */
function lineOf(text: string): string {
  return `access denied: ${text}`.replace(/[^ -~]/g, "?");
}
