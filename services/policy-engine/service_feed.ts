/**
 * From the load balancer to the database: whom services mean that some policy selects, each an object beside the policies
 * (`service_manifest.ts`). Kept there, a restart has it at once, its addresses have numbers, and every replica tells nodes the same.
 *
 *     load balancer ── servicepeers ─┐
 *                                    ├─▶ objects that differ ─▶ database ─▶ PolicyFollower ─▶ repository
 *     selectors in use ──────────────┘
 *
 * While the load balancer is away what is stored stays; what its lost database took along stays for a grace.
 *
 * @module
 */
import { Backoff, type Clock, type Health, type Logger, Prefix, ProblemError } from "@weir/common";
import { Reflector, type WeirClient } from "@weir/client";
import { ServicePeers } from "@weir/proto/loadbalancer";
import { LostObjects } from "./lost_objects.ts";
import { readManifests } from "./manifest.ts";
import { type PeerSource, type ServiceFacts, serviceSource } from "./peer_source.ts";
import type { Policy } from "./policy.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import type { PolicyStore } from "./policy_store.ts";
import { SERVICE_FILE, SERVICE_PREFIX, serviceText } from "./service_manifest.ts";

/** Objects of one transaction. */
const BATCH_MAX = 200;
/** What another replica has written is compared after so long: it may have heard of a change earlier. */
const SETTLE_MS = 2000;
/** Name of the check. */
const HEALTH = "services";

/** Options of {@link ServiceFeed}. */
export interface ServiceFeedOptions {
  loadBalancer: WeirClient;
  store: PolicyStore;
  repository: PolicyRepository;
  cluster: string;
  clock: Clock;
  log: Logger;
  health: Health;
  /** Takes in what was written. */
  onWritten: () => Promise<void>;
}

/** See the module. Begins with `start()`, ends with `stop()`. */
export class ServiceFeed {
  readonly #options: ServiceFeedOptions;
  readonly #reflector: Reflector<ServicePeers>;
  readonly #known = new Map<string, { readonly peers: ServicePeers; readonly source: PeerSource }>();
  readonly #lost: LostObjects<string>;
  readonly #stop = new AbortController();
  /** Names that may differ. */
  readonly #dirty = new Set<string>();
  /** Names of services that were refused, and why. */
  readonly #faults = new Map<string, string>();
  #selectorsSeen = -1;
  #turn: Promise<void> = Promise.resolve();
  #isComparing = false;
  #wake: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(options: ServiceFeedOptions) {
    this.#options = options;
    const { loadBalancer, clock, log } = options;
    this.#lost = new LostObjects(clock);
    this.#reflector = new Reflector(loadBalancer.collection("servicepeers", ServicePeers), {
      clock,
      log,
      onChange: (name, peers, _, lost) => this.#onChange(name, peers, lost),
      onSynced: () => this.#compareStored(),
    });
  }

  /** Every service that is known. */
  *sources(): Generator<PeerSource> {
    for (const { source } of this.#known.values()) yield source;
  }

  start(): void {
    this.#reflector.start();
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#reflector.stop();
    await this.#lost.stop();
    await this.#running;
  }

  /** Policies changed: they may select other services, and another replica may have written what is stored. */
  changed(): void {
    this.#wake?.();
    if (this.#isComparing || this.#stop.signal.aborted) return;
    this.#isComparing = true;
    void this.#options.clock.sleep(SETTLE_MS, this.#stop.signal).then(() => {
      this.#isComparing = false;
      if (!this.#stop.signal.aborted) this.#compareStored();
    });
  }

  /** Writes what differs; one call at a time. What cannot be written now stays to be. @throws {ProblemError} DATABASE_UNAVAILABLE */
  settle(): Promise<void> {
    const next = this.#turn.then(() => this.#settle());
    this.#turn = next.catch(() => {});
    return next;
  }

  #onChange(name: string, peers: ServicePeers | undefined, lost: boolean): void {
    const { cluster } = this.#options;
    const change = () => {
      if (peers === undefined) this.#known.delete(name);
      else this.#known.set(name, { peers, source: serviceSource(factsOf(peers), cluster) });
      this.#dirty.add(name);
      this.#wake?.();
    };
    if (lost) return this.#lost.keep(name, change);
    this.#lost.found(name);
    change();
  }

  #compareStored(): void {
    for (const name of [...this.#storedNames(), ...this.#faults.keys()]) this.#dirty.add(name);
    this.#wake?.();
  }

  *#storedNames(): Generator<string> {
    for (const [name] of this.#options.store.policies.entries()) {
      if (name.startsWith(SERVICE_PREFIX)) yield name.slice(SERVICE_PREFIX.length);
    }
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#options, { signal } = this.#stop;
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 10_000 });
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => this.#wake = resolve);
      try {
        await this.settle();
        backoff.reset();
        await woken;
      } catch (error) {
        if (signal.aborted) return;
        log.warn("Cannot store what services mean", { error });
        await clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  async #settle(): Promise<void> {
    const { store, repository, onWritten } = this.#options, { selectors } = repository;
    // A database that is older than what is in force is a person's to judge, and gets nothing new before.
    if (!this.#reflector.synced || store.doubts.size > 0) return;
    if (this.#selectorsSeen !== selectors.sourceRevision) {
      this.#selectorsSeen = selectors.sourceRevision;
      for (const name of [...this.#known.keys(), ...this.#storedNames()]) this.#dirty.add(name);
    }
    const names = [...this.#dirty], puts: Policy[] = [], deletes: string[] = [];
    this.#dirty.clear();
    for (const name of names) {
      const known = this.#known.get(name), stored = store.policies.get(SERVICE_PREFIX + name);
      this.#faults.delete(name);
      if (known !== undefined && selectors.selectsSource(known.source)) {
        const policy = this.#policyOf(name, known.peers);
        if (policy !== undefined && policy.manifest !== stored?.manifest) puts.push(policy);
      } else if (stored !== undefined) deletes.push(stored.name);
    }
    try {
      for (let at = 0; at < puts.length; at += BATCH_MAX) await this.#put(puts.slice(at, at + BATCH_MAX));
      if (deletes.length > 0) await store.delete(deletes);
    } catch (error) {
      for (const name of names) this.#dirty.add(name);
      throw error;
    } finally {
      this.#tell();
    }
    if (puts.length + deletes.length > 0) await onWritten();
  }

  /** One that is refused (too many prefixes) keeps no other back. */
  async #put(policies: readonly Policy[]): Promise<void> {
    try {
      await this.#options.store.put(policies);
    } catch (error) {
      if (!(error instanceof ProblemError) || error.status === 503) throw error;
      if (policies.length > 1) { for (const policy of policies) await this.#put([policy]); }
      else this.#refuse(policies[0].name.slice(SERVICE_PREFIX.length), error.message);
    }
  }

  #policyOf(name: string, peers: ServicePeers): Policy | undefined {
    const { cluster } = this.#options, manifest = serviceText(factsOf(peers));
    const { policies, faults } = readManifests(manifest, { file: SERVICE_FILE, cluster, isStored: true });
    if (policies.length === 0) this.#refuse(name, `${faults[0]?.path}: ${faults[0]?.detail}`);
    return policies[0];
  }

  #refuse(name: string, why: string): void {
    this.#faults.set(name, why);
    this.#options.log.warn("Policies do not mean a service as it is", { service: name, why });
  }

  #tell(): void {
    const { health } = this.#options, [first] = this.#faults;
    if (first === undefined) return health.remove(HEALTH);
    const more = this.#faults.size > 1 ? ` (and ${this.#faults.size - 1} more)` : "";
    health.ok(HEALTH, `policies do not mean service ${first[0]} as it is: ${first[1]}${more}`);
  }
}

function factsOf({ namespace, serviceName, labels, selector, addresses }: ServicePeers): ServiceFacts {
  const known = addresses.filter((text) => Prefix.tryParse(text, { bare: true }) !== undefined);
  return { namespace, name: serviceName, labels, selector, addresses: known };
}
