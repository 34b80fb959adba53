/** Changes of the ipcache, within one transaction of the store. @module */
import { sql } from "kysely";
import { type IpcacheBatch, IpcacheBatchResponse, IpcacheEntry } from "@weir/proto/identity";
import { invalidArgument, ProblemError } from "@weir/common";
import type { Database, StoreTransaction } from "@weir/common/state";
import { canonicalPrefix } from "./arguments.ts";

/** Throws when an entry may not be put; is told what is stored under its prefix. */
export type EntryJudge = (entry: IpcacheEntry, before: IpcacheEntry | undefined) => void;

/** Name of the watched collection. */
export const IPCACHE = "ipcache";
/** Prefixes in the cluster. */
export const IPCACHE_ENTRIES_MAX = 1_000_000;
/** Upserts and deletes together in one batch. */
export const IPCACHE_BATCH_MAX = 1024;

/** Bytes of one entry: every node gets them. */
export const IPCACHE_ENTRY_BYTES_MAX = 32_768;

/** The entry as it is stored. @throws {ProblemError} its prefix is none, or not its name */
export function readEntry(name: string, given: IpcacheEntry): IpcacheEntry {
  const prefix = canonicalPrefix(name);
  if (given.prefix !== "" && canonicalPrefix(given.prefix) !== prefix) {
    throw invalidArgument("Cannot put the entry: its prefix is not its name", {
      found: given.prefix,
      expected: prefix,
    });
  }
  const entry = { ...given, prefix };
  const bytes = IpcacheEntry.encode(entry).length;
  if (bytes > IPCACHE_ENTRY_BYTES_MAX) {
    throw new ProblemError("ENTRY_TOO_LARGE", {
      status: 413,
      detail: `Cannot put ${prefix}: the entry has ${bytes} bytes`,
      found: bytes,
      expected: `at most ${IPCACHE_ENTRY_BYTES_MAX} bytes`,
      action: "Give the endpoint fewer labels or named ports",
    });
  }
  return entry;
}

/** @throws {ProblemError} BATCH_TOO_LARGE */
export function checkBatch(batch: IpcacheBatch): void {
  const count = batch.upserts.length + batch.deletes.length;
  if (count <= IPCACHE_BATCH_MAX) return;
  throw new ProblemError("BATCH_TOO_LARGE", {
    status: 413,
    detail: `Cannot change ${count} prefixes at once: at most ${IPCACHE_BATCH_MAX}`,
    found: count,
    expected: `at most ${IPCACHE_BATCH_MAX} upserts and deletes in one request`,
    action: "Send several requests",
  });
}

/**
 * Writes a batch. One that is refused is named in the answer; the others are written.
 * @param judge throws when whoever sent the batch may not put the entry; is told what is stored under its prefix
 */
export async function applyBatch(
  store: StoreTransaction,
  database: Database,
  batch: IpcacheBatch,
  judge?: EntryJudge,
): Promise<IpcacheBatchResponse> {
  const response = IpcacheBatchResponse.create();
  const upserts = new Map<string, IpcacheEntry>(), deletes = new Set<string>();
  const refuse = (prefix: string, { code, message }: ProblemError) =>
    response.refused.push({ prefix, code, detail: message });
  const attempt = (prefix: string, action: () => void): boolean => {
    try {
      action();
      return true;
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      refuse(prefix, error);
      return false;
    }
  };
  for (const prefix of batch.deletes) attempt(prefix, () => void deletes.add(canonicalPrefix(prefix)));
  for (const given of batch.upserts) {
    attempt(given.prefix, () => {
      const entry = readEntry(given.prefix, given);
      if (entry.node !== batch.node) {
        throw invalidArgument(`Cannot put ${entry.prefix}: its node is not the batch's`, {
          found: entry.node,
          expected: batch.node,
        });
      }
      deletes.delete(entry.prefix);
      upserts.set(entry.prefix, entry);
    });
  }
  const stored = await fetchEntries(store, database, [...upserts.keys(), ...deletes]);
  for (const prefix of deletes) {
    const before = stored.get(prefix);
    if (before === undefined) continue;
    if (before.node !== batch.node) refuse(prefix, entryOfOther(prefix, before, batch.node));
    else if (await store.delete(IPCACHE, prefix)) response.deleted++;
  }
  for (const [prefix, entry] of upserts) {
    const before = stored.get(prefix);
    if (attempt(prefix, () => judge?.(entry, before))) {
      await putChanged(store, before, entry);
      response.upserted++;
    }
  }
  return response;
}

/** Writes the entry when it differs from what is stored. */
export async function putChanged(
  store: StoreTransaction,
  before: IpcacheEntry | undefined,
  entry: IpcacheEntry,
): Promise<void> {
  if (before !== undefined && JSON.stringify(before) === JSON.stringify(entry)) return;
  await store.put(IPCACHE, entry.prefix, entry);
}

/** Stored entries by prefix, read within the transaction with one statement. */
async function fetchEntries(
  store: StoreTransaction,
  database: Database,
  prefixes: readonly string[],
): Promise<Map<string, IpcacheEntry>> {
  const text = JSON.stringify(prefixes);
  const names = database.kind === "postgres"
    ? sql`select json_array_elements_text(${text}::json)`
    : sql`select value from json_each(${text})`;
  const { rows } = await sql<{ name: string; body: Uint8Array }>`
    select name, body from weir_objects where collection = ${IPCACHE} and name in (${names})`.execute(
    store.tx,
  );
  return new Map(rows.map((row) => [row.name, IpcacheEntry.decode(row.body)]));
}

/** Prefixes of a node as of this transaction: those in memory, and what was written since. */
export async function storedPrefixesOf(
  store: StoreTransaction,
  node: string,
  inMemory: ReadonlySet<string>,
  revision: number,
): Promise<Set<string>> {
  const prefixes = new Set(inMemory);
  const { rows } = await sql<{ name: string; body: Uint8Array | null }>`
    select name, body from weir_log where collection = ${IPCACHE} and revision > ${revision}
    order by revision`.execute(store.tx);
  for (const { name, body } of rows) {
    if (body !== null && IpcacheEntry.decode(body).node === node) prefixes.add(name);
    else prefixes.delete(name);
  }
  return prefixes;
}

/** ENTRY_OF_OTHER: a node changes only what it has announced itself. */
export function entryOfOther(prefix: string, before: IpcacheEntry, node: string): ProblemError {
  return new ProblemError("ENTRY_OF_OTHER", {
    status: 409,
    detail: `Cannot change ${prefix} for node ${node}: ${
      before.node === "" ? "it is outside the cluster" : `it belongs to node ${before.node}`
    }`,
    found: before.node,
    expected: node,
    action: "Delete it there first",
  });
}
