/**
 * The DNS names that stored flows and connections have, for filters with `*`: each name is looked up once, from one to the next.
 * @module
 */
import { sql } from "kysely";
import type { Database } from "@weir/common/state";
import type { BlockKind } from "./block.ts";
import type { KnownNames } from "./filter_plan.ts";
import type { MemoryBlock } from "./search.ts";

/** Names that are looked at; with more the flows are. */
export const NAMES_MAX = 2000;

/** Names of blocks in memory, which are taken first, and of the database. */
export function knownNames(database: Database, kind: BlockKind, memory: readonly MemoryBlock[]): KnownNames {
  return async (letter) => {
    const prefix = `${kind}${letter}`, names = new Set<string>();
    const take = (term: string) => names.add(term.slice(prefix.length + 1));
    for (const { terms } of memory) {
      for (const term of terms?.keys() ?? []) if (term.startsWith(`${prefix}:`)) take(term);
    }
    // Letters alone are the bounds: how a database orders punctuation is its own.
    const end = kind + String.fromCharCode(letter.charCodeAt(0) + 1);
    const { rows } = await database.query((db) =>
      sql<{ term: string }>`with recursive names(term) as (
          select min(term) from weir_history_posting where term > ${prefix} and term < ${end}
          union all
          select (select min(term) from weir_history_posting as next where next.term > names.term and next.term < ${end})
          from names where names.term is not null
        ) select term from names where term is not null limit ${NAMES_MAX + 1}`.execute(db)
    );
    for (const { term } of rows) take(term);
    return names.size > NAMES_MAX ? undefined : [...names];
  };
}
