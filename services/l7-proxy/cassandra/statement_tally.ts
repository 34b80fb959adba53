/**
 * Asks the rules about all statements of one request: it passes if each of them does.
 * @module
 */

import { type CqlStatement, cqlTargetOf } from "@weir/l7-rules";
import type { JudgedRequest } from "./pending_requests.ts";
import type { CassandraJudge, CassandraQuestion, CassandraVerdict } from "./verdict.ts";

/** Actions and tables that the record of an allowed batch names. */
const NAMED_MAX = 4;
/** Statements of one request, each as often as it has keyspaces that it may meet: 65,535 members of a batch in four. */
export const QUESTIONS_MAX = 262_144;
/** Of them those that differ. */
export const DIFFERENT_MAX = 4096;

/** The sum of the answers. */
export class StatementTally {
  readonly #judge: CassandraJudge;
  readonly #actions: string[] = [];
  readonly #tables: string[] = [];
  /** What was asked, each once: most batches do one thing many times. */
  #asked: Set<string> | undefined;
  #first = "";
  #questions = 0;
  #denied: CassandraQuestion | null = null;
  /** What denied; else what allowed the first of them; null: nothing had to be asked. */
  verdict: CassandraVerdict | null = null;

  constructor(judge: CassandraJudge) {
    this.#judge = judge;
  }

  /** Whether more was asked than is judged: whoever asks so much must be denied. */
  get isTooMuch(): boolean {
    return this.#questions > QUESTIONS_MAX || (this.#asked?.size ?? 0) > DIFFERENT_MAX;
  }

  get allowed(): boolean {
    return this.#denied === null;
  }

  /** The statement that was denied; else what all of them do. */
  get judged(): JudgedRequest {
    const { action, table } = this.#denied ??
      { action: this.#actions.join(), table: this.#tables.join() };
    return { action, table, ends: this.verdict?.ends ?? [] };
  }

  /** Asks about a statement, in each keyspace that it may meet. `USE` reads nothing, and is never denied. */
  ask(statement: CqlStatement, keyspaces: Iterable<string>): void {
    if (this.#denied !== null) return;
    const { action, keyspace, scope } = statement;
    if (scope !== "table" || keyspace !== "") return this.#ask({ action, table: cqlTargetOf(statement, "") });
    for (const each of keyspaces) this.#ask({ action, table: cqlTargetOf(statement, each) });
  }

  #ask(question: CassandraQuestion): void {
    if (this.#denied !== null || this.isTooMuch) return;
    const { action, table } = question, key = `${action} ${table}`;
    if (this.#questions++ === 0) this.#first = key;
    else {
      this.#asked ??= new Set([this.#first]);
      if (this.#asked.has(key)) return;
      this.#asked.add(key);
    }
    named(this.#actions, action);
    if (table !== "") named(this.#tables, table);
    if (action === "use") return;
    const verdict = this.#judge(question);
    if (!verdict.allowed) this.#denied = question;
    if (!verdict.allowed || this.verdict === null) this.verdict = verdict;
  }
}

function named(names: string[], name: string): void {
  if (names.length < NAMED_MAX && !names.includes(name)) names.push(name);
}
