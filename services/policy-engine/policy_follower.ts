/**
 * Brings the repository in line with the policies in the database: after a start, after each change of any replica, and
 * after the database was replaced by another copy of itself.
 * @module
 */
import { type Clock, type Health, type Logger, unixSeconds } from "@weir/common";
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import type { Policy as PolicyMessage, PolicyFault } from "@weir/proto/policy";
import { formatPolicySet, type PolicySet } from "./evidence.ts";
import { type Policy, policyMentions } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import type { PolicyStore } from "./policy_store.ts";
import { SERVICE_PREFIX } from "./service_manifest.ts";
import { readStored } from "./stored_policy.ts";

/** How often the numbers are compared with the policies without a reason, in milliseconds. */
const RECONCILE_MS = 10 * 60_000;
/** How often policies are read anew while others write faster than they are read. */
const RELOADS_MAX = 100;

/** Name of the fault of a database that is older than what is in force. */
export const DATABASE_FAULT = "database";

/** Options of {@link PolicyFollower}. */
export interface PolicyFollowerOptions {
  store: PolicyStore;
  repository: PolicyRepository;
  cluster: string;
  clock: Clock;
  log: Logger;
  health: Health;
}

/** A stored policy that cannot be put in force. */
export interface UnreadPolicy {
  readonly why: string;
  readonly sinceUnixS: number;
  /** Of the stored version; 0: not known. */
  readonly policyRevision: number;
}

/** See the top of the file. */
export class PolicyFollower {
  readonly #options: PolicyFollowerOptions;
  readonly #unread = new Map<string, UnreadPolicy>();
  /** Names of policies that did not come from Kubernetes. */
  readonly #others = new Set<string>();
  /** Those among them whose bytes cannot be decoded: the table does not have them. */
  #undecodable = new Set<string>();
  /** The newest policy set that was taken in without doubt: nodes may have it. */
  #known = 0;
  /** The same with its tag, as the database had it. */
  #knownSet: PolicySet | undefined;
  #revision = -1;
  #epoch = "";
  #cidrRevision = -1;
  #reconcileDue = false;
  #reconciledMs = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: PolicyFollowerOptions) {
    this.#options = options;
  }

  /** Resolves when there is something to take in, or it is time to compare, or `signal` aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const done = new AbortController();
    const either = AbortSignal.any([signal, done.signal]);
    const { store, clock } = this.#options;
    await Promise.race([
      store.policies.waitBeyond(this.#revision, either),
      clock.sleep(RECONCILE_MS + 1, either),
    ]);
    done.abort();
  }

  /**
   * True while nodes have newer policies than all that this process ever had: nothing of its own may be given out, and its
   * prefixes are not all, while one that is missing is taken for gone.
   */
  get isBehind(): boolean {
    return Math.max(0, ...this.#options.store.doubts.values()) > this.#known;
  }

  /** The policy set that was taken in last without doubt, `REVISION:TAG`; "" where it has no tag. */
  get policySet(): string {
    return this.#knownSet === undefined ? "" : formatPolicySet(this.#knownSet);
  }

  /** All stored policies came from Kubernetes, and could be read. */
  get isMirrored(): boolean {
    const unread = this.#unread.size - (this.#unread.has(DATABASE_FAULT) ? 1 : 0);
    return this.#others.size === 0 && unread === 0;
  }

  /** Stored policies that cannot be put in force, by name. */
  get unread(): ReadonlyMap<string, UnreadPolicy> {
    return this.#unread;
  }

  /** The same for readers outside. */
  faults(): PolicyFault[] {
    return [...this.#unread].map(([name, { why, sinceUnixS, policyRevision }]) => ({
      name,
      error: why,
      sinceUnixS,
      policyRevision,
      holds: this.#options.repository.isHeld(name),
    }));
  }

  /**
   * Takes in what the tables have beyond what was taken in; one call at a time. Answers whether anything changed.
   * @throws {ProblemError} DATABASE_UNAVAILABLE, when the numbers of prefixes have to be compared with the database
   */
  sync(): Promise<boolean> {
    const next = this.#turn.then(() => this.#sync());
    this.#turn = next.catch(() => {});
    return next;
  }

  async #sync(): Promise<boolean> {
    const { repository, store } = this.#options;
    const changed = await this.#takeIn();
    // What changes in doubt is given to nobody.
    if (store.doubts.size === 0) {
      this.#known = repository.policyRevision;
      const { policyRevision, policySetTag: tag } = store, { isMirrored } = this;
      this.#knownSet = tag === undefined ? undefined : { policyRevision, tag, isMirrored };
    }
    return changed;
  }

  async #takeIn(): Promise<boolean> {
    const { clock } = this.#options;
    if (clock.monotonicMs() - this.#reconciledMs > RECONCILE_MS) this.#reconcileDue = true;
    let changed = this.#reconcileDue ? undefined : this.#takeChanges();
    if (changed !== undefined && !this.#reconcileDue) return changed;
    do {
      await this.#reload();
      // A policy that still has no numbers waits for the next time; nothing here would help it.
      this.#reconcileDue = false;
      changed = this.#takeChanges();
    } while (changed === undefined);
    return true;
  }

  /** What came since the last time, from the tables' histories; undefined when those do not reach back so far. */
  #takeChanges(): boolean | undefined {
    const { store, repository } = this.#options;
    const at = { revision: this.#revision, epoch: this.#epoch };
    if (this.#revision < 0 || !store.policies.holds(at)) return undefined;
    const numbers = store.cidrs.changesSince(this.#cidrRevision, Infinity);
    const changes = store.policies.changesSince(this.#revision, Infinity);
    if (numbers === undefined || changes === undefined) return undefined;
    this.#cidrRevision = store.cidrs.revision;
    this.#revision = store.policies.revision;
    this.#epoch = store.policies.epoch;
    if (numbers.some(({ value, previous }) => value && previous && value.identity !== previous.identity)) {
      repository.renumberPrefixes();
    }
    for (const { name, value } of changes) {
      if (value) this.#upsert(value, readStored(value, this.#options.cluster));
      else this.#remove(name);
    }
    const undecodable = this.#takeUndecodable(), doubt = this.#takeDoubt();
    const newer = store.policyRevision > repository.policyRevision;
    repository.advancePolicyRevision(store.policyRevision);
    return newer || undecodable || doubt || numbers.length + changes.length > 0;
  }

  /** Everything anew. Until the database agrees on the numbers, what is in force stays. */
  async #reload(): Promise<void> {
    const { store, repository, clock, cluster } = this.#options;
    const read = new Map<PolicyMessage, Policy | string>();
    for (let attempt = 1;; attempt++) {
      const messages = store.policies.list(), { revision, epoch } = store.policies;
      const cidrRevision = store.cidrs.revision;
      for (const message of messages) if (!read.has(message)) read.set(message, readStored(message, cluster));
      const mentioned = new Map<string, string[]>(), unread = new Set(store.undecodable.keys());
      for (const message of messages) {
        const policy = read.get(message)!;
        if (typeof policy === "string") unread.add(message.name);
        else mentioned.set(message.name, policyMentions(policy));
      }
      const given = repository.mentionedPairs();
      const before = { policyRevision: this.#known, policySet: this.#knownSet };
      if (!await store.reconcile(revision, { mentioned, unread, given }, before)) {
        if (attempt < RELOADS_MAX) continue;
        throw new Error(`Cannot compare the numbers of prefixes with the policies: they change all the time`);
      }
      this.#reconciledMs = clock.monotonicMs();
      this.#revision = revision;
      this.#epoch = epoch;
      this.#cidrRevision = cidrRevision;
      const names = new Set([
        ...messages.map(({ name }) => name),
        ...store.undecodable.keys(),
        DATABASE_FAULT,
      ]);
      for (const { name } of repository.policies()) if (!names.has(name)) this.#remove(name);
      for (const name of [...this.#unread.keys()]) if (!names.has(name)) this.#remove(name);
      repository.renumberPrefixes();
      for (const message of messages) this.#upsert(message, read.get(message)!);
      this.#takeUndecodable();
      this.#takeDoubt();
      return;
    }
  }

  #upsert(message: PolicyMessage, policy: Policy | string): void {
    const { repository } = this.#options;
    let why = policy as string;
    const isToldAgain = message.file.startsWith(KUBERNETES_FILE_MARK) ||
      message.name.startsWith(SERVICE_PREFIX);
    if (isToldAgain) this.#others.delete(message.name);
    else this.#others.add(message.name);
    if (typeof policy !== "string") {
      try {
        repository.upsertPolicy(policy);
        this.#unread.delete(message.name);
        repository.release(message.name);
        this.#tell();
        return;
      } catch (error) {
        why = (error as Error).message;
        this.#reconcileDue = true;
      }
    }
    const clusterwide = message.kind === "CiliumClusterwideNetworkPolicy" || message.namespace === "";
    this.#setAside(message.name, clusterwide ? undefined : message.namespace, why, message.policyRevision);
  }

  /** Rows that no version of the table has. Whom they may select, only their names tell. Answers whether that changed. */
  #takeUndecodable(): boolean {
    const { store } = this.#options;
    const undecodable = store.undecodable;
    let changed = false;
    for (const [name, why] of undecodable) {
      if (this.#unread.get(name)?.why === why) continue;
      this.#setAside(name, namespaceOf(name), why);
      changed = true;
    }
    for (const name of this.#undecodable) {
      if (undecodable.has(name)) continue;
      if (store.policies.get(name) === undefined) this.#remove(name);
      changed = true;
    }
    this.#undecodable = new Set(undecodable.keys());
    return changed;
  }

  /** Whether the database is older than what is in force: nothing of it is then given out. Answers whether that changed. */
  #takeDoubt(): boolean {
    const { store, repository } = this.#options, { doubts } = store;
    const before = this.#unread.get(DATABASE_FAULT);
    if (doubts.size === 0) {
      if (before === undefined) return false;
      repository.release(DATABASE_FAULT);
      this.#unread.delete(DATABASE_FAULT);
      this.#tell();
      return true;
    }
    const nodes = [...doubts.keys()].filter((node) => node !== "").sort();
    const more = nodes.length > 3 ? ` and ${nodes.length - 3} more` : "";
    const where = nodes.length > 0 ? ` on ${nodes.slice(0, 3).join(", ")}${more}` : "";
    const lies = nodes.length > 0 ? ', or remove a node that lies with "weir cluster remove"' : "";
    const why = `the policy database is older than what is in force${where} (policy revision ` +
      `${Math.max(...doubts.values())}): restore a newer copy, or accept this one with ` +
      `"weir policy accept-database"${lies}`;
    if (before?.why === why) return false;
    this.#setAside(DATABASE_FAULT, undefined, why);
    return true;
  }

  /**
   * Stored by another version, by a replica with other limits, or damaged. What was in force stays. Where nothing was
   * (after a restart) the policy is still no "no policy": it may deny what others allow, so whom it may select is held.
   * @param namespace whom it may select; undefined: everyone
   */
  #setAside(name: string, namespace: string | undefined, why: string, policyRevision = 0): void {
    const { repository, clock, log } = this.#options;
    if (!repository.policy(name)) {
      const what = name === DATABASE_FAULT ? why : `${name} is stored and cannot be read: ${why}`;
      repository.hold(name, namespace, what);
    }
    const sinceUnixS = this.#unread.get(name)?.sinceUnixS ?? unixSeconds(clock);
    this.#unread.set(name, { why, sinceUnixS, policyRevision });
    log.error("Stored policy cannot be put in force", { policy: name, why });
    this.#tell();
  }

  #remove(name: string): void {
    const { repository } = this.#options;
    repository.removePolicy(name);
    repository.release(name);
    this.#others.delete(name);
    this.#unread.delete(name);
    this.#tell();
  }

  #tell(): void {
    const { health, repository } = this.#options;
    if (this.#unread.size === 0) return health.remove("stored-policies");
    const names = [...this.#unread.keys()], held = names.filter((name) => repository.isHeld(name));
    const name = held[0] ?? names[0];
    const more = names.length > 1 ? ` (and ${names.length - 1} more)` : "";
    const { why } = this.#unread.get(name)!;
    const text = `${name === DATABASE_FAULT ? why : `cannot put ${name} in force: ${why}`}${more}`;
    if (held.length === 0) return health.ok("stored-policies", `${text}; the version before stays in force`);
    health.waitFor(
      "stored-policies",
      `${text}; whom it may select keeps what it has, new endpoints are closed`,
    );
  }
}

/** The namespace of a policy by its name, `cnp:NAMESPACE/NAME`; undefined: it has none, or that cannot be told. */
function namespaceOf(name: string): string | undefined {
  return /^(?:cnp|knp):([^/]+)\/[^/]+$/.exec(name)?.[1];
}
