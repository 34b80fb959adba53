/**
 * Tells the policy engine what is in force on this node: never more than the datapath has taken.
 *
 *     map states told up to (epoch, r) ─▶ every endpoint has its newest map state ─▶ map states up to r are in force
 *     prefixes in the kernel up to (epoch, q) ───────────────────────────────────▶ "min(r, q) is in force here", or both
 *                                                                                  where they come from different replicas
 *     one cannot be applied            ─▶ the last r that was in force stays, with why
 *
 * @module
 */
import { type Clock, type Position, unixSeconds } from "@weir/common";
import type { EndpointTable } from "./endpoint_table.ts";
import type { Peer } from "./peer.ts";
import type { PolicyReconciler } from "./policy_reconciler.ts";
import { CLOSED_POLICY } from "./policy_reconciler.ts";
import type { NewestPolicySet, PolicySetStore } from "./policy_set_file.ts";
import type { PolicyInForce, PolicySource } from "./sources.ts";
import type { Workload } from "./workload.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** How often it is said again although nothing has changed, milliseconds; a large cluster's engine wants it less often. */
export const REPEAT_MS = 6_000;
/** At least so often, whatever the engine wants. */
export const REPEAT_MS_MAX = 60_000;
/** How long after a change it is looked at, milliseconds: every endpoint is compared. */
const LOOK_DELAY_MS = 20;
const ACKNOWLEDGE = "acknowledge policies";

/** What {@link PolicyAcknowledger} is made of. */
export interface PolicyAcknowledgerParts {
  table: EndpointTable;
  policies: PolicyReconciler;
  source: PolicySource;
  /** Keeps the newest policy set over restarts; without one it is learnt anew. */
  store?: PolicySetStore;
  log: (message: string, fields?: Record<string, unknown>) => void;
  peer: Peer;
  clock: Clock;
  /** Whether the datapath is configured and was told of every endpoint that runs. */
  isTold: () => boolean;
  /** Up to where the prefixes of policies are in the kernel; undefined: not all of them. */
  prefixPosition: () => Position | undefined;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Compares and tells, in a queue of its own. */
export class PolicyAcknowledger {
  /** Up to where map states are in force; undefined before the first time. */
  mapStates: Position | undefined;
  /** What is in force now; undefined before the first time. */
  inForce: PolicyInForce | undefined;
  readonly #parts: PolicyAcknowledgerParts;
  readonly #queue: WorkQueue;
  #told: PolicyInForce | undefined;
  #toldMs = 0;
  #repeatMs = REPEAT_MS;
  #lookDue = false;
  /** The newest policy set that was ever in force here: an engine with an older database is told apart by it. */
  #newest = 0;
  /** The newest that the engine named, and whether that is on the disk. */
  #named: NewestPolicySet = { policyRevision: 0, policySet: "" };
  #isKept = true;
  readonly #stop = new AbortController();

  constructor(parts: PolicyAcknowledgerParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({ clock: parts.clock, work: () => this.#tell(), onResult: parts.onResult });
  }

  /** The newest policy set that was ever in force here, as far as is known; 0: none. */
  get newestPolicyRevision(): number {
    for (const { status } of this.#parts.table.workloads()) {
      this.#newest = Math.max(this.#newest, status.policyRevision);
    }
    return this.#newest;
  }

  /** That policy set, or one before it, as the engine named it; "": none. */
  get newestPolicySet(): string {
    return this.#named.policySet;
  }

  /** Reads back what an earlier process knew. */
  async load(): Promise<void> {
    const kept = await this.#parts.store?.load();
    if (kept === undefined) return;
    this.#named = kept;
    this.#newest = Math.max(this.#newest, kept.policyRevision);
  }

  /** Something was told or applied. Many things of a moment are looked at once. */
  look(): void {
    if (this.#lookDue) return;
    this.#lookDue = true;
    void this.#parts.clock.sleep(LOOK_DELAY_MS, this.#stop.signal).then(() => {
      this.#lookDue = false;
      if (!this.#stop.signal.aborted) this.#look();
    });
  }

  #look(): void {
    const { policies, clock } = this.#parts;
    const position = policies.position;
    if (!position) return;
    const behind = this.#behind();
    if (behind === undefined && !isSame(this.mapStates, position)) this.mapStates = position;
    this.#note(behind ?? "");
    const { inForce } = this;
    const news = inForce &&
      !(isSame(inForce, this.#told) && isSame(inForce.prefixes, this.#told?.prefixes) &&
        inForce.error === this.#told?.error &&
        inForce.newestPolicyRevision === this.#told.newestPolicyRevision);
    // Again and again: a sign of life, and an engine may have forgotten.
    const due = inForce && clock.nowMs() - this.#toldMs >= this.#repeatMs;
    if (news || due) this.#queue.suggest(ACKNOWLEDGE);
  }

  #note(error: string): void {
    const { clock, table, prefixPosition } = this.#parts;
    const endpoints = [...table.workloads()].length;
    const { newestPolicyRevision, inForce: before } = this;
    const now = reached(this.mapStates, prefixPosition());
    if (now && !(isSame(now, before) && isSame(now.prefixes, before?.prefixes))) {
      this.inForce = { ...now, sinceUnixS: unixSeconds(clock), error, endpoints, newestPolicyRevision };
    } else if (before) this.inForce = { ...before, error, endpoints, newestPolicyRevision };
    else if (error !== "") {
      const sinceUnixS = unixSeconds(clock);
      this.inForce = { epoch: "", revision: 0, sinceUnixS, error, endpoints, newestPolicyRevision };
    }
  }

  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  get isIdle(): boolean {
    return this.#queue.isIdle;
  }
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#queue.stop();
  }

  /** Why the newest map states are not in force everywhere; `""`: they are being applied; undefined: they are. */
  #behind(): string | undefined {
    if (!this.#parts.isTold()) return "";
    let behind: string | undefined;
    for (const workload of this.#parts.table.workloads()) {
      const why = this.#whyBehind(workload);
      if (why) return why;
      behind ??= why;
    }
    return behind;
  }

  #whyBehind(workload: Workload): string | undefined {
    const { policies } = this.#parts;
    const { status, spec, mapState, deleting } = workload;
    // One that passes nothing yet is behind nothing.
    if (deleting || status.identity === 0 || status.policy === CLOSED_POLICY) return undefined;
    const newest = policies.mapState(status.identity);
    if (
      mapState !== undefined && mapState === newest && policies.heldUntilMs(status.identity) === undefined
    ) {
      return undefined;
    }
    const failed = workload.conditions.get("POLICY_FAILED") ?? workload.conditions.get("POLICY_STALE") ??
      workload.conditions.get("DATAPATH_SILENT");
    return failed ? `${spec.name}: ${failed.message}` : "";
  }

  async #tell(): Promise<void> {
    const inForce = this.inForce;
    if (!inForce) return;
    const { source, peer, clock } = this.#parts;
    const named = await peer.call("say which policies are in force", () => source.acknowledge(inForce));
    this.#told = inForce;
    this.#toldMs = clock.nowMs();
    this.#repeatMs = repeatMsOf(named.repeatS);
    await this.#keep(named);
  }

  /** Keeps what the engine named; an engine with an older database names older ones. */
  async #keep({ policyRevision, policySet }: NewestPolicySet): Promise<void> {
    const { store, log } = this.#parts, before = this.#named, named = { policyRevision, policySet };
    if (named.policySet !== "" && named.policyRevision >= this.newestPolicyRevision) {
      const isSame = named.policySet === before.policySet && named.policyRevision === before.policyRevision;
      if (!isSame) {
        this.#named = named;
        this.#newest = named.policyRevision;
        this.#isKept = false;
      }
    }
    if (this.#isKept || store === undefined) return;
    try {
      await store.save(this.#named);
      this.#isKept = true;
    } catch (error) {
      // It is tried again with the next sign of life; until then this process knows it.
      log("Cannot keep which policies are in force", { error });
    }
  }
}

/** After how many milliseconds it is said again. @param repeatS what the engine wants, in seconds; undefined or 0: nothing */
export function repeatMsOf(repeatS: number | undefined): number {
  return Math.min(REPEAT_MS_MAX, Math.max(REPEAT_MS, (repeatS || 0) * 1000));
}

function isSame(a: Position | undefined, b: Position | undefined): boolean {
  return a?.epoch === b?.epoch && a?.revision === b?.revision;
}

/**
 * What both streams have reached; undefined when one has nothing yet. Streams of different replicas are told both: the
 * engine knows which policy set is in which of its tables.
 */
function reached(
  mapStates: Position | undefined,
  prefixes: Position | undefined,
): Position & { prefixes?: Position } | undefined {
  if (!mapStates || !prefixes) return undefined;
  const { epoch, revision } = mapStates;
  if (epoch !== prefixes.epoch) return { epoch, revision, prefixes };
  return { epoch, revision: Math.min(revision, prefixes.revision) };
}
