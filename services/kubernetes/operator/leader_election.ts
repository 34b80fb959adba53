/**
 * Of several operators one leads: who holds the Lease. A follower believes a holder for as long as the Lease changed within
 * its duration, by the follower's own steady clock; times that others wrote are compared with nothing.
 * @module
 */
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { type ApiClient, ApiServerError, type KubernetesObject, RESOURCES } from "../api/mod.ts";
import { LEASE_TIMES, type LeaseTimes, Term } from "./term.ts";

/** Options of {@link LeaderElection}. */
export interface LeaderElectionOptions {
  namespace: string;
  /** Of the Lease. */
  name: string;
  /** Who this is; of no other operator, nor of this one before its restart. */
  holder: string;
  /** Runs while this one leads; it ends soon after the term's signal. What it throws ends the term. */
  lead: (term: Term) => Promise<void>;
  times?: LeaseTimes;
  clock?: Clock;
  log?: Logger;
  /** Randomness in [0,1). */
  random?: () => number;
}

/** What is needed of the API server. */
export type LeaseClient = Pick<ApiClient, "get" | "create" | "update" | "clock">;

/** What is known of the Lease. */
interface Seen {
  lease: KubernetesObject;
  /** Steady clock when this version was seen first. */
  sinceMs: number;
  /** Somebody has deleted it since: its holder does not know that yet. */
  isGone?: boolean;
}

const HOLDER_CHARS_MAX = 200;

/** Takes part until `stop()`. */
export class LeaderElection {
  readonly #client: LeaseClient;
  readonly #options: LeaderElectionOptions;
  readonly #clock: Clock;
  readonly #times: LeaseTimes;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #seen: Seen | undefined;
  #term: Term | undefined;
  #error: Error | undefined;
  #terms = 0;

  constructor(client: LeaseClient, options: LeaderElectionOptions) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? client.clock;
    this.#times = options.times ?? LEASE_TIMES;
  }

  /** Whether this one leads, and may write. */
  get isLeading(): boolean {
    return this.#term?.holds ?? false;
  }
  /** Who is known to hold the Lease; "" while nobody is. */
  get holder(): string {
    return holderOf(this.#seen?.lease);
  }
  /** Of the last request that failed; undefined after one that did not. */
  get error(): Error | undefined {
    return this.#error;
  }
  /** How often this one has begun to lead. */
  get terms(): number {
    return this.#terms;
  }

  /** Begins; repeatable. */
  start(): this {
    this.#running ??= this.#run();
    return this;
  }

  /** Ends, gives the Lease back, and resolves when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const at = Term.now(this.#clock);
      if (await this.#take(this.#times.renewMs, signal)) {
        await this.#lead(new Term(this.#clock, this.#times, at));
      } else await this.#clock.sleep(this.#retryMs(), signal);
    }
  }

  async #lead(term: Term): Promise<void> {
    const { lead, log } = this.#options;
    this.#term = term;
    this.#terms++;
    log?.info("Leads", { lease: this.#options.name });
    const work = Promise.resolve().then(() => lead(term)).catch((error) => {
      if (!term.signal.aborted) log?.error("Leading failed", { error });
    }).finally(() => term.end("its work has ended"));
    const stop = () => term.end("this operator stops");
    this.#stop.signal.addEventListener("abort", stop, { once: true });
    await this.#keep(term);
    term.end();
    await work;
    this.#stop.signal.removeEventListener("abort", stop);
    this.#term = undefined;
    log?.info("Leads no more", { lease: this.#options.name, holder: this.holder });
    // After a failure of its own another one should have a chance; nothing writes any more, so it may begin at once.
    if (this.holder === this.#options.holder) await this.#giveBack();
    if (!this.#stop.signal.aborted) await this.#clock.sleep(this.#retryMs(), this.#stop.signal);
  }

  /** Renews the Lease until the term is over. */
  async #keep(term: Term): Promise<void> {
    while (true) {
      await this.#clock.sleep(this.#times.retryMs, term.signal);
      if (term.isOver) return;
      const at = Term.now(this.#clock);
      // Never waits past the end of the term, however long an answer takes.
      if (await this.#take(Math.min(this.#times.renewMs / 2, term.leftMs), term.signal)) term.renewed(at);
      else if (this.#isOthers()) return;
    }
  }

  /** Takes or renews the Lease; false where it is another's, or nobody can tell. */
  async #take(deadlineMs: number, signal: AbortSignal): Promise<boolean> {
    try {
      if (holderOf(this.#seen?.lease) !== this.#options.holder) await this.#look(deadlineMs, signal);
      if (this.#isOthers()) return false;
      const lease = this.#seen?.isGone ? undefined : this.#seen?.lease;
      const spec = this.#specOf(lease);
      const { namespace, name } = this.#options;
      const written = lease === undefined
        ? await this.#client.create(RESOURCES.Lease, { metadata: { namespace, name }, spec }, {
          deadlineMs,
          signal,
        })
        : await this.#client.update(RESOURCES.Lease, { ...lease, spec }, { deadlineMs, signal });
      this.#saw(written);
      this.#error = undefined;
      return true;
    } catch (error) {
      // What is there now is looked at anew: also whether an unanswered request was carried out.
      this.#seen = this.#seen && { ...this.#seen, lease: { ...this.#seen.lease, spec: {} } };
      if (!signal.aborted) {
        this.#error = error instanceof Error ? error : new Error(String(error));
        const isLost = error instanceof ApiServerError && /^CONFLICT$|^ALREADY_EXISTS$/.test(error.code);
        this.#options.log?.[isLost ? "debug" : "warn"]("Cannot take the lease", { error });
        await this.#look(deadlineMs, signal).catch(() => {});
      }
      return false;
    }
  }

  async #look(deadlineMs: number, signal: AbortSignal): Promise<void> {
    const { namespace, name } = this.#options;
    try {
      this.#saw(await this.#client.get(RESOURCES.Lease, name, { namespace, deadlineMs, signal }));
    } catch (error) {
      if (!(error instanceof ApiServerError && error.code === "NOT_FOUND")) throw error;
      if (this.#seen !== undefined) this.#seen.isGone = true;
    }
  }

  #saw(lease: KubernetesObject): void {
    const { resourceVersion, uid } = lease.metadata;
    const before = this.#seen?.lease.metadata;
    const isSame = before?.resourceVersion === resourceVersion && before?.uid === uid;
    this.#seen = { lease, sinceMs: isSame ? this.#seen!.sinceMs : this.#clock.monotonicMs() };
  }

  /** Whether another one holds the Lease, and is to be believed still. */
  #isOthers(): boolean {
    if (this.#seen === undefined) return false;
    const holder = holderOf(this.#seen.lease);
    if (holder === "" || holder === this.#options.holder) return false;
    const saidMs = Number(this.#seen.lease.spec?.leaseDurationSeconds) * 1000;
    // One that says a shorter time gives itself up earlier; a longer one than an hour is nobody's.
    const leaseMs = saidMs > 0 && saidMs <= 3_600_000 ? saidMs : this.#times.leaseMs;
    return this.#clock.monotonicMs() - this.#seen.sinceMs < leaseMs;
  }

  #specOf(lease: KubernetesObject | undefined): Record<string, unknown> {
    const { holder } = this.#options;
    const now = microTime(this.#clock.nowMs());
    const isNew = holderOf(lease) !== holder;
    const transitions = Number(lease?.spec?.leaseTransitions ?? 0);
    return {
      holderIdentity: holder,
      leaseDurationSeconds: Math.ceil(this.#times.leaseMs / 1000),
      acquireTime: isNew ? now : lease?.spec?.acquireTime ?? now,
      renewTime: now,
      leaseTransitions: lease === undefined ? 0 : transitions + (isNew ? 1 : 0),
    };
  }

  async #giveBack(): Promise<void> {
    const lease = this.#seen!.lease;
    try {
      const spec = { ...this.#specOf(lease), holderIdentity: "", leaseDurationSeconds: 1 };
      this.#saw(await this.#client.update(RESOURCES.Lease, { ...lease, spec }, { deadlineMs: 2000 }));
    } catch (error) {
      this.#options.log?.debug("Cannot give the lease back", { error });
    }
  }

  #retryMs(): number {
    return this.#times.retryMs * (1 + 0.2 * (this.#options.random ?? Math.random)());
  }
}

function holderOf(lease: KubernetesObject | undefined): string {
  const holder: unknown = lease?.spec?.holderIdentity;
  return typeof holder === "string" ? holder.slice(0, HOLDER_CHARS_MAX) : "";
}

/** "2026-01-30T12:00:00.000000Z". */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}
