/**
 * When nodes were heard of. A heartbeat goes to memory; one statement each second writes those of all nodes, so that other
 * replicas see them.
 *
 *     heard(node) ──▶ pending ── each second ──▶ weir_heartbeat ◀── the other replicas'
 *                                                      │
 *                       a row that changed is a sign of life, at the time when this process sees it
 *
 * No clock of another machine is compared with this one's: silence is the time for which this process has seen no change,
 * and only while it could see one. It begins anew when the process was stopped, or the database away.
 * @module
 */
import { type RawBuilder, sql } from "kysely";
import { type Clock, unixSeconds } from "@weir/common";
import type { Database } from "@weir/common/state";

/** Between two writes, and between two looks at the clock. */
export const HEARTBEAT_WRITE_MS = 1000;
/** A look at the clock that is late by this much means that the process stood still. */
const STOOD_STILL_MS = 5000;

/** Anything that runs a statement of kysely's `sql`: a transaction, or the database itself. */
export type Executor = Parameters<RawBuilder<unknown>["execute"]>[0];

/** For how long each node has been silent. */
export class NodeHeartbeats {
  readonly #clock: Clock;
  /** The stored value of each row, and when this process saw it change. */
  readonly #seen = new Map<string, { unixS: number; atMs: number }>();
  /** Nodes that were heard since the last write, with the wall clock then. */
  #pending = new Map<string, number>();
  #listeningSinceMs: number;
  #lookedMs: number;
  #failed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#listeningSinceMs = this.#lookedMs = clock.monotonicMs();
  }

  /** The node was heard of now. */
  heard(node: string): void {
    const unixS = unixSeconds(this.#clock);
    this.#pending.set(node, unixS);
    this.#seen.set(node, { unixS, atMs: this.#clock.monotonicMs() });
  }

  /** When a node was heard of last by this process's own ears, in Unix seconds; 0: never. */
  heardUnixS(node: string): number {
    return this.#seen.get(node)?.unixS ?? 0;
  }

  /** A look at the clock, each second: silence while the process stood still does not count. */
  tick(): void {
    const now = this.#clock.monotonicMs();
    if (now - this.#lookedMs > HEARTBEAT_WRITE_MS + STOOD_STILL_MS) this.#listeningSinceMs = now;
    this.#lookedMs = now;
  }

  /** Writes what is pending, with one statement. What could not be written stays pending. */
  async write(database: Database): Promise<void> {
    if (this.#pending.size === 0) return;
    const written = this.#pending;
    this.#pending = new Map();
    const text = JSON.stringify([...written]);
    const rows = database.kind === "postgres"
      ? sql`select value->>0, (value->>1)::double precision from json_array_elements(${text}::json)`
      : sql`select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(${text}) where true`;
    const statement = sql`insert into weir_heartbeat (node, unix_s) ${rows}
      on conflict (node) do update set unix_s = excluded.unix_s`;
    try {
      await database.query((kysely) => statement.execute(kysely));
      this.worked();
    } catch (error) {
      for (const [node, unixS] of written) if (!this.#pending.has(node)) this.#pending.set(node, unixS);
      this.#failed = true;
      throw error;
    }
  }

  /** The database answered: silence while it was away does not count. */
  worked(): void {
    if (this.#failed) this.#listeningSinceMs = this.#clock.monotonicMs();
    this.#failed = false;
  }

  /** The database did not answer: what the other replicas heard is not known. */
  failed(): void {
    this.#failed = true;
  }

  /** Takes note of what is stored, and answers the nodes that were silent for `ttlS`. */
  silent(stored: ReadonlyMap<string, number>, ttlS: number): string[] {
    const now = this.#clock.monotonicMs();
    for (const node of this.#seen.keys()) {
      if (!stored.has(node) && !this.#pending.has(node)) this.#seen.delete(node);
    }
    const silent: string[] = [];
    for (const [node, unixS] of stored) {
      // A row that is new to this process was changed now, for all that it knows.
      if (this.#seen.get(node)?.unixS !== unixS && !this.#pending.has(node)) {
        this.#seen.set(node, { unixS, atMs: now });
      }
      const atMs = this.#seen.get(node)?.atMs ?? now;
      if (Math.max(atMs, this.#listeningSinceMs) + ttlS * 1000 <= now) silent.push(node);
    }
    return silent;
  }

  /** The node is no longer listened for. */
  forget(node: string): void {
    this.#pending.delete(node);
    this.#seen.delete(node);
  }
}

/** The stored heartbeats, in Unix seconds of whoever heard them. */
export async function fetchHeartbeats(executor: Executor): Promise<Map<string, number>> {
  const { rows } = await sql<{ node: string; unix_s: number }>`select node, unix_s from weir_heartbeat`
    .execute(executor);
  return new Map(rows.map((row) => [row.node, Number(row.unix_s)]));
}
