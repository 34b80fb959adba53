/**
 * From a CQL text to what the rules are asked about it: the same for the proxy, and for who asks what the proxy would say.
 * @module
 */
import type { CassandraStatement } from "../request.ts";
import { CqlError } from "./cql_lexer.ts";
import { type CqlStatement, type CqlText, readCql } from "./cql_statement.ts";

/** A text that cannot be read: only who may do anything may run it. */
export const UNREAD_ACTION = "unknown";

/** A text as it is judged. */
export interface CqlQuestion {
  readonly text: CqlText;
  /** Why the text could not be read; "". Its one statement has the action {@link UNREAD_ACTION} then. */
  readonly unread: string;
}

/** Reads a text; one that cannot be read is a question too. */
export function readCqlQuestion(text: string): CqlQuestion {
  try {
    return { text: readCql(text), unread: "" };
  } catch (error) {
    if (!(error instanceof CqlError)) throw error;
    const statements = [{ action: UNREAD_ACTION, keyspace: "", table: "", scope: "none" } as const];
    return { text: { statements, use: null }, unread: error.message };
  }
}

/**
 * What a statement is done to: `keyspace.table`; the table alone where no keyspace is known; the keyspace; "" where
 * there is none. @param connection keyspace of the connection, "" for none
 */
export function cqlTargetOf({ keyspace, table, scope }: CqlStatement, connection: string): string {
  if (scope !== "table") return keyspace;
  const within = keyspace === "" ? connection : keyspace;
  return within === "" ? table : `${within}.${table}`;
}

/** As rules see it. @param target of {@link cqlTargetOf} */
export function cassandraStatement(action: string, target: string): CassandraStatement {
  return {
    action: action === UNREAD_ACTION ? "" : action,
    table: target === "" ? undefined : target,
  };
}
