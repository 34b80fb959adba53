/**
 * Asks the rules about all statements of one request: it passes if each of them does.
 * @module
 */

import { type CqlStatement, cqlTargetOf } from "@weir/l7-rules";
import type { JudgedRequest } from "./pending_requests.ts";
import type { CassandraJudge, CassandraQuestion, CassandraVerdict } from "./verdict.ts";

/** Actions and tables that the record of an allowed batch names. */
const NAMED_MAX = 4;

/** The sum of the answers. */
export class StatementTally {
  readonly #judge: CassandraJudge;
  readonly #actions = new Set<string>();
  readonly #tables = new Set<string>();
  #denied: CassandraQuestion | null = null;
  /** What denied; else what allowed the first of them; null: nothing had to be asked. */
  verdict: CassandraVerdict | null = null;

  constructor(judge: CassandraJudge) {
    this.#judge = judge;
  }

  get allowed(): boolean {
    return this.#denied === null;
  }

  /** The statement that was denied; else what all of them do. */
  get judged(): JudgedRequest {
    const { action, table } = this.#denied ??
      { action: [...this.#actions].join(","), table: [...this.#tables].join(",") };
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
    if (this.#denied !== null) return;
    if (this.#actions.size < NAMED_MAX) this.#actions.add(question.action);
    if (question.table !== "" && this.#tables.size < NAMED_MAX) this.#tables.add(question.table);
    if (question.action === "use") return;
    const verdict = this.#judge(question);
    if (!verdict.allowed) this.#denied = question;
    if (!verdict.allowed || this.verdict === null) this.verdict = verdict;
  }
}
