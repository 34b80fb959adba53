/**
 * Identities and who holds them, within one transaction of the store.
 *
 *     labels ── filter ──▶ canonical text ── known? ──▶ its number
 *                                        └── new ────▶ a number of the source
 *     (node, holder) holds one number ── the node's sum of what it holds goes along
 *
 * @module
 */
import { sql } from "kysely";
import { Holder, type Holdings, Identity } from "@weir/proto/identity";
import { type LabelSet, ProblemError, SetDigest, unixSeconds } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AllocatorParts } from "./config.ts";
import type { NumberSource } from "./number_source.ts";
import type { UnusedIdentities } from "./unused_identities.ts";

/** Names of the watched collections. */
export const IDENTITIES = "identities";
export const HOLDINGS = "holdings";
/** Endpoints of one node that may hold identities: as many as a node may have. */
export const HOLDERS_PER_NODE_MAX = 4095;

/** Who holds. */
export interface HolderName {
  readonly node: string;
  readonly holder: string;
}

/** Gives holders their identities, and releases those that nobody holds. Call {@link IdentityWriter.finish} before the commit. */
export class IdentityWriter {
  readonly #store: StoreTransaction;
  readonly #parts: AllocatorParts;
  readonly #numbers: NumberSource;
  readonly #unused: UnusedIdentities;
  readonly #sums = new Map<string, SetDigest>();

  constructor(
    store: StoreTransaction,
    parts: AllocatorParts,
    { numbers, unused }: { numbers: NumberSource; unused: UnusedIdentities },
  ) {
    this.#store = store;
    this.#parts = parts;
    this.#numbers = numbers;
    this.#unused = unused;
  }

  /** Number of these labels, undefined when they have none. */
  async numberOf(labels: LabelSet): Promise<number | undefined> {
    const { rows } = await sql<{ number: number }>`
      select number from weir_identity where labels = ${labels.key}`.execute(this.#store.tx);
    return rows[0]?.number;
  }

  /** True when some labels have this number. */
  async isTaken(number: number): Promise<boolean> {
    const { rows } = await sql`select 1 from weir_identity where number = ${number}`.execute(this.#store.tx);
    return rows.length > 0;
  }

  /** The identity of these labels, made when it is new, held from now on. @throws {ProblemError} see the number source */
  async allocate(holder: HolderName, labels: LabelSet): Promise<{ identity: Identity; created: boolean }> {
    await this.checkRoom(holder);
    const known = await this.numberOf(labels);
    const number = known ?? await this.#numbers.take(this.#store.tx, labels.key);
    await this.hold(holder, number, labels);
    return {
      identity: Identity.create({ number, labels: labels.toStrings() }),
      created: known === undefined,
    };
  }

  /** @throws {ProblemError} HOLDERS_FULL: it holds nothing yet, and its node holds as much as it may */
  async checkRoom(holder: HolderName): Promise<void> {
    const sum = await this.#sumOf(holder.node);
    if (sum.count < HOLDERS_PER_NODE_MAX || await this.#heldBy(holder) !== undefined) return;
    throw holdersFull(holder.node);
  }

  /** (node, holder) holds this number from now on, and nothing else. Repeatable. */
  async hold(holder: HolderName, number: number, labels: LabelSet): Promise<void> {
    const before = await this.#heldBy(holder);
    if (before === number) return;
    if (before !== undefined) await this.#drop(holder, before);
    const sum = await this.#sumOf(holder.node);
    await sql`insert into weir_holder (node, holder, number) values (${holder.node}, ${holder.holder}, ${number})`
      .execute(this.#store.tx);
    sum.add(Holder.encode({ ...holder, number }));
    const stored = await this.#store.get<Identity>(IDENTITIES, String(number));
    if (stored === undefined || stored.releasedUnixS !== 0) {
      await sql`update weir_identity set released_unix_s = 0 where number = ${number}`.execute(
        this.#store.tx,
      );
      await this.#store.put(
        IDENTITIES,
        String(number),
        Identity.create({ number, labels: labels.toStrings() }),
      );
    }
  }

  /** Ends what (node, holder) holds. False when it held nothing. Repeatable. */
  async dropHolder(holder: HolderName): Promise<boolean> {
    const number = await this.#heldBy(holder);
    if (number !== undefined) await this.#drop(holder, number);
    return number !== undefined;
  }

  /** Ends everything that a node holds; answers how much that was. */
  async dropNode(node: string): Promise<number> {
    const { rows } = await sql<{ number: number }>`
      delete from weir_holder where node = ${node} returning number`.execute(this.#store.tx);
    for (const number of new Set(rows.map((row) => row.number))) await this.#markIfUnused(number);
    this.#sums.set(node, new SetDigest());
    return rows.length;
  }

  /** Releases identities that nothing has held for the grace period; answers their numbers. */
  async releaseUnused(): Promise<number[]> {
    const { rows } = await sql<{ number: number; released_unix_s: number }>`
      select number, released_unix_s from weir_identity where released_unix_s > 0`.execute(this.#store.tx);
    const unused = rows.map((row) => ({ number: row.number, releasedUnixS: Number(row.released_unix_s) }));
    const released: number[] = [];
    for (const { number } of this.#unused.due(unused, this.#parts.config.graceS)) {
      const { rows: gone } = await sql`
        delete from weir_identity where number = ${number} and released_unix_s > 0
          and not exists (select 1 from weir_holder where weir_holder.number = ${number})
        returning number`.execute(this.#store.tx);
      if (gone.length > 0 && await this.#store.delete(IDENTITIES, String(number))) released.push(number);
    }
    return released;
  }

  /** Writes the sums of the nodes that were touched. */
  async finish(): Promise<void> {
    for (const [node, { count, text }] of this.#sums) {
      if (count === 0) await this.#store.delete(HOLDINGS, node);
      else {
        await this.#store.put<Holdings>(HOLDINGS, node, { node, holdersCount: count, holdersDigest: text });
      }
    }
    this.#sums.clear();
  }

  async #drop(holder: HolderName, number: number): Promise<void> {
    await sql`delete from weir_holder where node = ${holder.node} and holder = ${holder.holder}`
      .execute(this.#store.tx);
    (await this.#sumOf(holder.node)).delete(Holder.encode({ ...holder, number }));
    await this.#markIfUnused(number);
  }

  async #heldBy({ node, holder }: HolderName): Promise<number | undefined> {
    const { rows } = await sql<{ number: number }>`
      select number from weir_holder where node = ${node} and holder = ${holder}`.execute(this.#store.tx);
    return rows[0]?.number;
  }

  async #sumOf(node: string): Promise<SetDigest> {
    let sum = this.#sums.get(node);
    if (sum === undefined) {
      const stored = await this.#store.get<Holdings>(HOLDINGS, node);
      sum = SetDigest.restore(stored?.holdersDigest ?? "", stored?.holdersCount ?? 0);
      this.#sums.set(node, sum);
    }
    return sum;
  }

  async #markIfUnused(number: number): Promise<void> {
    const { rows } = await sql`select 1 from weir_holder where number = ${number} limit 1`.execute(
      this.#store.tx,
    );
    if (rows.length > 0) return;
    const now = unixSeconds(this.#parts.clock);
    this.#unused.note({ number, releasedUnixS: now });
    await sql`update weir_identity set released_unix_s = ${now} where number = ${number}`.execute(
      this.#store.tx,
    );
    const identity = await this.#store.get<Identity>(IDENTITIES, String(number));
    if (identity !== undefined) {
      await this.#store.put(IDENTITIES, String(number), { ...identity, releasedUnixS: now });
    }
  }
}

function holdersFull(node: string): ProblemError {
  return new ProblemError("HOLDERS_FULL", {
    status: 507,
    detail: `Cannot give node ${node} one more identity: its endpoints hold ${HOLDERS_PER_NODE_MAX}`,
    found: HOLDERS_PER_NODE_MAX,
    expected: `fewer than ${HOLDERS_PER_NODE_MAX} endpoints with an identity on one node`,
    action: "Release what endpoints that are gone have held",
  });
}
