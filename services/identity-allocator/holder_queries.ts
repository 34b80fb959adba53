/** Who holds what, read from the database: it is asked for by people and by nodes that repair, not by every call. @module */
import { sql } from "kysely";
import { Holder, type Identity } from "@weir/proto/identity";
import type { Database } from "@weir/common/state";

/** What a node holds, or every node, by node and holder. */
export async function fetchHolders(database: Database, node?: string): Promise<Holder[]> {
  const where = node === undefined ? sql`` : sql`where node = ${node}`;
  const { rows } = await database.query((kysely) =>
    sql<Holder>`select node, holder, number from weir_holder ${where} order by node, holder`.execute(kysely)
  );
  return rows.map((row) => Holder.create(row));
}

/** How many endpoints hold each of these identities; those that none holds are absent. */
export async function fetchHolderCounts(
  database: Database,
  identities: readonly Identity[],
): Promise<Map<number, number>> {
  const one = identities.length === 1 ? sql`where number = ${identities[0].number}` : sql``;
  const { rows } = await database.query((kysely) =>
    sql<{ number: number; count: string }>`
      select number, count(*) as count from weir_holder ${one} group by number`.execute(kysely)
  );
  return new Map(rows.map((row) => [row.number, Number(row.count)]));
}
