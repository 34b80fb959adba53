/**
 * Policies and the numbers of their prefixes in the database. A change is one transaction; the tables follow it in every
 * replica, and the engine follows the tables.
 * @module
 */
import {
  type Clock,
  type Health,
  IDENTITY_LOCAL_MAX,
  IDENTITY_LOCAL_MIN,
  type Logger,
  ProblemError,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store, type StoreTransaction } from "@weir/common/state";
import { CidrIdentity, Policy as PolicyMessage, type PolicyChange } from "@weir/proto/policy";
import { CIDR_IDENTITIES_MAX } from "./cidr_identities.ts";
import type { Policy } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";

/** Most policies that the engine takes. */
export const POLICIES_MAX = 50_000;

/** Collections in the database. The last holds one object, the next free number. */
const POLICIES = "policies";
const CIDRS = "policy-cidrs";
const COUNTER = "policy-cidr-counter";

/** Options of {@link PolicyStore}. */
export interface PolicyStoreOptions {
  database: Database;
  clock: Clock;
  log: Logger;
  health: Health;
}

/** See the module comment. */
export class PolicyStore {
  readonly store: Store;
  readonly policies: WatchedTable<PolicyMessage>;
  readonly cidrs: WatchedTable<CidrIdentity>;
  readonly #clock: Clock;

  constructor(options: PolicyStoreOptions) {
    this.#clock = options.clock;
    this.store = new Store(options);
    this.policies = this.store.collection(POLICIES, PolicyMessage, { entriesMax: POLICIES_MAX });
    this.cidrs = this.store.collection(CIDRS, CidrIdentity);
    this.store.collection(COUNTER, CidrIdentity);
  }

  /**
   * Writes policies and gives their prefixes numbers, all or nothing. A policy that is stored with the same text is left
   * as it is.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, TOO_MANY_POLICIES, TOO_MANY_PREFIXES
   */
  async put(policies: readonly Policy[], repository: PolicyRepository): Promise<PolicyChange[]> {
    const fresh = policies.filter((policy) => !this.policies.has(policy.name)).length;
    if (this.policies.size + fresh > POLICIES_MAX) {
      throw tooMany("TOO_MANY_POLICIES", "policies", POLICIES_MAX);
    }
    return await this.store.transact(async (tx) => {
      const changes: PolicyChange[] = [];
      await this.#numberPrefixes(tx, policies, repository);
      for (const policy of policies) {
        const before = await tx.get<PolicyMessage>(POLICIES, policy.name);
        const warnings = policy.warnings.map((warning) => ({ ...warning }));
        const same = before?.manifest === policy.manifest && before.file === policy.file &&
          before.line === policy.line;
        const change = !before ? "created" : same ? "unchanged" : "configured";
        changes.push({ name: policy.name, change, warnings });
        if (same) continue;
        await tx.put<PolicyMessage>(POLICIES, policy.name, {
          name: policy.name,
          kind: policy.kind,
          namespace: policy.namespace,
          policyName: policy.policyName,
          manifest: policy.manifest,
          file: policy.file,
          line: policy.line,
          policyRevision: tx.revision + 1,
          warnings,
          createdUnixS: before?.createdUnixS ?? unixSeconds(this.#clock),
        });
      }
      return changes;
    });
  }

  /** Deletes policies; those that are not there are "absent". */
  async delete(names: readonly string[]): Promise<PolicyChange[]> {
    return await this.store.transact(async (tx) => {
      const changes: PolicyChange[] = [];
      for (const name of names) {
        const change = await tx.delete(POLICIES, name) ? "deleted" : "absent";
        changes.push({ name, change, warnings: [] });
      }
      return changes;
    });
  }

  /** Forgets the numbers of prefixes that no policy mentions. For after a start, when that is known. */
  async forget(prefixes: readonly string[]): Promise<void> {
    if (prefixes.length === 0) return;
    await this.store.transact(async (tx) => {
      for (const prefix of prefixes) await tx.delete(CIDRS, prefix);
    });
  }

  /** The counter's row is locked by the transaction, so no two replicas give out one number. */
  async #numberPrefixes(
    tx: StoreTransaction,
    policies: readonly Policy[],
    repository: PolicyRepository,
  ): Promise<void> {
    const prefixes = repository.unnumberedPrefixes(policies);
    if (prefixes.length === 0) return;
    if (this.cidrs.size + prefixes.length > CIDR_IDENTITIES_MAX) {
      throw tooMany("TOO_MANY_PREFIXES", "prefixes in all policies together", CIDR_IDENTITIES_MAX);
    }
    const counter = await tx.get<CidrIdentity>(COUNTER, "next");
    let next = counter?.identity ?? IDENTITY_LOCAL_MIN + 1;
    for (const prefix of prefixes) {
      if (await tx.get(CIDRS, prefix)) continue;
      while (repository.isCidrNumberTaken(next)) next++;
      if (next > IDENTITY_LOCAL_MAX) next = IDENTITY_LOCAL_MIN + 1;
      await tx.put<CidrIdentity>(CIDRS, prefix, { prefix, identity: next++, labels: [] });
    }
    await tx.put<CidrIdentity>(COUNTER, "next", { prefix: "", identity: next, labels: [] });
  }
}

function tooMany(code: string, what: string, max: number): ProblemError {
  return new ProblemError(code, {
    status: 507,
    detail: `Cannot take policies: there would be more than ${max} ${what}`,
    expected: `at most ${max}`,
    action: "Delete policies that are no longer needed",
  });
}
