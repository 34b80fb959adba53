/**
 * The service: policies from the database and identities from the allocator go into the repository, what it resolves is
 * served. A function of its clients, database, clock and configuration; `handler` needs no socket.
 * @module
 */
import {
  ApiServer,
  type Clock,
  Health,
  Logger,
  MetricsRegistry,
  ProblemError,
  problemResponse,
  systemClock,
} from "@weir/common";
import type { Database } from "@weir/common/state";
import type { WeirClient } from "@weir/client";
import type { Policy as PolicyMessage } from "@weir/proto/policy";
import { Directory } from "./directory.ts";
import { readManifests } from "./manifest.ts";
import { formatFault } from "@weir/common/manifest";
import { PolicyRepository } from "./policy_repository.ts";
import { PolicyStore } from "./policy_store.ts";
import { Publisher } from "./publisher.ts";
import { mountRoutes } from "./routes.ts";

/** What the engine is built from. */
export interface PolicyEngineOptions {
  /** Where policies are kept; the caller closes it after `stop()`. */
  database: Database;
  /** Client of the identity-allocator. */
  allocator: WeirClient;
  /** Name of the local cluster; default `default`. */
  cluster?: string;
  clock?: Clock;
  /** Default: a server of its own with the parts below. */
  api?: ApiServer;
  log?: Logger;
  health?: Health;
  metrics?: MetricsRegistry;
}

/** Longest wait before a burst of changes is given to watchers, in milliseconds. */
const PUBLISH_DELAY_MS = 1;

/** Builds the engine; nothing runs before `start()`. */
export function createPolicyEngine(options: PolicyEngineOptions): PolicyEngine {
  return new PolicyEngine(options);
}

/** See the module comment. */
export class PolicyEngine {
  readonly repository: PolicyRepository = new PolicyRepository();
  readonly api: ApiServer;
  readonly publisher: Publisher;
  readonly store: PolicyStore;
  readonly directory: Directory;
  readonly cluster: string;
  readonly #log: Logger;
  readonly #health: Health;
  readonly #stop = new AbortController();
  #loops: Promise<void>[] = [];
  #policyRevision = -1;
  #policiesLoaded = false;
  #publishing: ReturnType<typeof setTimeout> | undefined;

  constructor(options: PolicyEngineOptions) {
    this.cluster = options.cluster ?? "default";
    this.#log = options.log ?? options.api?.log ?? Logger.silent();
    this.#health = options.health ?? options.api?.health ?? new Health();
    const metrics = options.metrics ?? options.api?.metrics ?? new MetricsRegistry();
    const clock = options.clock ?? systemClock;
    this.api = options.api ??
      new ApiServer({ name: "policy-engine", health: this.#health, metrics, log: this.#log });
    this.publisher = new Publisher(this.repository, metrics);
    const common = { clock, log: this.#log, health: this.#health };
    this.store = new PolicyStore({ database: options.database, ...common });
    this.directory = new Directory(this.repository, {
      allocator: options.allocator,
      cluster: this.cluster,
      onChange: () => this.#changed(),
      ...common,
    });
    mountRoutes(this);
  }

  /**
   * Serves one request. What is resolved is not shown before everything it depends on is in sync: an empty list would
   * look like "no policy".
   */
  readonly handler = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    const isState = /^\/v1\/(mapstates|cidridentities|rules|explain|revision)\b/.test(pathname);
    if ((isState && !this.ready) || (pathname.startsWith("/v1/policies") && !this.#policiesLoaded)) {
      const waits = this.#health.list().filter((check) => !check.ok).map((check) => check.message);
      return problemResponse(
        new ProblemError("NOT_READY", {
          status: 503,
          detail: `Cannot answer yet: ${waits.join("; ") || "starting"}`,
          action: "Try again; /readyz?verbose says what is waited for",
        }),
      );
    }
    return await this.api.fetch(request);
  };

  /** True once policies, identities and port names were all complete. */
  get ready(): boolean {
    return this.#policiesLoaded && this.directory.synced;
  }

  /** Begins; resolves at once, `waitReady` says when it serves. */
  start(): void {
    this.directory.start();
    this.#loops.push(this.#followPolicies());
  }

  /** Resolves when the engine is ready, or was stopped. */
  async waitReady(): Promise<void> {
    await this.directory.waitSynced(this.#stop.signal);
    while (!this.#policiesLoaded && !this.#stop.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.publishNow();
  }

  /** Ends all background work; the database stays open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#publishing);
    await this.store.store.stop();
    await this.directory.stop();
    await Promise.all(this.#loops);
  }

  /** Brings the repository up to date with the table of policies. Called by the loop, and after each own write. */
  syncPolicies(): void {
    const { policies, cidrs } = this.store;
    for (const pair of cidrs.list()) this.repository.learnCidr(pair);
    const changes = this.#policyRevision < 0
      ? undefined
      : policies.changesSince(this.#policyRevision, 100_000);
    if (changes) {
      for (const change of changes) {
        if (change.value) this.#upsert(change.value);
        else this.repository.removePolicy(change.name);
      }
    } else {
      for (const message of policies.list()) this.#upsert(message);
      for (const { name } of this.repository.policies()) {
        if (!policies.has(name)) this.repository.removePolicy(name);
      }
    }
    this.#policyRevision = policies.revision;
    // The database counts the changes of all its collections; only those of policies are a new policy set.
    const newest = changes ? changes.at(-1)?.revision : policies.revision;
    if (newest === undefined) return;
    this.repository.advancePolicyRevision(newest);
    this.#changed();
  }

  /** Gives all changes to the watchers now. */
  publishNow(): void {
    clearTimeout(this.#publishing);
    this.#publishing = undefined;
    // Before everything is known a map state would be wrong, and nobody can see it anyway.
    if (this.ready) this.publisher.publish();
  }

  #upsert(message: PolicyMessage): void {
    const { policies, faults } = readManifests(message.manifest, {
      file: message.file,
      line: Math.max(1, message.line),
      namespace: message.namespace || undefined,
      cluster: this.cluster,
    });
    const policy = policies.find(({ name }) => name === message.name);
    let why = faults[0] ? formatFault(faults[0], message.file) : "it holds another policy";
    try {
      if (policy) return void this.repository.upsertPolicy(policy);
    } catch (error) {
      why = (error as Error).message;
    }
    // Stored by another version, or by a replica with other limits. What was in force stays, and the reason can be seen.
    this.#health.ok("stored-policies", `cannot read ${message.name}: ${why}`);
    this.#log.error("Stored policy cannot be read", { policy: message.name, why });
  }

  async #followPolicies(): Promise<void> {
    const { signal } = this.#stop;
    await this.store.store.start();
    if (signal.aborted) return;
    this.syncPolicies();
    this.#policiesLoaded = true;
    this.#changed();
    const unused = this.store.cidrs.list().map(({ prefix }) => prefix)
      .filter((prefix) => this.repository.isPrefixUnused(prefix));
    this.repository.releaseUnusedPrefixes();
    await this.store.forget(unused).catch((error) => this.#log.warn("Cannot forget prefixes", { error }));
    while (!signal.aborted) {
      await this.store.policies.waitBeyond(this.#policyRevision, signal);
      if (!signal.aborted) this.syncPolicies();
    }
  }

  #changed(): void {
    if (this.#publishing !== undefined || this.#stop.signal.aborted) return;
    this.#publishing = setTimeout(() => this.publishNow(), PUBLISH_DELAY_MS);
  }
}
