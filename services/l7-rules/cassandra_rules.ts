/**
 * Rules about CQL statements: what a statement does, and to which table. `query_table` is searched for in `keyspace.table`. A name that was
 * not quoted has no case, so a rule may write it in any; one with capital letters was quoted, and is met only as it is.
 * @module
 */
import type { CassandraRule } from "@weir/proto/l7";
import {
  allowedBy,
  type CompiledRule,
  type Condition,
  deniedBy,
  type Judgement,
  means,
  shown,
} from "./judgement.ts";
import { compilePattern, RuleFault } from "./pattern.ts";
import type { CassandraRequest, CassandraStatement } from "./request.ts";

/** Actions on a table, or on a keyspace: `query_table` is possible. */
export const CASSANDRA_TABLE_ACTIONS: ReadonlySet<string> = new Set(
  ("select delete insert update create-table drop-table alter-table truncate-table use create-keyspace " +
    "alter-keyspace drop-keyspace").split(" "),
);

/** Actions on something else. */
export const CASSANDRA_OTHER_ACTIONS: ReadonlySet<string> = new Set(
  ("create-index drop-index create-materialized-view drop-materialized-view create-role alter-role drop-role " +
    "grant-role revoke-role list-roles grant-permission revoke-permission list-permissions create-user alter-user " +
    "drop-user list-users create-function drop-function create-aggregate drop-aggregate create-type alter-type " +
    "drop-type create-trigger drop-trigger").split(" "),
);

/** @throws {RuleFault} */
export function compileCassandraRule(rule: CassandraRule): CompiledRule<CassandraStatement> {
  const { queryAction, queryTable } = rule, conditions: Condition<CassandraStatement>[] = [];
  if (queryAction !== "") {
    if (!CASSANDRA_TABLE_ACTIONS.has(queryAction) && !CASSANDRA_OTHER_ACTIONS.has(queryAction)) {
      throw new RuleFault(`query_action ${shown(queryAction)} is none that is known`);
    }
    if (queryTable !== "" && !CASSANDRA_TABLE_ACTIONS.has(queryAction)) {
      throw new RuleFault(
        `query_action ${queryAction} is about no table, so query_table never means anything`,
      );
    }
    conditions.push({
      holds: ({ action }) => action === queryAction,
      lacks: ({ action }) => `${action || "a statement that is not known"} is not ${queryAction}`,
    });
  }
  if (queryTable !== "") {
    const exactly = compilePattern(queryTable), anyCase = compilePattern(queryTable, { ignoreCase: true });
    conditions.push({
      holds: ({ table }) =>
        table !== undefined &&
        (exactly.isPart(table) || (table === table.toLowerCase() && anyCase.isPart(table))),
      lacks: ({ table }) =>
        table === undefined
          ? `its table is not known, so it cannot be ${shown(queryTable)}`
          : `table ${shown(table)} is not ${shown(queryTable)}`,
    });
  }
  return { cookie: rule.cookie, conditions };
}

/**
 * Every statement must be in some rule. `use` always passes: it reads nothing, and every driver sends it; the keyspace counts where names
 * follow. @param deniedCookie of a request of which some statement is in no rule
 */
export function judgeCassandra(
  rules: readonly CompiledRule<CassandraStatement>[],
  { statements }: CassandraRequest,
  deniedCookie: number,
): Judgement {
  const denied: string[] = [];
  let cookie: number | undefined;
  for (const [at, statement] of statements.entries()) {
    const rule = rules.find((rule) => means(rule, statement));
    if (rule !== undefined) cookie ??= rule.cookie;
    else if (statement.action !== "use") denied.push(String(at));
  }
  if (statements.length === 0 || denied.length > 0) return deniedBy(deniedCookie, denied);
  return allowedBy(cookie ?? 0);
}

/** Questions about one statement whose answers are kept: a program has few tables, and asks about them without end. */
const KNOWN_MAX = 512;

/** {@link judgeCassandra} for one rule set. It depends on action and table alone, so what was asked before is not searched again. */
export function cassandraJudge(
  rules: readonly CompiledRule<CassandraStatement>[],
  deniedCookie: number,
): (request: CassandraRequest) => Judgement {
  const known = new Map<string, Judgement>();
  return (request) => {
    if (request.statements.length !== 1) return judgeCassandra(rules, request, deniedCookie);
    const { action, table } = request.statements[0];
    // An action has no blank in it; a table that is not known is none with an empty name.
    const key = table === undefined ? action : `${action} ${table}`;
    let judgement = known.get(key);
    if (judgement === undefined) {
      judgement = judgeCassandra(rules, request, deniedCookie);
      if (known.size >= KNOWN_MAX) known.delete(known.keys().next().value!);
      known.set(key, judgement);
    }
    return judgement;
  };
}
