/**
 * Which number is handed out next, and whether one may be handed out at all. A database may have been emptied or replaced
 * by an older copy while endpoints run; then it does not know which numbers they use.
 *
 * - A process that has loaded begins {@link NUMBERS_SKIPPED} beyond the stored cursor, in a database without one at a random
 *   place: numbers of an earlier life stand at the cursor.
 * - Evidence of a past that the database does not know begins the grace: for `claimGraceS` nothing but claims makes numbers.
 * - A number that was claimed and not granted is kept until its endpoint has had time to move.
 * - A number that an address in the ipcache has is nobody else's, whatever the table of identities says.
 *
 * Times end by the steady clock of this process: what another one wrote is compared once, when it is seen, and then counted down.
 *
 * @module
 */
import { sql, type Transaction } from "kysely";
import {
  IDENTITY_ALLOCATED_MAX,
  IDENTITY_ALLOCATED_MIN,
  IDENTITY_CLUSTER_SHIFT,
  ProblemError,
  steadyUnixSeconds,
} from "@weir/common";
import type { AllocatorParts } from "./config.ts";

/** How far beyond the cursor a process begins that has loaded: identities that may have been made since the copy was taken. */
export const NUMBERS_SKIPPED = 4096;
/** Numbers that one node may keep from being handed out. */
export const CLAIMED_PER_NODE_MAX = 4095;
/** A claimed number that was not granted is kept this long. */
export const CLAIMED_KEPT_S = 300;
/** A grace begins again at the earliest after this many times its length: a node that lies cannot stop the cluster. */
export const GRACE_PAUSE_FACTOR = 30;

/** What choosing a number needs. */
export interface NumberSurroundings {
  /** 0 to 1, without 1. */
  random: () => number;
  /** Whether the ipcache has entries with the number. */
  isAnnounced: (number: number) => boolean;
}

/** Gives numbers to new identities. One for each process. */
export class NumberSource {
  readonly #parts: AllocatorParts;
  readonly #around: NumberSurroundings;
  /** Unix seconds that do not jump. */
  readonly #nowUnixS: () => number;
  #loaded = true;
  /** The stored end of the grace as it was seen last, and when that is by this process's clock. */
  #grace: { until: number; endUnixS: number } | undefined;
  /** No grace begins before this time, in Unix seconds. For all that this process knows: the database decides. */
  #nextGraceUnixS = 0;

  constructor(parts: AllocatorParts, around: NumberSurroundings) {
    this.#parts = parts;
    this.#around = around;
    this.#nowUnixS = steadyUnixSeconds(parts.clock);
  }

  /** Numbers of this cluster, both ends included. */
  get range(): { min: number; max: number } {
    const base = this.#parts.config.clusterId << IDENTITY_CLUSTER_SHIFT;
    return { min: base + IDENTITY_ALLOCATED_MIN, max: base + IDENTITY_ALLOCATED_MAX };
  }

  /** The tables were loaded (again): what was handed out before may be unknown to them. */
  reset(): void {
    this.#loaded = true;
    this.#grace = undefined;
    this.#nextGraceUnixS = 0;
  }

  /** Makes a number for labels that have none. @throws {ProblemError} CLAIMS_PENDING, IDENTITIES_EXHAUSTED */
  async take(tx: Transaction<unknown>, labels: string): Promise<number> {
    const waitS = await this.graceLeftS(tx);
    if (waitS > 0) throw claimsPending(waitS);
    const { min, max } = this.range;
    const { rows } = await sql<{ next: number }>`select next from weir_identity_cursor where id = 1`.execute(
      tx,
    );
    const from = this.#begin(rows[0]?.next, min, max);
    await sql`delete from weir_claimed_number where until_unix_s <= ${this.#nowUnixS()}`
      .execute(tx);
    const number = await this.#free(tx, from, max) ?? await this.#free(tx, min, from - 1);
    if (number === undefined) throw exhausted();
    await this.insert(tx, number, labels);
    await sql`insert into weir_identity_cursor (id, next) values (1, ${number + 1})
      on conflict (id) do update set next = excluded.next`.execute(tx);
    // A transaction that fails after this begins where it would have begun, or a little later.
    this.#loaded = false;
    return number;
  }

  /** Writes a number that the caller has seen to be free. */
  async insert(tx: Transaction<unknown>, number: number, labels: string): Promise<void> {
    await sql`insert into weir_identity (number, labels, released_unix_s) values (${number}, ${labels}, 0)`
      .execute(tx);
    await sql`delete from weir_claimed_number where number = ${number}`.execute(tx);
  }

  /** Keeps a claimed number from being handed out. Does nothing when the node has as many as it may. */
  async keep(tx: Transaction<unknown>, node: string, number: number): Promise<void> {
    const { min, max } = this.range;
    if (number < min || number > max) return;
    const until = this.#nowUnixS() + CLAIMED_KEPT_S;
    await sql`insert into weir_claimed_number (number, node, until_unix_s)
      select ${sql.val(number)}, ${sql.val(node)}, ${sql.val(until)}
      where (select count(*) from weir_claimed_number where node = ${node}) < ${CLAIMED_PER_NODE_MAX}
      on conflict (number) do update set until_unix_s = excluded.until_unix_s`.execute(tx);
  }

  /** Whether it is worth a transaction to say that somebody knows of a past. */
  get mayBeginGrace(): boolean {
    return this.#parts.config.claimGraceS > 0 && this.#nowUnixS() >= this.#nextGraceUnixS;
  }

  /** Somebody knows of a past that the database does not: from now on claims come first, for the grace. */
  async sawPast(tx: Transaction<unknown>): Promise<void> {
    const { claimGraceS } = this.#parts.config;
    if (claimGraceS === 0) return;
    const now = this.#nowUnixS();
    const { rows } = await sql<{ until_unix_s: number }>`
      select until_unix_s from weir_claim_grace where id = 1`.execute(tx);
    const untilBefore = Number(rows[0]?.until_unix_s ?? 0);
    // Beyond what this process could have written: a clock that went back.
    const sane = untilBefore <= now + claimGraceS;
    const until = sane && now < untilBefore + claimGraceS * GRACE_PAUSE_FACTOR
      ? untilBefore
      : now + claimGraceS;
    this.#nextGraceUnixS = until + claimGraceS * GRACE_PAUSE_FACTOR;
    if (until === untilBefore) return;
    await sql`insert into weir_claim_grace (id, until_unix_s) values (1, ${until})
      on conflict (id) do update set until_unix_s = excluded.until_unix_s`.execute(tx);
  }

  /** Seconds for which nothing but claims makes numbers; 0: none. */
  async graceLeftS(tx: Transaction<unknown>): Promise<number> {
    const { claimGraceS } = this.#parts.config;
    const { rows } = await sql<{ until_unix_s: number }>`
      select until_unix_s from weir_claim_grace where id = 1`.execute(tx);
    const until = Number(rows[0]?.until_unix_s ?? 0), now = this.#nowUnixS();
    if (until !== this.#grace?.until) {
      // One that changed while this process looked has just begun, whatever clock it was written by.
      const left = this.#grace !== undefined ? claimGraceS : Math.min(claimGraceS, Math.max(0, until - now));
      this.#grace = { until, endUnixS: until === 0 ? 0 : now + left };
    }
    return Math.max(0, this.#grace.endUnixS - now);
  }

  async #free(tx: Transaction<unknown>, from: number, to: number): Promise<number | undefined> {
    let number = await firstFree(tx, from, to);
    while (number !== undefined && this.#around.isAnnounced(number)) {
      number = await firstFree(tx, number + 1, to);
    }
    return number;
  }

  #begin(cursor: number | undefined, min: number, max: number): number {
    const count = max - min + 1;
    if (cursor === undefined) return min + Math.floor(this.#around.random() * count);
    const skipped = this.#loaded ? NUMBERS_SKIPPED : 0;
    return min + ((((cursor - min + skipped) % count) + count) % count);
  }
}

function claimsPending(waitS: number): ProblemError {
  return new ProblemError("CLAIMS_PENDING", {
    status: 503,
    detail: `Cannot allocate a new identity: the numbers of running endpoints are claimed first, for ${
      Math.ceil(waitS)
    } s more`,
    found: "a database that does not know what nodes use",
    action: "It is retried; labels that have a number get it at once",
  });
}

function exhausted(): ProblemError {
  const size = IDENTITY_ALLOCATED_MAX - IDENTITY_ALLOCATED_MIN + 1;
  return new ProblemError("IDENTITIES_EXHAUSTED", {
    status: 507,
    detail: `Cannot allocate an identity: all ${size} numbers are in use`,
    found: size,
    expected: `fewer than ${size} distinct label sets`,
    action: "Let the label filter leave out labels that differ from workload to workload",
  });
}

/** The smallest free number from `from` to `to`: `from` itself, or the end of the first gapless run. */
async function firstFree(tx: Transaction<unknown>, from: number, to: number): Promise<number | undefined> {
  if (from > to) return undefined;
  const taken = await sql`select 1 from weir_identity where number = ${from}
    union all select 1 from weir_claimed_number where number = ${from}`.execute(tx);
  if (taken.rows.length === 0) return from;
  const { rows } = await sql<{ number: number | null }>`
    select min(a.number) + 1 as number
    from (select number from weir_identity union all select number from weir_claimed_number) a
    where a.number >= ${from} and a.number < ${to}
      and not exists (select 1 from weir_identity b where b.number = a.number + 1)
      and not exists (select 1 from weir_claimed_number c where c.number = a.number + 1)`.execute(tx);
  return rows[0].number ?? undefined;
}
