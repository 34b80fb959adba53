/**
 * Rows of changes that wait to be confirmed: each has what was there before, and stands in the transaction that makes the change.
 * @module
 */
import { sql } from "kysely";
import { ProblemError } from "@weir/common";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import type { StoreTransaction } from "@weir/common/state";
import { PendingChange, type PendingPolicy, type Policy as PolicyMessage } from "@weir/proto/policy";

/** The collection in the database. */
export const PENDING = "pending-policies";
/** Times that may be asked for, in seconds. */
const CONFIRM_S_MIN = 1, CONFIRM_S_MAX = 24 * 3600;
/** Changes that may wait at once, and policies and characters that one of them may put back. */
const PENDING_MAX = 64;
const POLICIES_MAX = 1000, BEFORE_CHARS_MAX = 8 << 20;
const BY_CHARS_MAX = 200;

/** What a change is asked to wait for. */
export interface ConfirmRequest {
  /** Its name, which nothing that waits has. */
  readonly id: string;
  readonly nowS: number;
  readonly withinS: number;
  /** Who asked, in the caller's own words. */
  readonly by: string;
}

/** A change that was rolled back. */
export interface RolledBack {
  readonly change: PendingChange;
  /** Policies of it that were written since, and were left as they are. */
  readonly left: ReadonlySet<string>;
}

/** @throws {ProblemError} CONFIRM_TIME_INVALID */
export function assertConfirmTime(withinS: number): void {
  if (withinS >= CONFIRM_S_MIN && withinS <= CONFIRM_S_MAX) return;
  throw new ProblemError("CONFIRM_TIME_INVALID", {
    status: 422,
    detail: "Cannot wait for a confirmation",
    found: `${withinS} s`,
    expected: `${CONFIRM_S_MIN} to ${CONFIRM_S_MAX} s`,
  });
}

/** What is said of a policy that is written. */
type Written = Pick<PolicyMessage, "name" | "file">;

/**
 * Before policies are written: nobody changes what waits, for putting back what was before would undo that too. Kubernetes alone
 * may: what it says is no longer put back.
 * @throws {ProblemError} POLICY_PENDING (409)
 */
export async function openPending(tx: StoreTransaction, written: readonly Written[]): Promise<void> {
  const pending = await changesOf(tx);
  if (pending.length === 0) return;
  const names = new Map(written.map((one) => [one.name, isOfKubernetes(one)]));
  for (const change of pending) {
    const held = change.policies.find(({ name }) => names.get(name) === false);
    if (held !== undefined) throw isPending(held.name, change);
    const policies = change.policies.filter(({ name }) => !names.has(name));
    if (policies.length === change.policies.length) continue;
    if (policies.length === 0) await tx.delete(PENDING, change.id);
    else await tx.put<PendingChange>(PENDING, change.id, { ...change, policies });
  }
}

/**
 * Keeps what is stored now for a change that is about to be written.
 * @throws {ProblemError} KUBERNETES_POLICY, TOO_MANY_PENDING, PENDING_TOO_LARGE, OBJECT_UNREADABLE
 */
export async function keepPending(
  tx: StoreTransaction,
  written: readonly Written[],
  { id, by, withinS, nowS, policyRevision }: ConfirmRequest & {
    /** Of the policies that are written; undefined: they are deleted. */
    readonly policyRevision?: number;
  },
): Promise<void> {
  const deletes = policyRevision === undefined;
  const policies: PendingPolicy[] = [];
  for (const one of written) {
    const before = await tx.get<PolicyMessage>("policies", one.name);
    if (isOfKubernetes(one) || before !== undefined && isOfKubernetes(before)) throw isKubernetes(one.name);
    if (before !== undefined || !deletes) policies.push({ name: one.name, before });
  }
  if (policies.length === 0) return;
  const times = { appliedUnixS: nowS, withinS, deadlineUnixS: nowS + withinS };
  const change = PendingChange.create({
    policyRevision: policyRevision ?? 0,
    ...{ id, by: by.slice(0, BY_CHARS_MAX), ...times, policies, deletes },
  });
  assertRoom((await changesOf(tx)).length, change);
  await tx.put<PendingChange>(PENDING, id, change);
}

function isOfKubernetes({ file }: Written): boolean {
  return file.startsWith(KUBERNETES_FILE_MARK);
}

/** Those that can be read: one that cannot stands in nobody's way, {@link PendingPolicies} names it. */
async function changesOf(tx: StoreTransaction): Promise<PendingChange[]> {
  const { rows } = await sql<{ name: string }>`
    select name from weir_objects where collection = ${PENDING} order by name`.execute(tx.tx);
  const changes: PendingChange[] = [];
  for (const { name } of rows) {
    const change = await readable<PendingChange>(tx, PENDING, name);
    if (change !== undefined && change !== UNREADABLE) changes.push(change);
  }
  return changes;
}

const UNREADABLE = Symbol("unreadable");

async function readable<T>(
  tx: StoreTransaction,
  collection: string,
  name: string,
): Promise<T | undefined | typeof UNREADABLE> {
  try {
    return await tx.get<T>(collection, name);
  } catch (error) {
    if ((error as ProblemError).code === "OBJECT_UNREADABLE") return UNREADABLE;
    throw error;
  }
}

/**
 * Policies of a change that are not as it wrote them: a replica of a version that knows of no confirmations has changed
 * them. Of a change that says nothing of what it wrote there are none.
 */
export async function writtenSince(tx: StoreTransaction, change: PendingChange): Promise<Set<string>> {
  const { deletes, policyRevision, policies } = change, found = new Set<string>();
  if (!deletes && policyRevision === 0) return found;
  for (const { name } of policies) {
    const now = await readable<PolicyMessage>(tx, "policies", name);
    const isSame = deletes
      ? now === undefined
      : now !== undefined && now !== UNREADABLE && now.policyRevision === policyRevision;
    if (!isSame) found.add(name);
  }
  return found;
}

function isPending(name: string, { id, by, deadlineUnixS }: PendingChange): ProblemError {
  return new ProblemError("POLICY_PENDING", {
    status: 409,
    detail: `Cannot change ${name}: ${id} of ${by || "somebody"} waits to be confirmed until ${
      timeText(deadlineUnixS)
    }`,
    found: `${id} of ${by || "somebody"}, rolled back at ${timeText(deadlineUnixS)}`,
    expected: "no change that waits",
    action:
      `Confirm it first (weir policy confirm ${id}), take it back (weir policy rollback ${id}), or wait`,
  });
}

function isKubernetes(name: string): ProblemError {
  return new ProblemError("KUBERNETES_POLICY", {
    status: 422,
    detail: `Cannot wait for a confirmation of ${name}: it comes from Kubernetes, which tells it again`,
    action: "Change it in Kubernetes; there is no rollback by Weir of what Kubernetes has",
  });
}

/** @throws {ProblemError} TOO_MANY_PENDING, PENDING_TOO_LARGE */
function assertRoom(waiting: number, change: PendingChange): void {
  if (waiting >= PENDING_MAX) {
    throw new ProblemError("TOO_MANY_PENDING", {
      status: 507,
      detail: "Cannot take one more change that waits to be confirmed",
      found: waiting,
      expected: `fewer than ${PENDING_MAX}`,
      action: "Confirm or roll back those that wait: weir policy pending",
    });
  }
  const size = change.policies.reduce((sum, { before }) => sum + (before?.manifest.length ?? 0), 0);
  if (change.policies.length <= POLICIES_MAX && size <= BEFORE_CHARS_MAX) return;
  throw new ProblemError("PENDING_TOO_LARGE", {
    status: 413,
    detail: "Cannot keep what is to be put back",
    found: `${change.policies.length} policies, ${size} characters that they replace`,
    expected: `at most ${POLICIES_MAX} policies and ${BEFORE_CHARS_MAX} characters`,
    action: "Apply in parts, or without --confirm-within",
  });
}

/**
 * The change that a confirmation is about, within its transaction. One that cannot be read could never be rolled back: it
 * is kept whenever somebody says so.
 * @throws {ProblemError} NOT_PENDING, TOO_LATE
 */
export async function takePending(
  tx: StoreTransaction,
  id: string,
  { nowS }: { nowS: number },
): Promise<PendingChange> {
  const change = await readable<PendingChange>(tx, PENDING, id);
  if (change === UNREADABLE) return PendingChange.create({ id });
  if (change === undefined) {
    throw new ProblemError("NOT_PENDING", {
      status: 404,
      detail: `Cannot find change ${JSON.stringify(id)}: it does not wait to be confirmed`,
      action:
        "It was confirmed, or rolled back when its time had passed: weir policy pending shows those that wait",
    });
  }
  if (nowS < change.deadlineUnixS) return change;
  throw new ProblemError("TOO_LATE", {
    status: 409,
    detail: `Cannot confirm change ${id}: its time has passed, and it is rolled back`,
    found: timeText(nowS),
    expected: `before ${timeText(change.deadlineUnixS)}`,
    action: "Apply it again",
  });
}

function timeText(unixS: number): string {
  return new Date(unixS * 1000).toISOString().replace(/\.\d+Z$/, "Z");
}
