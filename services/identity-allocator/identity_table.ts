/**
 * Labels to number, within one transaction of the store.
 *
 *     labels ── filter ──▶ canonical text ── known? ──▶ its number
 *                                        └── new ────▶ next free number, in a circle so that numbers are not soon reused
 *
 * @module
 */
import { sql } from "kysely";
import { Identity } from "@weir/proto/identity";
import {
  IDENTITY_ALLOCATED_MAX,
  IDENTITY_ALLOCATED_MIN,
  IDENTITY_CLUSTER_SHIFT,
  IDENTITY_INIT,
  invalidArgument,
  LabelSet,
  ProblemError,
  reservedIdentityNumber,
  SOURCE_RESERVED,
  unixSeconds,
} from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { AllocatorParts } from "./config.ts";

/** Name of the watched collection. */
export const IDENTITIES = "identities";
/** Label that asks for a user-reserved number, 128 to 255. */
export const LABEL_FIXED_IDENTITY = "io.cilium.fixed-identity";
const FIXED_MIN = 128;

/** Labels of an identity that are not allocated: the number is part of the meaning. */
export function fixedIdentity(labels: LabelSet): { number: number; labels: LabelSet } | undefined {
  if (labels.size === 0) {
    return { number: IDENTITY_INIT, labels: LabelSet.parse(["reserved:init"]) };
  }
  for (const label of labels) {
    if (label.key === LABEL_FIXED_IDENTITY) {
      const number = Number(label.value);
      if (!Number.isInteger(number) || number < FIXED_MIN || number >= IDENTITY_ALLOCATED_MIN) {
        throw invalidArgument(`Cannot take the label ${LABEL_FIXED_IDENTITY}`, {
          found: label.value,
          expected: `${FIXED_MIN} to ${IDENTITY_ALLOCATED_MIN - 1}`,
        });
      }
      return { number, labels: LabelSet.from([label]) };
    }
  }
  const reserved = [...labels].filter((label) => label.source === SOURCE_RESERVED);
  if (reserved.length === 1 && labels.size === 1) {
    const number = reservedIdentityNumber(reserved[0].key);
    if (number !== undefined) return { number, labels };
  }
  return undefined;
}

/** The identity of these labels, made when it is new, held by (node, holder) from now on. */
export async function allocate(
  store: StoreTransaction,
  parts: AllocatorParts,
  request: { labels: LabelSet; node: string; holder: string },
): Promise<{ identity: Identity; created: boolean }> {
  const { labels, node, holder } = request;
  const key = labels.key;
  const known = await sql<{ number: number }>`select number from weir_identity where labels = ${key}`.execute(
    store.tx,
  );
  const created = known.rows.length === 0;
  const number = created ? await insertNew(store, parts, key) : known.rows[0].number;
  const before = await holderOf(store, node, holder);
  if (before !== undefined && before !== number) await dropHolder(store, parts, node, holder);
  const identity = Identity.create({ number, labels: labels.toStrings() });
  if (before === number) return { identity, created: false };
  await sql`insert into weir_holder (node, holder, number) values (${node}, ${holder}, ${number})`.execute(
    store.tx,
  );
  const stored = await store.get<Identity>(IDENTITIES, String(number));
  if (stored === undefined || stored.releasedUnixS !== 0) {
    await sql`update weir_identity set released_unix_s = 0 where number = ${number}`.execute(store.tx);
    await store.put(IDENTITIES, String(number), identity);
  }
  return { identity, created };
}

/** Ends what (node, holder) holds. False when it held nothing. Repeatable. */
export async function dropHolder(
  store: StoreTransaction,
  parts: AllocatorParts,
  node: string,
  holder: string,
): Promise<boolean> {
  const number = await holderOf(store, node, holder);
  if (number === undefined) return false;
  await sql`delete from weir_holder where node = ${node} and holder = ${holder}`.execute(store.tx);
  await markIfUnused(store, parts, number);
  return true;
}

/** Ends everything that a node holds; answers how much that was. */
export async function dropNode(
  store: StoreTransaction,
  parts: AllocatorParts,
  node: string,
): Promise<number> {
  const { rows } = await sql<{ number: number }>`
    delete from weir_holder where node = ${node} returning number`.execute(store.tx);
  for (const number of new Set(rows.map((row) => row.number))) await markIfUnused(store, parts, number);
  return rows.length;
}

/** Releases identities that nothing has held for the grace period; answers their numbers. */
export async function releaseUnused(store: StoreTransaction, parts: AllocatorParts): Promise<number[]> {
  const limit = unixSeconds(parts.clock) - parts.config.graceS;
  const { rows } = await sql<{ number: number }>`
    delete from weir_identity where released_unix_s > 0 and released_unix_s <= ${limit}
      and not exists (select 1 from weir_holder where weir_holder.number = weir_identity.number)
    returning number`.execute(store.tx);
  for (const { number } of rows) await store.delete(IDENTITIES, String(number));
  return rows.map((row) => row.number);
}

async function holderOf(store: StoreTransaction, node: string, holder: string): Promise<number | undefined> {
  const { rows } = await sql<{ number: number }>`
    select number from weir_holder where node = ${node} and holder = ${holder}`.execute(store.tx);
  return rows[0]?.number;
}

async function markIfUnused(store: StoreTransaction, parts: AllocatorParts, number: number): Promise<void> {
  const { rows } = await sql`select 1 from weir_holder where number = ${number} limit 1`.execute(store.tx);
  if (rows.length > 0) return;
  const now = unixSeconds(parts.clock);
  await sql`update weir_identity set released_unix_s = ${now} where number = ${number}`.execute(store.tx);
  const identity = await store.get<Identity>(IDENTITIES, String(number));
  if (identity !== undefined) {
    await store.put(IDENTITIES, String(number), { ...identity, releasedUnixS: now });
  }
}

async function insertNew(store: StoreTransaction, parts: AllocatorParts, key: string): Promise<number> {
  const base = parts.config.clusterId << IDENTITY_CLUSTER_SHIFT;
  const min = base + IDENTITY_ALLOCATED_MIN, max = base + IDENTITY_ALLOCATED_MAX;
  const cursor = await sql<{ next: number }>`select next from weir_identity_cursor where id = 1`.execute(
    store.tx,
  );
  const next = cursor.rows[0]?.next ?? min;
  const from = next < min || next > max ? min : next;
  const number = await firstFree(store, from, max) ?? await firstFree(store, min, from - 1);
  if (number === undefined) {
    const size = IDENTITY_ALLOCATED_MAX - IDENTITY_ALLOCATED_MIN + 1;
    throw new ProblemError("IDENTITIES_EXHAUSTED", {
      status: 507,
      detail: `Cannot allocate an identity: all ${size} numbers are in use`,
      found: size,
      expected: `fewer than ${size} distinct label sets`,
      action: "Let the label filter leave out labels that differ from workload to workload",
    });
  }
  await sql`insert into weir_identity (number, labels, released_unix_s) values (${number}, ${key}, 0)`
    .execute(store.tx);
  await sql`insert into weir_identity_cursor (id, next) values (1, ${number + 1})
    on conflict (id) do update set next = excluded.next`.execute(store.tx);
  return number;
}

/** The smallest free number from `from` to `to`: `from` itself, or the end of the first gapless run. */
async function firstFree(store: StoreTransaction, from: number, to: number): Promise<number | undefined> {
  if (from > to) return undefined;
  const taken = await sql`select 1 from weir_identity where number = ${from}`.execute(store.tx);
  if (taken.rows.length === 0) return from;
  const { rows } = await sql<{ number: number | null }>`
    select min(a.number) + 1 as number from weir_identity a
    where a.number >= ${from} and a.number < ${to}
      and not exists (select 1 from weir_identity b where b.number = a.number + 1)`.execute(store.tx);
  return rows[0].number ?? undefined;
}
