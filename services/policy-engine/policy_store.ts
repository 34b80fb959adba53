/**
 * Policies in the database. A change is one transaction with the numbers of its prefixes; the tables follow it in every
 * replica, and the engine follows the tables.
 * @module
 */
import { sql } from "kysely";
import {
  type Clock,
  type Health,
  type Logger,
  ProblemError,
  randomEpoch,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store, type StoreTransaction } from "@weir/common/state";
import { CidrIdentity, PendingChange, Policy as PolicyMessage, type PolicyChange } from "@weir/proto/policy";
import { CIDR_MIGRATIONS, type CidrEvidence, CidrRegistry, CIDRS } from "./cidr_registry.ts";
import { DIRECTORY_LOSS_MIGRATIONS } from "./directory_loss.ts";
import { type Evidence, isMirrored, type PolicySet } from "./evidence.ts";
import { NODE_POLICY_MIGRATIONS } from "./node_policy_rows.ts";
import {
  type ConfirmRequest,
  keepPending,
  openPending,
  PENDING,
  type RolledBack,
  takePending,
  writtenSince,
} from "./pending_rows.ts";
import { type Policy, policyMentions } from "./policy.ts";
import { readStored } from "./stored_policy.ts";

/** Most policies that the engine takes. */
export const POLICIES_MAX = 50_000;

/** Collections in the database. The second holds one object with the revision of the whole policy set. */
const POLICIES = "policies";
const POLICY_SET = "policy-set";
const NEWEST = "newest";
/** The others of the policy set, one of each witness: what was in force there, which this database does not have. */
const DOUBT = "in-doubt";
/** Another one: up to which policy set others than the database's own are known to be lost, for an operator has said so. */
const ACCEPTED = "accepted";
/** Another one: the numbers behind the accepted one up to this are of no set of this database. */
const GAP = "accepted-gap";
/** Another one: all that Kubernetes had was handed on to this database once. */
const KUBERNETES_READ = "kubernetes-read";
/** `kind` of a doubt whose witness had nothing in force but what came from Kubernetes. */
const MIRRORED = "mirrored";
/** The tags of the newest policy sets: a ring, each object is one place of it. */
const SETS = "policy-set-tags";
/** How many policy sets are told apart from those of other histories; of older ones only numbers are compared. */
export const POLICY_SETS_MAX = 1024;
/** Witnesses that are kept: more prove nothing more, and as many may be removed for liars. */
const WITNESSES_MAX = 16;

/** Options of {@link PolicyStore}. */
export interface PolicyStoreOptions {
  database: Database;
  clock: Clock;
  log: Logger;
  health: Health;
  /** Name of the local cluster. */
  cluster: string;
}

/** See the top of the file. */
export class PolicyStore {
  readonly store: Store;
  readonly policies: WatchedTable<PolicyMessage>;
  /** Prefixes and selectors of names that policies mention, with their numbers. */
  readonly cidrs: WatchedTable<CidrIdentity>;
  readonly #set: WatchedTable<PolicyMessage>;
  readonly #tags: WatchedTable<PolicyMessage>;
  /** Changes that wait to be confirmed. */
  readonly pending: WatchedTable<PendingChange>;
  readonly #registry: CidrRegistry;
  readonly #clock: Clock;
  readonly #cluster: string;

  constructor(options: PolicyStoreOptions) {
    this.#clock = options.clock;
    this.#cluster = options.cluster;
    this.#registry = new CidrRegistry(options.clock);
    const migrations = [...CIDR_MIGRATIONS, ...NODE_POLICY_MIGRATIONS, ...DIRECTORY_LOSS_MIGRATIONS];
    this.store = new Store({ ...options, migrations });
    // The limit is kept by the transaction; a mirror must never refuse what the database has.
    this.policies = this.store.collection(POLICIES, PolicyMessage, { entriesMax: Infinity });
    this.cidrs = this.store.collection(CIDRS, CidrIdentity, { entriesMax: Infinity });
    this.#set = this.store.collection(POLICY_SET, PolicyMessage);
    this.pending = this.store.collection(PENDING, PendingChange);
    this.#tags = this.store.collection(SETS, PolicyMessage, { entriesMax: POLICY_SETS_MAX });
  }

  /** Stored policies whose bytes cannot be decoded, by name, with the reason. */
  get undecodable(): ReadonlyMap<string, string> {
    return this.#undecodable(POLICIES);
  }

  /** The same of changes that wait to be confirmed. */
  get undecodablePending(): ReadonlyMap<string, string> {
    return this.#undecodable(PENDING);
  }

  #undecodable(collection: string): ReadonlyMap<string, string> {
    const prefix = `${collection}/`, found = new Map<string, string>();
    for (const [name, why] of this.store.unreadable) {
      if (name.startsWith(prefix)) found.set(name.slice(prefix.length), why);
    }
    return found;
  }

  /** Revision of the whole policy set: the same in every replica that has read as far. 0 while nothing was noted. */
  get policyRevision(): number {
    return this.#set.get(NEWEST)?.policyRevision ?? 0;
  }

  /** Policy sets that were in force and are newer than this database, by who says so; empty: it has the newest. */
  get doubts(): ReadonlyMap<string, number> {
    const found = new Map<string, number>();
    for (const [name, { policyRevision, file }] of this.#set.entries()) {
      if (name.startsWith(DOUBT)) found.set(file, Math.max(policyRevision, found.get(file) ?? 0));
    }
    return found;
  }

  /** All policies that Kubernetes had were handed on to this database once. */
  get isKubernetesRead(): boolean {
    return this.#set.get(KUBERNETES_READ) !== undefined;
  }

  /** They were now. Repeatable. */
  async noteKubernetesRead(): Promise<void> {
    const note = PolicyMessage.create({ name: KUBERNETES_READ });
    await this.store.transact((tx) => tx.put(POLICY_SET, KUBERNETES_READ, note));
  }

  /** Every doubt is of a policy set whose policies Kubernetes tells again. False where nobody doubts. */
  get isDoubtMirrored(): boolean {
    const doubts = this.#set.list().filter(({ name }) => name.startsWith(DOUBT));
    return doubts.length > 0 && doubts.every(({ kind }) => kind === MIRRORED);
  }

  /** Tag of the policy set that this replica has read; undefined for one that was written before there were tags. */
  get policySetTag(): string | undefined {
    const { policyRevision } = this, row = this.#tags.get(placeOf(policyRevision));
    return row?.policyRevision === policyRevision ? row.file : undefined;
  }

  /** True for a set that this replica's copy of the database has never had: that of another history. Of none nothing is known. */
  lacks(set: PolicySet | undefined): boolean {
    if (set === undefined) return false;
    const { policyRevision, tag } = set;
    if (policyRevision <= this.#accepted) return false;
    if (this.#isInGap(policyRevision)) return true;
    const row = this.#tags.get(placeOf(policyRevision));
    // Its place was taken by a later one: it is too long ago to tell.
    if (row !== undefined && row.policyRevision > policyRevision) return false;
    return row?.policyRevision !== policyRevision || row.file !== tag;
  }

  /** True for a policy set that this replica's copy of the database cannot have had, and that is not noted yet. */
  isNews(evidence: Evidence): boolean {
    const { node, policyRevision, policySet } = evidence;
    const isNewer = policyRevision > Math.max(this.policyRevision, this.policies.revision);
    if (!isNewer && !this.#isInGap(policyRevision) && !this.lacks(policySet)) return false;
    const { doubts } = this, known = doubts.get(node);
    return known === undefined ? doubts.size < WITNESSES_MAX : known < policyRevision;
  }

  get #accepted(): number {
    return this.#set.get(ACCEPTED)?.policyRevision ?? 0;
  }

  /** A number that this database never gave: whoever has it was not heard when another history was given up. */
  #isInGap(policyRevision: number): boolean {
    const gapEnd = this.#set.get(GAP)?.policyRevision ?? 0;
    return policyRevision > this.#accepted && policyRevision <= gapEnd;
  }

  /**
   * Notes for all replicas, until {@link accept}, that the database is older than what is in force. Repeatable.
   * @param known the policy revision of what this engine has resolved
   */
  async note(evidence: Evidence, known: number): Promise<void> {
    await this.store.transact(async (tx) => {
      const newest = await tx.get<PolicyMessage>(POLICY_SET, NEWEST);
      const counted = Math.max(newest?.policyRevision ?? 0, tx.revision);
      const { node, policyRevision, policySet } = evidence,
        witness = { node, isMirrored: isMirrored(evidence) };
      if (policyRevision > counted) await noteDoubt(tx, { ...witness, policyRevision });
      else if (this.#isInGap(policyRevision) || this.lacks(policySet)) {
        // Whatever this history counted: nothing of it is what was in force.
        await noteDoubt(tx, { ...witness, policyRevision: Math.max(counted, known) + 1 });
      }
    });
  }

  /** What a node said counts no more: it is none of the cluster. False when it said nothing. */
  async dismiss(node: string): Promise<boolean> {
    if (!this.doubts.has(node)) return false;
    await this.store.transact(async (tx) => {
      const old = await tx.get<PolicyMessage>(POLICY_SET, DOUBT);
      if (old?.file === node) await tx.delete(POLICY_SET, DOUBT);
      await tx.delete(POLICY_SET, doubtName(node));
    });
    return true;
  }

  /**
   * The database is taken for the newest from now on. False when nobody doubted it.
   * @param known the policy revision of what this engine has resolved
   */
  async accept(known: number): Promise<boolean> {
    const { doubts } = this;
    return await this.store.transact(async (tx) => {
      if (doubts.size === 0) return false;
      for (const name of [DOUBT, ...[...doubts.keys()].map(doubtName)]) await tx.delete(POLICY_SET, name);
      // What was counted since was given to nobody; newer than what nodes have is what they take.
      const accepted = Math.max(...doubts.values()), gapEnd = Math.max(known, accepted) + POLICY_SETS_MAX;
      for (const [name, policyRevision] of [[ACCEPTED, accepted], [GAP, gapEnd]] as const) {
        await tx.put(POLICY_SET, name, PolicyMessage.create({ name, policyRevision }));
      }
      await advance(tx, Math.max(gapEnd + 1, await nextPolicyRevision(tx)));
      return true;
    });
  }

  /**
   * Writes policies and gives their prefixes numbers, all or nothing. A policy that is stored with the same text is left
   * as it is.
   * @param confirm the change waits to be confirmed: what was there before is kept with it
   * @throws {ProblemError} DATABASE_UNAVAILABLE, TOO_MANY_POLICIES, TOO_MANY_PREFIXES, POLICY_PENDING
   */
  async put(policies: readonly Policy[], confirm?: ConfirmRequest): Promise<PolicyChange[]> {
    return await this.store.transact(async (tx) => {
      await openPending(tx, policies);
      const changes: PolicyChange[] = [];
      const changed: { policy: Policy; createdUnixS: number }[] = [];
      for (const policy of policies) {
        const before = await storedPolicy(tx, policy.name);
        const same = before?.manifest === policy.manifest && before.file === policy.file &&
          before.line === policy.line;
        const change = !before ? "created" : same ? "unchanged" : "configured";
        changes.push({ name: policy.name, change, warnings: policy.warnings.map((each) => ({ ...each })) });
        const createdUnixS = before?.createdUnixS ?? unixSeconds(this.#clock);
        if (!same) changed.push({ policy, createdUnixS });
      }
      if (changed.length === 0) return changes;
      const policyRevision = await nextPolicyRevision(tx, changed.length + (confirm ? 1 : 0));
      if (confirm) {
        await keepPending(tx, changed.map(({ policy }) => policy), { ...confirm, policyRevision });
      }
      await refuseTooMany(tx, changes.filter(({ change }) => change === "created").length);
      const prefixes = new Map(changed.map(({ policy }) => [policy.name, policyMentions(policy)]));
      await this.#registry.take(tx, prefixes);
      for (const { policy, createdUnixS } of changed) {
        await tx.put<PolicyMessage>(POLICIES, policy.name, {
          name: policy.name,
          kind: policy.kind,
          namespace: policy.namespace,
          policyName: policy.policyName,
          manifest: policy.manifest,
          file: policy.file,
          line: policy.line,
          policyRevision,
          warnings: policy.warnings.map((each) => ({ ...each })),
          createdUnixS,
          audit: policy.audit ?? false,
        });
      }
      for (const [name, kept] of prefixes) await this.#registry.keepOnly(tx, name, kept);
      await advance(tx, policyRevision);
      return changes;
    });
  }

  /**
   * Deletes policies; those that are not there are "absent".
   * @param confirm they are put back unless that is confirmed
   * @throws {ProblemError} DATABASE_UNAVAILABLE, POLICY_PENDING
   */
  async delete(names: readonly string[], confirm?: ConfirmRequest): Promise<PolicyChange[]> {
    return await this.store.transact(async (tx) => {
      await openPending(tx, names.map((name) => ({ name, file: "" })));
      if (confirm) {
        await keepPending(tx, names.map((name) => ({ name, file: "" })), confirm);
      }
      const changes: PolicyChange[] = [];
      for (const name of names) {
        const change = await tx.delete(POLICIES, name) ? "deleted" : "absent";
        changes.push({ name, change, warnings: [] });
        if (change === "deleted") await this.#registry.keepOnly(tx, name, []);
      }
      if (changes.some(({ change }) => change === "deleted")) {
        await advance(tx, await nextPolicyRevision(tx, changes.length));
      }
      return changes;
    });
  }

  /**
   * A change that waited is kept. That is a policy set of its own: a copy of the database in which it still waits is told
   * to be older.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, NOT_PENDING, TOO_LATE
   */
  async confirm(id: string): Promise<PendingChange> {
    return await this.store.transact(async (tx) => {
      const change = await takePending(tx, id, { nowS: unixSeconds(this.#clock) });
      await tx.delete(PENDING, id);
      await advance(tx, await nextPolicyRevision(tx));
      return change;
    });
  }

  /**
   * Puts back what was before a change that waits, all of it but what was written since. Undefined, and nothing is done,
   * where it waits no more.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, DATABASE_IN_DOUBT, TOO_MANY_PREFIXES, OBJECT_UNREADABLE
   */
  async rollBack(id: string): Promise<RolledBack | undefined> {
    return await this.store.transact(async (tx) => {
      const change = await tx.get<PendingChange>(PENDING, id);
      if (change === undefined) return undefined;
      await refuseInDoubt(tx);
      const left = await writtenSince(tx, change), prefixes = new Map<string, string[]>();
      const policies = change.policies.filter(({ name }) => !left.has(name));
      for (const { name, before } of policies) {
        const policy = before && readStored(before, this.#cluster);
        // One that another version cannot read is put back all the same, and named as a fault.
        prefixes.set(name, policy === undefined || typeof policy === "string" ? [] : policyMentions(policy));
      }
      const policyRevision = await nextPolicyRevision(tx, Math.max(1, policies.length));
      await this.#registry.take(tx, prefixes);
      for (const { name, before } of policies) {
        if (before === undefined) await tx.delete(POLICIES, name);
        else await tx.put<PolicyMessage>(POLICIES, name, { ...before, policyRevision });
      }
      for (const [name, kept] of prefixes) await this.#registry.keepOnly(tx, name, kept);
      await tx.delete(PENDING, id);
      await advance(tx, policyRevision);
      return { change, left };
    });
  }

  /**
   * Makes the numbers in the database follow from its policies, see {@link CidrRegistry.reconcile}.
   * @param revision of the policies that `evidence` was read from; false, and nothing was done, when there are newer ones
   * @param given the newest policy set that this process gave to nodes: a database that has an older one, or that one not, is in doubt
   */
  async reconcile(
    revision: number,
    evidence: CidrEvidence,
    given: { policyRevision: number; policySet?: PolicySet },
  ): Promise<boolean> {
    const { policyRevision: known, policySet } = given;
    return await this.store.transact(async (tx) => {
      if (tx.revision !== revision) return false;
      await this.#registry.reconcile(tx, evidence);
      const newest = await tx.get<PolicyMessage>(POLICY_SET, NEWEST);
      const counted = Math.max(newest?.policyRevision ?? 0, tx.revision);
      const witness = { node: "", isMirrored: isMirrored({ ...given, node: "" }) };
      if (known > counted) {
        await noteDoubt(tx, { ...witness, policyRevision: known });
      } else if (this.lacks(policySet)) {
        await noteDoubt(tx, { ...witness, policyRevision: counted + 1 });
      } else if (newest === undefined || newest.policyRevision < known) {
        await advance(tx, Math.max(known + 1, await nextPolicyRevision(tx)));
      }
      return true;
    });
  }
}

/** The object of a witness; "" is an engine itself. */
function doubtName(node: string): string {
  return node === "" ? DOUBT : `${DOUBT}:${node}`;
}

async function noteDoubt(
  tx: StoreTransaction,
  { policyRevision, node, isMirrored }: { policyRevision: number; node: string; isMirrored: boolean },
): Promise<void> {
  const name = doubtName(node), known = await tx.get<PolicyMessage>(POLICY_SET, name);
  if ((known?.policyRevision ?? 0) >= policyRevision) return;
  const kind = isMirrored ? MIRRORED : "";
  await tx.put(POLICY_SET, name, PolicyMessage.create({ name, kind, policyRevision, file: node }));
}

/** What waits in a database that is older may have been confirmed in the newer one. @throws {ProblemError} DATABASE_IN_DOUBT (409) */
async function refuseInDoubt(tx: StoreTransaction): Promise<void> {
  const { rows } = await sql<{ name: string }>`select name from weir_objects
    where collection = ${POLICY_SET} and name like ${`${DOUBT}%`} limit 1`.execute(tx.tx);
  if (rows.length === 0) return;
  throw new ProblemError("DATABASE_IN_DOUBT", {
    status: 409,
    detail: "Cannot roll back: the policy database is older than what is in force, where it may be confirmed",
    action: 'Restore a newer copy, or accept this one with "weir policy accept-database"',
  });
}

/** The stored policy; one that cannot be decoded is as none, for it is to be replaced. */
async function storedPolicy(tx: StoreTransaction, name: string): Promise<PolicyMessage | undefined> {
  try {
    return await tx.get<PolicyMessage>(POLICIES, name);
  } catch (error) {
    if ((error as ProblemError).code === "OBJECT_UNREADABLE") return undefined;
    throw error;
  }
}

/**
 * Number of the policy set after this transaction. Greater than the store's own, so that it grows across versions, and
 * never smaller than that of a repository, which counts each change.
 */
async function nextPolicyRevision(tx: StoreTransaction, changes = 1): Promise<number> {
  const newest = await tx.get<PolicyMessage>(POLICY_SET, NEWEST);
  return Math.max(newest?.policyRevision ?? 0, tx.revision) + changes;
}

/** The last write of a change, so that who reads the log in parts never takes half of it for the whole. */
async function advance(tx: StoreTransaction, policyRevision: number): Promise<void> {
  const name = placeOf(policyRevision), file = randomEpoch();
  await tx.put<PolicyMessage>(SETS, name, PolicyMessage.create({ name, policyRevision, file }));
  await tx.put<PolicyMessage>(POLICY_SET, NEWEST, PolicyMessage.create({ name: NEWEST, policyRevision }));
}

/** The place of a policy set in the ring of tags. */
function placeOf(policyRevision: number): string {
  return `${policyRevision % POLICY_SETS_MAX}`;
}

async function refuseTooMany(tx: StoreTransaction, created: number): Promise<void> {
  if (created === 0) return;
  const { rows } = await sql<{ policies: string | number }>`
    select count(*) as policies from weir_objects where collection = ${POLICIES}`.execute(tx.tx);
  const wanted = Number(rows[0].policies) + created;
  if (wanted <= POLICIES_MAX) return;
  throw new ProblemError("TOO_MANY_POLICIES", {
    status: 507,
    detail: `Cannot take policies: there would be ${wanted}`,
    found: wanted,
    expected: `at most ${POLICIES_MAX}`,
    action: "Delete policies that are no longer needed",
  });
}
