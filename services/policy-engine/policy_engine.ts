/**
 * The service: policies from the database and identities from the allocator go into the repository, what it resolves is
 * served. A function of its clients, database, clock and configuration; `handler` needs no socket.
 * @module
 */
import {
  ApiServer,
  Backoff,
  type Clock,
  Health,
  Logger,
  MetricsRegistry,
  ProblemError,
  systemClock,
} from "@weir/common";
import type { Database } from "@weir/common/state";
import type { WeirClient } from "@weir/client";
import { Admission } from "./admission.ts";
import { Directory } from "./directory.ts";
import { DirectoryLoss } from "./directory_loss.ts";
import type { Evidence } from "./evidence.ts";
import { NodePolicies } from "./node_policies.ts";
import { PendingPolicies } from "./pending_policies.ts";
import { PolicyFollower } from "./policy_follower.ts";
import { PolicyRepository } from "./policy_repository.ts";
import { PolicyStore } from "./policy_store.ts";
import { Publisher } from "./publisher.ts";
import { RollCall } from "./roll_call.ts";
import { ServiceFeed } from "./service_feed.ts";

/** What the engine is built from. */
export interface PolicyEngineOptions {
  /** Where policies are kept; the caller closes it after `stop()`. */
  database: Database;
  /** Client of the identity-allocator. */
  allocator: WeirClient;
  /** Client of the load balancer, which says whom services mean; without it they mean nobody. */
  loadBalancer?: WeirClient;
  /** Name of the local cluster; default `default`. */
  cluster?: string;
  /** Policies come from Kubernetes: a new database has none until `policies:kubernetes-read`, and nobody is answered before. */
  awaitKubernetes?: boolean;
  clock?: Clock;
  /** Default: a server of its own with the parts below. */
  api?: ApiServer;
  log?: Logger;
  health?: Health;
  metrics?: MetricsRegistry;
}

/** Longest wait before a burst of changes is given to watchers, in milliseconds. */
const PUBLISH_DELAY_MS = 1;

/** Name of the check that waits for the policies of Kubernetes. */
const KUBERNETES = "kubernetes";

/** Name of the check that waits for lost identities. */
const LOST = "lost-identities";

/** The service as a whole; nothing runs before `start()`. */
export class PolicyEngine {
  readonly repository: PolicyRepository;
  readonly api: ApiServer;
  readonly publisher: Publisher;
  readonly store: PolicyStore;
  readonly follower: PolicyFollower;
  /** Rolls back what nobody confirms. */
  readonly pending: PendingPolicies;
  readonly directory: Directory;
  /** Whom services mean. */
  readonly services: ServiceFeed | undefined;
  /** What is in force at which node. */
  readonly inForce: NodePolicies;
  /** Who is answered, and when. */
  readonly admission: Admission;
  readonly cluster: string;
  readonly #loss: DirectoryLoss;
  readonly #rollCall: RollCall;
  readonly #awaitKubernetes: boolean;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #health: Health;
  readonly #stop = new AbortController();
  #loops: Promise<void>[] = [];
  #policiesLoaded = false;
  /** Nodes may carry identities that neither the allocator nor this process knows. */
  #mayLackIdentities = true;
  #isLossAsked = false;
  #judging: Promise<void> | undefined;
  #publishing: AbortController | undefined;

  constructor(options: PolicyEngineOptions) {
    this.cluster = options.cluster ?? "default";
    this.#awaitKubernetes = options.awaitKubernetes ?? false;
    this.#log = options.log ?? options.api?.log ?? Logger.silent();
    this.#health = options.health ?? options.api?.health ?? new Health();
    const metrics = options.metrics ?? options.api?.metrics ?? new MetricsRegistry();
    const clock = this.#clock = options.clock ?? systemClock;
    this.api = options.api ??
      new ApiServer({ name: "policy-engine", health: this.#health, metrics, log: this.#log, clock });
    const common = { clock, log: this.#log, health: this.#health };
    this.store = new PolicyStore({ database: options.database, cluster: this.cluster, ...common });
    this.pending = new PendingPolicies({
      table: this.store.pending,
      clock,
      log: this.#log,
      unreadable: () => this.store.undecodablePending,
      rollBack: (id) => this.store.rollBack(id),
      catchUp: () => this.syncPolicies(),
      onRolledBack: async () => {
        await this.syncPolicies();
        this.publishNow();
      },
    });
    this.repository = new PolicyRepository({
      cidrNumbers: { numberOf: (prefix) => this.store.cidrs.get(prefix)?.identity },
    });
    this.publisher = new Publisher(this.repository, metrics, clock);
    this.inForce = new NodePolicies({
      database: options.database,
      clock,
      log: this.#log,
      nodes: () => this.directory.nodes(),
      policyRevision: () => this.store.policyRevision,
      onHeard: (node) => this.#rollCall.heard(node),
      onClaim: (evidence) =>
        void this.#judge(evidence).catch((error) => {
          // Nodes say it again.
          this.#log.warn("Cannot note that the policy database is older than what is in force", { error });
        }),
    });
    this.#rollCall = new RollCall({ clock, nodes: () => this.directory.nodes() });
    this.admission = new Admission({
      health: this.#health,
      rollCall: this.#rollCall,
      isLoaded: () => this.#policiesLoaded,
      isReady: () => this.ready,
      isBehind: () => this.follower.isBehind,
      shownRevision: () => this.publisher.policyRevision,
      catchUp: async () => {
        await this.syncPolicies();
        this.publishNow();
      },
      judge: (evidence) => this.#judge(evidence),
      signal: this.#stop.signal,
    });
    this.#loss = new DirectoryLoss({ database: options.database, clock, log: this.#log });
    this.follower = new PolicyFollower({
      store: this.store,
      repository: this.repository,
      cluster: this.cluster,
      ...common,
    });
    const { loadBalancer } = options;
    this.services = loadBalancer && new ServiceFeed({
      loadBalancer,
      store: this.store,
      repository: this.repository,
      cluster: this.cluster,
      onWritten: () => this.syncPolicies(),
      ...common,
    });
    this.directory = new Directory(this.repository, {
      allocator: options.allocator,
      cluster: this.cluster,
      onChange: () => this.#changed(),
      onNodes: () => this.inForce.wake(),
      onLost: () => void this.#loss.note(this.#stop.signal),
      onPosition: () => this.#keepPosition(),
      onRemoved: (node) => void this.#dismiss(node),
      ...common,
    });
  }

  /** Serves one request. */
  readonly handler = (request: Request): Promise<Response> => this.api.fetch(request);

  /** True once policies, identities and port names were all complete. */
  get ready(): boolean {
    return this.#policiesLoaded && this.directory.synced && !this.#mayLackIdentities &&
      this.#isKubernetesRead;
  }

  /** A database without what Kubernetes has would say "no policy" of what is denied. */
  get #isKubernetesRead(): boolean {
    return !this.#awaitKubernetes || this.store.isKubernetesRead;
  }

  /** All policies that Kubernetes has were handed on. @throws {ProblemError} DATABASE_UNAVAILABLE */
  async kubernetesRead(): Promise<void> {
    if (this.store.isKubernetesRead) return;
    await this.store.noteKubernetesRead();
    this.#tellKubernetes();
    await this.syncPolicies();
    this.publishNow();
  }

  /** Begins; resolves at once, `waitReady` says when it serves. */
  start(): void {
    this.directory.start();
    this.services?.start();
    this.#loops.push(this.#followPolicies());
  }

  /** Resolves when the engine is ready, or was stopped. */
  async waitReady(): Promise<void> {
    await this.directory.waitSynced(this.#stop.signal);
    while (!this.ready && !this.#stop.signal.aborted) {
      await this.#clock.sleep(5, this.#stop.signal);
    }
    this.publishNow();
  }

  /** Ends all background work; the database stays open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#publishing?.abort();
    await this.services?.stop();
    await this.store.store.stop();
    await this.directory.stop();
    await Promise.all(this.#loops);
  }

  /** Brings the repository up to date with the tables. Called by the loop, and after each own write. */
  async syncPolicies(): Promise<void> {
    if (!await this.follower.sync()) return;
    this.#changed();
    this.services?.changed();
  }

  /** Gives all changes to the watchers now. */
  publishNow(): void {
    this.#publishing?.abort();
    this.#publishing = undefined;
    // Before everything is known a map state would be wrong, and nobody can see it anyway.
    if (!this.ready) return;
    this.#rollCall.begin();
    const revision = this.publisher.publish(this.follower.isBehind);
    const { policyRevision } = this.repository, { epoch } = this.publisher;
    const policySet = this.store.doubts.size === 0 ? this.follower.policySet : "";
    // Nodes say what they have by how far they are, and those whom a policy does not touch hear of nothing else.
    if (this.inForce.published({ epoch, revision }, policyRevision, policySet)) this.publisher.announce();
  }

  /**
   * A node says what was in force there: is the database older than that?
   * @throws {ProblemError} DATABASE_UNAVAILABLE: it is, and that could not be noted
   */
  async #judge(evidence: Evidence): Promise<void> {
    const isNews = () => this.#policiesLoaded && this.store.isNews(evidence);
    while (isNews() && this.#judging !== undefined) await this.#judging;
    if (!isNews()) return;
    this.#judging = this.#note(evidence).finally(() => this.#judging = undefined);
    await this.#judging;
  }

  async #note(evidence: Evidence): Promise<void> {
    const { store } = this;
    await store.store.pull(); // another replica may have written it
    if (!store.isNews(evidence)) return;
    this.#log.error("The policy database is older than what is in force", { ...evidence });
    await store.note(evidence, this.repository.policyRevision);
    await this.syncPolicies();
    this.publishNow();
  }

  /**
   * Kubernetes tells again all that a lost database had: so it may be given up without a person.
   * @throws {ProblemError} DATABASE_IN_DOUBT (409): somebody may have had more in force, or this database has more
   */
  assertMirrored(): void {
    const { store, follower } = this;
    if (store.doubts.size === 0 || store.isDoubtMirrored && follower.isMirrored) return;
    throw new ProblemError("DATABASE_IN_DOUBT", {
      status: 409,
      detail: "Cannot take the policy database for the newest without a person: " +
        (follower.isMirrored
          ? "policies that did not come from Kubernetes may be in force"
          : "it has policies that did not come from Kubernetes, or cannot be read"),
      found: [...store.doubts.keys()].filter((node) => node !== "").sort().slice(0, 3).join(", "),
      expected: "policies of Kubernetes alone",
      action: 'Restore a newer copy, or accept this one with "weir policy accept-database"',
    });
  }

  #tellKubernetes(): void {
    if (this.#isKubernetesRead) this.#health.remove(KUBERNETES);
    else this.#health.waitFor(KUBERNETES, "the policies of Kubernetes were not read yet");
  }

  /** A node was removed from the cluster: what it said may have been a lie. */
  async #dismiss(node: string): Promise<void> {
    const { signal } = this.#stop;
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 5000 });
    while (!signal.aborted) {
      try {
        if (await this.store.dismiss(node)) await this.syncPolicies();
        return;
      } catch (error) {
        this.#log.warn("Cannot dismiss what a removed node said", { node, error });
        await this.#clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  async #followPolicies(): Promise<void> {
    const { signal } = this.#stop;
    await this.store.store.start();
    this.#loops.push(this.inForce.run(signal));
    const backoff = new Backoff({ delayMsMin: 50, delayMsMax: 5000 });
    while (!signal.aborted) {
      try {
        // What nobody confirmed while no engine was there is in force nowhere from here on.
        if (!this.#policiesLoaded) await this.pending.rollBackDue();
        await this.syncPolicies();
        if (!this.#policiesLoaded) this.#loops.push(this.pending.run(signal));
        this.#policiesLoaded = true;
        if (!this.#isLossAsked) await this.#awaitLost();
        this.#tellKubernetes();
        this.#changed();
        backoff.reset();
        await this.follower.wait(signal);
      } catch (error) {
        this.#log.warn("Cannot take in the policies", { error });
        await this.#clock.sleep(backoff.nextMs(), signal);
      }
    }
  }

  /** Lets readers wait until nodes carry nothing that a lost database of the allocator took along before this start. */
  async #awaitLost(): Promise<void> {
    const { signal } = this.#stop;
    await this.#loss.look((position) => this.directory.holds(position, signal), signal);
    const leftS = await this.#loss.leftS();
    this.#isLossAsked = true;
    this.#keepPosition();
    const end = () => {
      this.#health.remove(LOST);
      this.#mayLackIdentities = false;
      this.#changed();
    };
    if (leftS === 0) return end();
    const why =
      "the identity allocator's database was lost just now: nodes carry identities that nobody here knows";
    this.#health.waitFor(LOST, `${why}; they keep their policies for ${Math.ceil(leftS)} s more`);
    void this.#clock.sleep(leftS * 1000, signal).then(() => {
      if (!signal.aborted) end();
    });
  }

  #keepPosition(): void {
    // What the engine before had read is compared first.
    if (this.#isLossAsked) void this.#loss.keep(this.directory.position);
  }

  #changed(): void {
    if (this.#publishing !== undefined || this.#stop.signal.aborted) return;
    const { signal } = this.#publishing = new AbortController();
    void this.#clock.sleep(PUBLISH_DELAY_MS, signal).then(() => {
      if (!signal.aborted) this.publishNow();
    });
  }
}
