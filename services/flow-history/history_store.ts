/**
 * The history's tables: what is written goes in one transaction, whole or not at all.
 * @module
 */
import { sql, type Transaction } from "kysely";
import { ProblemError } from "@weir/common";
import { type Database, DATABASE_STATEMENT_MS_MAX } from "@weir/common/state";
import type { Block } from "./block.ts";
import type { CountChanges } from "./counts.ts";
import { encodeEnd, type KnownEnd } from "./end_table.ts";
import type { HeldChange } from "./held_objects.ts";
import { formatItems } from "./item_set.ts";
import { isRefusal } from "./store_error.ts";
import { insertRollup, setState, storedBytes, writeCounts, writeHeld } from "./history_rows.ts";
import { unpackRows } from "./rollup_columns.ts";
import { type RollupPart, sumRows } from "./rollup_table.ts";
import type { OldBlocks } from "./posting_cursor.ts";
import { MIGRATIONS, OLD_WORDS } from "./schema.ts";

type Tx = Transaction<unknown>;

/** What is written at once. */
export interface WriteBatch {
  /** Of this batch alone: it is told by it when it is written again, since the answer to the first time may be what was lost. */
  readonly id: string;
  readonly blocks: readonly Block[];
  readonly ends: readonly KnownEnd[];
  readonly rollups: readonly RollupPart[];
  readonly counts: CountChanges;
  readonly held: readonly HeldChange[];
  /** Packed connections that go on; undefined: as they were. */
  readonly open: readonly Uint8Array[] | undefined;
  /** Rows of weir_history_state. */
  readonly state: ReadonlyMap<string, string>;
}

/** What a start finds. */
export interface Loaded {
  readonly nextBlock: number;
  /** Of the newest flow, Unix milliseconds; 0: none. */
  readonly newestMs: number;
  readonly state: ReadonlyMap<string, string>;
  readonly openGaps: readonly { node: string; sinceMs: number }[];
  readonly open: readonly Uint8Array[];
}

/** What is stored, and what it takes. */
export interface Usage {
  readonly flows: number;
  /** Bytes of blocks with their words; of all else. */
  readonly blocks: number;
  readonly others: number;
  /** 0: nothing. */
  readonly oldestMs: number;
  readonly newestMs: number;
  /** Infinity: nothing. */
  readonly rollupOldestMs: number;
}

/** A part of a batch that the database refuses for what it says, whatever one tries. */
export interface Refused {
  readonly kind: "block" | "end" | "rollup" | "counts" | "held" | "open" | "state";
  readonly block?: Block;
  readonly rollup?: RollupPart;
  readonly error: unknown;
}

interface OldBlock {
  id: string | number;
  until_ms: string | number;
  bytes: string | number;
  terms: string;
}

/** Minutes of the coarser sums, by level. */
export const ROLLUP_LEVELS = [10, 60] as const;
/** Rows that one statement reads. */
const ROWS_AT_ONCE = 5000;
const WRITER = "writer", BATCH = "batch";
/** Who has not written for so long has lost the right to; by the database's clock. */
export const CLAIM_MS = 15_000;
const COMPACTED = (level: number) => `compacted-${level}`;
/** A coarser sum is made so long after its end, in seconds: late minutes are in it. */
const COMPACT_AFTER_S = 120;

/** The history's tables. */
export class HistoryStore {
  readonly database: Database;
  /** Names this process among those that share a database. */
  readonly owner: string;
  /** Level -> sums from here on are not made yet, in Unix seconds. */
  readonly #compacted = new Map<number, number>();
  /** Blocks of older versions; undefined: there were none. */
  oldBlocks: OldBlocks | undefined;

  constructor(database: Database, owner: string) {
    this.database = database;
    this.owner = owner;
  }

  /**
   * Makes the tables, and takes the right to write them, which one process of those that share a PostgreSQL has; a SQLite file is one
   * process's own. Gives who has it. @throws {ProblemError}
   */
  async claim(): Promise<string> {
    await this.database.migrate(MIGRATIONS);
    if (this.database.kind === "sqlite") return this.owner;
    return await this.database.transaction(async (tx) => {
      await sql`select pg_advisory_xact_lock(7712)`.execute(tx);
      const { rows: [{ now }] } = await sql<{ now: string | number }>`
        select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now`.execute(tx);
      const { rows: [known] } = await sql<{ value: string }>`
        select value from weir_history_state where name = ${WRITER}`.execute(tx);
      const [owner, untilMs] = known?.value.split(" ") ?? [this.owner, "0"];
      if (owner !== this.owner && Number(untilMs) > Number(now)) return owner;
      await setState(tx, WRITER, `${this.owner} ${Number(now) + CLAIM_MS}`);
      return this.owner;
    });
  }

  /** Reads where it goes on. @throws {ProblemError} */
  async load(onEnds: (rows: { id: number; body: Uint8Array; lastMs: number }[]) => void): Promise<Loaded> {
    const state = new Map<string, string>();
    for (let after = -1;;) {
      const { rows } = await this.database.query((db) =>
        sql<{ id: number; body: Uint8Array; last_ms: string | number }>`
          select id, body, last_ms from weir_history_end where id > ${after} order by id limit ${ROWS_AT_ONCE}`
          .execute(db)
      );
      onEnds(rows.map(({ id, body, last_ms }) => ({ id: Number(id), body, lastMs: Number(last_ms) })));
      if (rows.length < ROWS_AT_ONCE) break;
      after = Number(rows[rows.length - 1].id);
    }
    return await this.database.query(async (db) => {
      const words = await sql<{ name: string; value: string }>`select name, value from weir_history_state`
        .execute(db);
      for (const { name, value } of words.rows) state.set(name, value);
      for (const level of ROLLUP_LEVELS) this.#compacted.set(level, Number(state.get(COMPACTED(level)) ?? 0));
      const [oldBlock, oldMs] = state.get(OLD_WORDS)?.split(" ").map(Number) ?? [];
      if (oldMs !== undefined) this.oldBlocks = { block: oldBlock, untilMs: oldMs };
      const newest = await sql<{ id: string | number | null; until_ms: string | number | null }>`
        select (select max(id) from weir_history_block) as id,
          (select max(until_ms) from weir_history_block where kind = 'f') as until_ms`.execute(db);
      const gaps = await sql<{ node: string; since_ms: string | number }>`
        select node, since_ms from weir_history_gap where until_ms is null`.execute(db);
      const open = await sql<{ body: Uint8Array }>`select body from weir_history_open order by part`.execute(
        db,
      );
      return {
        nextBlock: Number(newest.rows[0].id ?? 0) + 1,
        newestMs: Number(newest.rows[0].until_ms ?? 0),
        state,
        openGaps: gaps.rows.map(({ node, since_ms }) => ({ node, sinceMs: Number(since_ms) })),
        open: open.rows.map(({ body }) => body),
      };
    });
  }

  /**
   * Writes a batch, once however often it is called with it. What the database refuses for what it says is left out, and told.
   * @throws {ProblemError} nothing of it is written, or it is not known whether it is
   */
  async write(batch: WriteBatch): Promise<Refused[]> {
    const writeParts = (each: Each) =>
      this.database.transaction(async (tx) => {
        if (this.database.kind === "postgres") await this.#renewClaim(tx);
        // Behind the claim's lock: a commit whose answer was lost has ended by now, well or not.
        const { rows: [last] } = await sql<{ value: string }>`
          select value from weir_history_state where name = ${BATCH}`.execute(tx);
        if (last?.value === batch.id) return;
        await this.#writeParts(tx, batch, each);
        await setState(tx, BATCH, batch.id);
      });
    try {
      await writeParts((_, write) => write());
      return [];
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
    const refused: Refused[] = [];
    await writeParts(async (part, write, tx) => {
      await sql`savepoint part`.execute(tx);
      try {
        await write();
        await sql`release savepoint part`.execute(tx);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        await sql`rollback to savepoint part`.execute(tx);
        refused.push({ ...part, error });
      }
    });
    return refused;
  }

  async #writeParts(tx: Tx, batch: WriteBatch, each: Each): Promise<void> {
    for (const block of batch.blocks) {
      await each({ kind: "block", block }, () => this.#insertBlock(tx, block), tx);
    }
    for (const end of batch.ends) {
      await each({ kind: "end" }, async () => {
        await sql`insert into weir_history_end (id, body, last_ms)
          values (${end.id}, ${encodeEnd(end)}, ${Math.floor(end.lastMs)})
          on conflict (id) do update set last_ms = excluded.last_ms`.execute(tx);
      }, tx);
    }
    for (const rollup of batch.rollups) {
      await each({ kind: "rollup", rollup }, async () => {
        const { startS, rows } = rollup;
        await insertRollup(tx, 1, startS, rows);
        for (const level of ROLLUP_LEVELS) {
          const coarse = startS - startS % (level * 60);
          if (coarse < (this.#compacted.get(level) ?? 0)) await insertRollup(tx, level, coarse, rows);
        }
      }, tx);
    }
    await each({ kind: "counts" }, () => writeCounts(tx, batch.counts), tx);
    for (const change of batch.held) await each({ kind: "held" }, () => writeHeld(tx, change), tx);
    const { open } = batch;
    if (open !== undefined) {
      await each({ kind: "open" }, async () => {
        await sql`delete from weir_history_open`.execute(tx);
        for (const [part, body] of open.entries()) {
          await sql`insert into weir_history_open (part, body) values (${part}, ${body})`.execute(tx);
        }
      }, tx);
    }
    for (const [name, value] of batch.state) {
      await each({ kind: "state" }, () => setState(tx, name, value), tx);
    }
  }

  /** Renames a SQLite file that is damaged, in the place of one before; gives its name. What opens it next begins with an empty one. */
  setAside(): string {
    const path = this.database.url.replace(/^sqlite:(\/\/)?/, ""), aside = `${path}.damaged`;
    Deno.renameSync(path, aside);
    // What the log has is of this file alone.
    for (const suffix of ["-wal", "-shm"]) {
      try {
        Deno.renameSync(`${path}${suffix}`, `${aside}${suffix}`);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    return aside;
  }

  /** Makes one coarser sum that is due. False when none is. */
  async compact(nowMs: number): Promise<boolean> {
    for (const level of ROLLUP_LEVELS) {
      const widthS = level * 60, finer = level === 10 ? 1 : 10;
      const endS = Math.floor(nowMs / 1000) - COMPACT_AFTER_S;
      const known = this.#compacted.get(level) ?? 0;
      const made = await this.database.transaction(async (tx) => {
        const { rows: [{ next }] } = await sql<{ next: string | number | null }>`
          select min(start_s) as next from weir_history_rollup
          where level = ${finer} and start_s >= ${known}`.execute(tx);
        if (next === null) return undefined;
        const startS = Number(next) - Number(next) % widthS;
        if (startS + widthS > endS || startS < known) return undefined;
        // The finer sums of its last part must be made themselves.
        if (finer === 10 && startS + widthS > (this.#compacted.get(10) ?? 0)) return undefined;
        const { rows } = await sql<{ body: Uint8Array }>`select body from weir_history_rollup
          where level = ${finer} and start_s >= ${startS} and start_s < ${startS + widthS}`.execute(tx);
        await insertRollup(tx, level, startS, sumRows(rows.map(({ body }) => unpackRows(body))));
        await setState(tx, COMPACTED(level), `${startS + widthS}`);
        return startS + widthS;
      });
      if (made === undefined) continue;
      this.#compacted.set(level, made);
      return true;
    }
    return false;
  }

  /** Up to where the sums of a level are made, in Unix seconds. */
  compactedS(level: number): number {
    return this.#compacted.get(level) ?? 0;
  }

  /** What holds still, as it is written. */
  async holding(): Promise<{ kind: string; name: string; body: Uint8Array }[]> {
    const { rows } = await this.database.query((db) =>
      sql<{ kind: string; name: string; body: Uint8Array }>`
        select kind, name, body from weir_history_held where until_ms is null`.execute(db)
    );
    return rows;
  }

  /** What is stored, and what it takes. */
  async usage(): Promise<Usage> {
    return await this.database.query(async (db) => {
      const blocks = await sql<Record<string, string | number | null>>`
        select kind, sum(items) as items, sum(bytes) as bytes, min(since_ms) as since, max(until_ms) as until
        from weir_history_block group by kind`.execute(db);
      const others = await sql<Record<string, string | number | null>>`
        select (select coalesce(sum(bytes), 0) from weir_history_rollup) as rollups,
          (select coalesce(sum(length(body) + 100), 0) from weir_history_held) as held,
          (select min(start_s) from weir_history_rollup) as since,
          (select count(*) from weir_history_minute) as minutes,
          (select count(*) from weir_history_end) as ends`.execute(db);
      const flows = blocks.rows.find(({ kind }) => kind === "f"), [other] = others.rows;
      const since = blocks.rows.map((row) => Number(row.since)),
        until = blocks.rows.map((row) => Number(row.until));
      return {
        flows: Number(flows?.items ?? 0),
        blocks: blocks.rows.reduce((sum, row) => sum + Number(row.bytes), 0),
        others: Number(other.rollups) + Number(other.held) + 60 * Number(other.minutes) +
          300 * Number(other.ends),
        oldestMs: since.length === 0 ? 0 : Math.min(...since),
        newestMs: until.length === 0 ? 0 : Math.max(...until),
        rollupOldestMs: other.since === null ? Infinity : Number(other.since) * 1000,
      };
    });
  }

  /** Drops up to `count` of the oldest blocks that ended before `beforeMs`, of the kind that reaches back further. */
  async dropOldestBlocks(count: number, beforeMs: number): Promise<{ count: number; bytes: number }> {
    return await this.database.transaction(async (tx) => {
      const before = Math.min(beforeMs, Number.MAX_SAFE_INTEGER);
      const found: OldBlock[][] = [];
      for (const kind of ["f", "c"]) {
        const { rows } = await sql<OldBlock>`select id, until_ms, bytes, terms from weir_history_block
          where kind = ${kind} and until_ms < ${Math.floor(before)} order by until_ms, id limit ${count}`
          .execute(tx);
        if (rows.length > 0) found.push(rows);
      }
      const [rows = []] = found.sort(([a], [b]) => Number(a.until_ms) - Number(b.until_ms));
      const words = sql.raw(
        this.database.kind === "sqlite" ? "json_each" : "json_array_elements_text",
      );
      for (const { id, until_ms, terms } of rows) {
        const list = this.database.kind === "sqlite" ? sql`${terms}` : sql`cast(${terms} as json)`;
        await sql`delete from weir_history_posting where until_ms = ${Number(until_ms)} and block = ${
          Number(id)
        }
          and term in (select value from ${words}(${list}))`.execute(tx);
        await sql`delete from weir_history_block where id = ${Number(id)}`.execute(tx);
      }
      return { count: rows.length, bytes: rows.reduce((sum, { bytes }) => sum + Number(bytes), 0) };
    });
  }

  /** Drops sums, counts, gaps and what held no longer before `beforeMs`. */
  async dropOldRows(beforeMs: number): Promise<void> {
    const ms = Math.floor(beforeMs), s = Math.floor(beforeMs / 1000);
    await this.database.transaction(async (tx) => {
      await sql`delete from weir_history_rollup where start_s < ${s}`.execute(tx);
      await sql`delete from weir_history_minute where minute_s < ${s}`.execute(tx);
      await sql`delete from weir_history_loss where minute_s < ${s}`.execute(tx);
      await sql`delete from weir_history_gap where until_ms < ${ms}`.execute(tx);
      await sql`delete from weir_history_held where until_ms < ${ms}`.execute(tx);
    });
  }

  /** Drops the oldest sums, about `count` rows, whatever their level; gives the bytes. */
  async dropOldestRollups(count: number): Promise<number> {
    return await this.database.transaction(async (tx) => {
      const { rows } = await sql<{ start_s: string | number; bytes: string | number }>`
        select start_s, bytes from weir_history_rollup order by start_s limit ${count}`.execute(tx);
      if (rows.length === 0) return 0;
      const last = Number(rows[rows.length - 1].start_s);
      await sql`delete from weir_history_rollup where start_s <= ${last}`.execute(tx);
      return rows.reduce((sum, { bytes }) => sum + Number(bytes), 0);
    });
  }

  async #renewClaim(tx: Tx): Promise<void> {
    const { rows } = await sql`update weir_history_state
      set value = ${`${this.owner} `} || cast(cast(extract(epoch from clock_timestamp()) * 1000 as bigint) + ${CLAIM_MS} as text)
      where name = ${WRITER} and value like ${`${this.owner} %`} returning name`.execute(tx);
    if (rows.length === 1) return;
    throw new ProblemError("CLAIM_LOST", {
      status: 503,
      detail: "Cannot write the history: another process writes it since this one was silent",
      action: "It begins anew, and waits for its turn",
    });
  }

  async #insertBlock(tx: Tx, block: Block): Promise<void> {
    const { id, kind, sinceMs, untilMs, count, terms, body } = block;
    await sql`insert into weir_history_block (id, kind, since_ms, until_ms, items, bytes, terms, body)
      values (${id}, ${kind}, ${sinceMs}, ${untilMs}, ${count}, ${storedBytes(block)},
        ${JSON.stringify([...terms.keys()])}, ${body})`.execute(tx);
    const words = JSON.stringify([...terms].map(([term, items]) => [term, formatItems(items)]));
    if (this.database.kind === "sqlite") {
      await sql`insert into weir_history_posting (term, until_ms, block, items)
        select json_extract(value, '$[0]'), ${untilMs}, ${id}, json_extract(value, '$[1]')
        from json_each(${words})`.execute(tx);
    } else {
      await sql`insert into weir_history_posting (term, until_ms, block, items)
        select word->>0, cast(${untilMs} as bigint), cast(${id} as bigint), word->>1
        from json_array_elements(cast(${words} as json)) as word`.execute(tx);
    }
  }
}

/** Writes one part of a batch. */
type Each = (part: Omit<Refused, "error">, write: () => Promise<void>, tx: Tx) => Promise<void>;

/** Longest time in which a write has ended, well or not. */
export const WRITE_MS_MAX = 12 * DATABASE_STATEMENT_MS_MAX;
