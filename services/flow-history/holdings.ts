/** What held at a time, by pages. @module */
import { ProblemError } from "@weir/common";
import { sql } from "kysely";
import type { Database } from "@weir/common/state";
import { wordOf } from "./word.ts";
import { Holding } from "@weir/proto/history";

/** What is asked. */
export interface HoldingsRequest {
  readonly atMs: number;
  readonly kind: string | undefined;
  readonly name: string | undefined;
  /** The `next` of the page before. */
  readonly after: string | undefined;
  readonly limit: number;
}

interface Row {
  kind: string;
  name: string;
  since_ms: string | number;
  until_ms: string | number | null;
  since_exact: number;
  until_exact: number;
  body: Uint8Array;
}

/** A page, by kind and name. @throws {ProblemError} QUERY_INVALID */
export async function holdingsAt(database: Database, request: HoldingsRequest): Promise<{
  holdings: Holding[];
  next: string;
  atUnixS: number;
  knownSinceUnixS: number;
}> {
  const { limit, kind, name } = request, at = Math.floor(Math.max(0, request.atMs));
  const [afterKind, afterName] = readAfter(request.after);
  return await database.query(async (db) => {
    const { rows } = await sql<Row>`
      select kind, name, since_ms, until_ms, since_exact, until_exact, body from weir_history_held
      where since_ms <= ${at} and (until_ms is null or until_ms > ${at}) and (kind, name) > (${afterKind}, ${afterName})
      ${kind === undefined ? sql`` : sql`and kind = ${kind}`} ${
      name === undefined ? sql`` : sql`and name = ${name}`
    }
      order by kind, name limit ${limit}`.execute(db);
    const oldest = await sql<{ since: string | number | null }>`
      select min(since_ms) as since from weir_history_held`.execute(db);
    const last = rows.at(-1);
    return {
      holdings: rows.map(holdingOf),
      next: rows.length < limit || last === undefined ? "" : JSON.stringify([last.kind, last.name]),
      atUnixS: at / 1000,
      knownSinceUnixS: Number(oldest.rows[0].since ?? 0) / 1000,
    };
  });
}

function holdingOf({ kind, name, since_ms, until_ms, since_exact, until_exact, body }: Row): Holding {
  return Holding.create({
    kind,
    name,
    sinceUnixS: Number(since_ms) / 1000,
    untilUnixS: until_ms === null ? 0 : Number(until_ms) / 1000,
    sinceExact: Number(since_exact) === 1,
    untilExact: Number(until_exact) === 1,
    object: body,
  });
}

function readAfter(text: string | undefined): [string, string] {
  if (text === undefined) return ["", ""];
  try {
    const [kind, name] = JSON.parse(text);
    if (typeof kind === "string" && typeof name === "string") return [wordOf(kind), wordOf(name)];
  } catch {
    // Said below.
  }
  throw new ProblemError("QUERY_INVALID", {
    status: 400,
    detail: `Cannot take after=${text.slice(0, 80)}: expected the "next" of a page before`,
    found: text.slice(0, 80),
    expected: "the next of a page",
  });
}
