/**
 * The conductor of a node: joins endpoints, identities, policies and the cluster's ipcache, and hands the datapath its
 * desired state. Each kind of work has a queue of its own, so that a peer that hangs holds up only what needs it.
 *
 *     PUT endpoint ─▶ addresses ─▶ identity ─▶ map state ─▶ datapath policy ─▶ datapath endpoint ─▶ ipcache ─▶ READY
 *                     files        identities               datapath                               announcements
 *
 * Nothing is taken from the kernel before all sources are in sync: with the control plane away, what works stays.
 * @module
 */
import { type Clock, systemClock } from "@weir/common";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import type { Endpoint, PeerStatus } from "@weir/proto/endpoint";
import { Announcer } from "./announcer.ts";
import { ClusterMirrors } from "./cluster_mirrors.ts";
import { ClusterWork } from "./cluster_work.ts";
import type { EndpointManagerConfig } from "./config.ts";
import { Deletions } from "./deletions.ts";
import { EndpointIntake } from "./endpoint_intake.ts";
import { EndpointReconciler } from "./endpoint_reconciler.ts";
import type { EndpointStore } from "./endpoint_store.ts";
import { EndpointTable } from "./endpoint_table.ts";
import { IdentityOrder } from "./identity_order.ts";
import { IdentityReconciler } from "./identity_reconciler.ts";
import { IpcacheReconciler } from "./ipcache_reconciler.ts";
import { NodeConfigurator, RemoteNodes } from "./node_datapath.ts";
import type { NodeStore } from "./node_file.ts";
import { NodeRegistration } from "./node_registration.ts";
import { NodePeers } from "./node_peers.ts";
import type { PeerName } from "./peer_effects.ts";
import { PolicyAcknowledger } from "./policy_acknowledger.ts";
import { PolicyReconciler } from "./policy_reconciler.ts";
import type { PolicySetStore } from "./policy_set_file.ts";
import { PrefixOrder } from "./prefix_order.ts";
import { NO_SERVICES, ServiceReconciler } from "./service_reconciler.ts";
import type { Datapath, Directory, Mirror, PolicySource, ServiceSource } from "./sources.ts";
import type { Workload } from "./workload.ts";
import type { Failure } from "./work_queue.ts";

/** What the manager is made of. */
export interface EndpointManagerParts {
  config: EndpointManagerConfig;
  directory: Directory;
  policy: PolicySource;
  datapath: Datapath;
  /** Absent: this node serves no services, and takes those that it has out of its datapath. */
  services?: ServiceSource;
  store: EndpointStore;
  nodeStore: NodeStore;
  /** Keeps which policy set was in force; without one that is learnt anew after a start. */
  policySetStore?: PolicySetStore;
  /** Where the peers are, for people. */
  addresses?: Partial<Record<PeerName, string>>;
  clock?: Clock;
  log?: (message: string, fields?: Record<string, unknown>) => void;
}

/** How often what only time tells is looked at, milliseconds. */
const LOOK_MS = 2_000;
/** Addresses that wait for so many looks are said to. */
const LATE_LOOKS = 3;
/** Every so many looks the datapath's endpoints are compared. */
const COMPARE_LOOKS = 5;

/** Joins the parts; owns the life of each endpoint. */
export class EndpointManager {
  readonly table: EndpointTable;
  /** This node's services. */
  readonly services: ServiceReconciler;
  readonly #parts: EndpointManagerParts;
  readonly #clock: Clock;
  readonly #log: NonNullable<EndpointManagerParts["log"]>;
  readonly #peers: NodePeers;
  readonly #registration: NodeRegistration;
  readonly #configurator: NodeConfigurator;
  readonly #remoteNodes: RemoteNodes;
  readonly #ipcache: IpcacheReconciler;
  readonly #prefixes: PrefixOrder;
  readonly #identityOrder: IdentityOrder;
  readonly #policies: PolicyReconciler;
  readonly #acknowledger: PolicyAcknowledger;
  readonly #identities: IdentityReconciler;
  readonly #announcer: Announcer;
  readonly #endpoints: EndpointReconciler;
  readonly #cluster: ClusterWork;
  readonly #deletions: Deletions;
  readonly #intake: EndpointIntake;
  readonly #stop = new AbortController();
  #followDue = false;
  /** For how many looks addresses have waited for their identities to be known. */
  #waitingLooks = 0;
  #mirrors: ClusterMirrors | undefined;
  #datapathEndpoints: Mirror<DatapathEndpoint> | undefined;

  constructor(parts: EndpointManagerParts) {
    this.#parts = parts;
    const clock = this.#clock = parts.clock ?? systemClock;
    this.#log = parts.log ?? (() => {});
    const { config, directory, policy, datapath } = parts;
    this.#peers = new NodePeers({
      nodeName: config.nodeName,
      addresses: parts.addresses,
      hasServices: parts.services !== undefined,
      policyRevision: () => this.#policyRevision(),
      clock,
    });
    const { directory: directoryPeer, policy: policyPeer, datapath: datapathPeer } = this.#peers;
    const onResult = (key: string, failure: Failure | undefined) => this.#onResult(key, failure);
    const table = this.table = new EndpointTable({ clock, cluster: config.cluster });
    this.#registration = new NodeRegistration({
      config,
      directory,
      peer: directoryPeer,
      store: parts.nodeStore,
      clock,
      onNode: () => this.#onNode(),
      onRegistered: (forgotten) => {
        if (forgotten) this.#identities.claimAll();
        for (const name of this.table.names()) this.#identities.reconcile(name);
        this.#announcer.reconcile();
      },
      onHeartbeat: ({ holdersDigest }) => {
        this.#identities.compare(holdersDigest);
        this.#announcer.reconcile();
      },
      onResult,
    });
    this.#identities = new IdentityReconciler({
      table,
      directory,
      peer: directoryPeer,
      config,
      clock,
      isRegistered: () => this.#registration.registered,
      onGiven: (workload) => {
        this.#followPolicies();
        this.#endpoints.reconcile(workload.spec.name);
      },
      onResult,
    });
    this.#announcer = new Announcer({
      config,
      table,
      directory,
      peer: directoryPeer,
      clock,
      onAnnounced: (workload) => this.#endpoints.noteReady(workload),
      onResult,
    });
    this.#configurator = new NodeConfigurator({
      config,
      registration: this.#registration,
      datapath,
      peer: datapathPeer,
    });
    this.#remoteNodes = new RemoteNodes({ nodeName: config.nodeName, datapath, peer: datapathPeer });
    const process = () => this.#datapathEndpoints?.position?.epoch ?? this.#endpoints?.foundProcess;
    this.#ipcache = new IpcacheReconciler({ place: config, datapath, peer: datapathPeer, process });
    this.#prefixes = new PrefixOrder({
      isKnown: (identity) => this.#policies.isKnown(identity),
      isSynced: () => this.#mirrors?.prefixesSynced === true,
      onIpcache: (prefix, identity) => {
        const cidr = identity === undefined ? undefined : { prefix, identity, labels: [] };
        this.#ipcache.join.setCidr(prefix, cidr);
        this.#cluster.tellIpcache();
      },
      onCover: () => this.#endpoints.cover(),
      onThere: () => this.#endpoints.onPrefixes(),
    });
    this.#identityOrder = new IdentityOrder({
      onEntry: (name, entry) => {
        this.#ipcache.join.setEntry(name, entry);
        this.#cluster.tellIpcache();
      },
      onOwn: (endpoint, entries) => {
        if (this.#ipcache.join.setOwn(endpoint, entries)) this.#cluster.tellIpcache();
      },
      onPages: () => this.#followPolicies(),
      isTold: (page) => this.#policies.isTold(page),
      isApplied: () => this.#endpoints.areApplied,
    });
    this.#policies = new PolicyReconciler({
      prefixes: this.#prefixes,
      source: policy,
      enginePeer: policyPeer,
      datapath,
      datapathPeer,
      process,
      clock,
      holdMs: config.holdMs,
      onChange: (identity) => this.#onPolicy(identity),
      pages: () => this.#identityOrder.pages,
      onPage: (name, identities) => this.#identityOrder.page(name, identities),
      onPosition: () => {
        this.#acknowledger?.look();
        this.#identityOrder.whole();
        this.#cluster?.tellIpcache();
      },
    });
    this.#endpoints = new EndpointReconciler({
      config,
      table,
      registration: this.#registration,
      configurator: this.#configurator,
      policies: this.#policies,
      prefixes: this.#prefixes,
      datapath,
      peer: datapathPeer,
      clock,
      onFound: () => this.#onFound(),
      maySweep: () => this.#cluster.complete,
      isIpcacheWhole: () => this.#ipcache.complete,
      process,
      onConfigured: () => this.#onConfigured(),
      onApplied: (workload) => this.#onApplied(workload),
      onKept: ({ spec: { name } }) => {
        this.#intake.keep(name);
        this.#followPolicies();
      },
      onKernelGone: (workload) => this.#onKernelGone(workload),
      onResult: (key, failure) => {
        onResult(key, failure);
        this.#acknowledger.look();
        this.#lookAtOrder();
      },
    });
    this.#acknowledger = new PolicyAcknowledger({
      table,
      policies: this.#policies,
      source: policy,
      store: parts.policySetStore,
      log: this.#log,
      peer: policyPeer,
      clock,
      isTold: () => this.#configurator.configured && this.#endpoints.waitsFor() === undefined,
      prefixPosition: () => this.#ipcache.isTold ? this.#mirrors?.prefixPosition : undefined,
      onResult,
    });
    this.services = new ServiceReconciler({
      // Without one there are no services: those of an earlier configuration must go.
      source: parts.services ?? NO_SERVICES,
      sourcePeer: this.#peers.services,
      datapath,
      datapathPeer,
      place: { nodeName: config.nodeName, zone: config.zone },
      onDirty: () => this.#cluster?.tellServices(),
      clock,
      holdMs: config.holdMs,
    });
    this.#cluster = new ClusterWork({
      ipcache: this.#ipcache,
      remoteNodes: this.#remoteNodes,
      services: this.services,
      clock,
      // Without the node's pools the gateways are not known.
      isJoinWhole: () =>
        this.#endpoints.isFound && this.#mirrors?.synced === true && this.#registration.node !== undefined &&
        (this.#ipcache.complete || this.#identityOrder.isReady),
      areNodesKnown: () => this.#mirrors?.nodesSynced === true,
      isConfigured: () => this.#configurator.configured,
      onTold: () => {
        if (this.#ipcache.isTold) this.#prefixes.told(this.#ipcache.left);
        this.#endpoints.sweep();
        this.#acknowledger.look();
      },
      onResult,
    });
    this.#deletions = new Deletions({
      table,
      store: parts.store,
      announcer: this.#announcer,
      identities: this.#identities,
      clock,
      onBegun: ({ spec }) => this.#endpoints.reconcile(spec.name),
      onGone: (workload) => {
        this.#drop(workload);
        this.#followPolicies();
      },
      onResult,
    });
    this.#intake = new EndpointIntake({
      table,
      store: parts.store,
      deletions: this.#deletions,
      cluster: config.cluster,
      clock,
      giveAddresses: (workload) => this.#endpoints.giveAddresses(workload),
      onPut: ({ spec: { name } }) => {
        this.#identities.reconcile(name);
        this.#endpoints.reconcile(name);
      },
      onRefused: (workload) => this.#drop(workload),
      onResult,
    });
  }

  /** Reads back what the last process knew and starts to follow the sources. */
  async start(): Promise<void> {
    await this.#acknowledger.load();
    const { endpoints, broken } = await this.#parts.store.load();
    for (const file of broken) this.#log("Cannot read endpoint file, set aside", { ...file });
    for (const kept of endpoints) {
      if (!this.table.restore(kept)) {
        this.#log("Cannot restore endpoint: its number is taken", { endpoint: kept.endpoint.name });
        continue;
      }
      const workload = this.table.get(kept.endpoint.name)!;
      if (kept.deleting) this.#deletions.begin(workload);
      // What the kernel has of it stays known to it whatever the cluster says meanwhile.
      else if (workload.given) {
        this.#ipcache.join.setOwn(workload.spec.name, this.#announcer.entriesOf(workload));
      }
    }
    this.#followPolicies();
    const { directory, policy, datapath, config } = this.#parts;
    this.#mirrors = new ClusterMirrors({
      nodeName: config.nodeName,
      directory,
      directoryPeer: this.#peers.directory,
      policy,
      policyPeer: this.#peers.policy,
      registration: this.#registration,
      announcer: this.#announcer,
      join: this.#ipcache.join,
      remoteNodes: this.#remoteNodes,
      clock: this.#clock,
      holdMs: config.holdMs,
      prefixes: this.#prefixes,
      identities: this.#identityOrder,
      onJoin: () => this.#cluster.tellIpcache(),
      onRemoteNodes: () => this.#cluster.tellRemoteNodes(),
    });
    this.#endpoints.find();
    this.#datapathEndpoints = this.#peers.datapath.follow(datapath.endpoints(() => this.#forgetApplied()));
    await this.#registration.start();
    for (const name of this.table.names()) this.#endpoints.reconcile(name);
    void this.#looks();
  }

  /** Ends; the kernel keeps everything. */
  async stop(): Promise<void> {
    this.#stop.abort();
    for (const source of [this.#datapathEndpoints, this.#mirrors, this.#policies, this.services]) {
      source?.[Symbol.dispose]();
    }
    await Promise.all(this.#queues().map((queue) => queue.stop()));
  }

  /** What readiness waits for, with why where something fails; empty when ready. */
  waitingFor(): string[] {
    const because = (failure: Failure | undefined) => failure ? `: ${failure.error.message}` : "";
    const waits = this.#mirrors?.waitingFor() ?? ["the start"];
    if (!this.#registration.node) {
      waits.unshift(
        `this node's registration with the identity allocator${because(this.#registration.failure())}`,
      );
    }
    if (!this.services.synced) waits.push("services from the load balancer");
    if (!this.#configurator.configured) waits.push(`the datapath${because(this.#endpoints.failure())}`);
    if (!this.#endpoints.swept) {
      const name = this.#endpoints.waitsFor(), failure = this.#cluster.failure() ?? this.#endpoints.failure();
      const endpoint = name === undefined ? "" : ` (endpoint ${name} is not told yet)`;
      waits.push(`the first full sync with the datapath${endpoint}${because(failure)}`);
    }
    return waits;
  }

  /**
   * Headers of requests to the policy engine (`policy-engine/evidence.ts`): the newest policy set that was ever in force here.
   * No older one is to be had of it.
   */
  evidence(): Record<string, string> {
    const { newestPolicyRevision, newestPolicySet } = this.#acknowledger;
    return {
      "weir-node": this.#parts.config.nodeName,
      "weir-policy-revision": `${newestPolicyRevision}`,
      ...newestPolicySet === "" ? {} : { "weir-policy-set": newestPolicySet },
    };
  }

  /** Whether services come from somewhere. */
  get followsServices(): boolean {
    return this.#parts.services !== undefined;
  }

  /** What this node knows of the processes that it needs. */
  peers(): PeerStatus[] {
    return this.#peers.status();
  }

  /** Addresses in use, for status. */
  addresses(): { pool: string; used: number; usableMax: string }[] {
    return [this.#registration.poolV4, this.#registration.poolV6].filter((p) => p !== undefined)
      .map((p) => ({ pool: p.prefix.text, used: p.used, usableMax: String(p.usableMax) }));
  }

  /** Upsert of the whole spec. Repeatable; a changed label set relabels the running endpoint. @throws {ProblemError} */
  put(name: string, given: Endpoint): Promise<Endpoint> {
    return this.#intake.put(name, given);
  }

  /** Deletes, as `Deletions.delete` has it. @throws {ProblemError} */
  delete(name: string): Promise<void> {
    return this.#intake.delete(name);
  }

  /** Resolves when nothing is waiting, for tests. */
  async idle(): Promise<void> {
    while (this.#queues().some((queue) => !queue.isIdle)) {
      for (const queue of this.#queues()) await queue.idle();
    }
  }

  #queues(): { stop(): Promise<void>; idle(): Promise<void>; readonly isIdle: boolean }[] {
    return [
      ...[this.#registration, this.#identities, this.#announcer, this.#endpoints, this.#acknowledger],
      ...[this.#deletions, this.#intake, ...this.#cluster.queues],
    ];
  }

  /** The newest policy revision that an endpoint has in force. */
  #policyRevision(): number {
    let newest = 0;
    for (const { status } of this.table.workloads()) newest = Math.max(newest, status.policyRevision);
    return newest;
  }

  #onKernelGone(workload: Workload): void {
    this.#identityOrder.changeOwn(workload.spec.name, []);
    this.#deletions.goOn(workload);
  }

  #drop(workload: Workload): void {
    const { spec: { name }, status } = workload;
    this.#registration.poolV4?.release(status.ipv4, name);
    this.#registration.poolV6?.release(status.ipv6, name);
    this.table.drop(workload);
    this.#endpoints.forget(name);
    this.#intake.forget(name);
  }

  /** Follows the policies of whoever an endpoint is, and is to be; once for many changes of a moment. */
  #followPolicies(): void {
    if (this.#followDue) return;
    this.#followDue = true;
    queueMicrotask(() => {
      this.#followDue = false;
      this.#followNow();
    });
  }

  #followNow(): void {
    const identities = new Set<number>();
    for (const { status, given } of this.table.workloads()) {
      identities.add(status.identity);
      if (given) identities.add(given.number);
    }
    this.#policies.follow(identities);
  }

  #onPolicy(identity: number): void {
    for (const { spec, status, given } of this.table.workloads()) {
      if (status.identity === identity || given?.number === identity) this.#endpoints.reconcile(spec.name);
    }
  }

  #onApplied(workload: Workload): void {
    this.#identityOrder.changeOwn(workload.spec.name, this.#announcer.entriesOf(workload));
    this.#announcer.reconcile(workload.spec.name);
  }

  /** Addresses may go in; the first whole ipcache waits for that. */
  #lookAtOrder(): void {
    this.#identityOrder.look();
    if (!this.#ipcache.complete) this.#cluster.tellIpcache();
  }

  /** What the node is was heard, or has changed. */
  #onNode(): void {
    // Those that have addresses first, else a new one could take them.
    const workloads = [...this.table.workloads()].sort((a, b) => b.status.ipv4.length - a.status.ipv4.length);
    for (const workload of workloads) {
      try {
        this.#endpoints.giveAddresses(workload);
      } catch (error) {
        this.#log("Cannot give addresses", { endpoint: workload.spec.name, error: (error as Error).message });
      }
    }
    this.#ipcache.join.setGateways(this.#registration.gateways);
    this.services.setZone(this.#registration.zone);
    this.#endpoints.configure();
    this.#cluster.tellIpcache();
  }

  /** What an earlier process left in the datapath is known. */
  #onFound(): void {
    this.#endpoints.configure();
    this.#cluster.tellIpcache();
    for (const name of this.table.names()) this.#endpoints.reconcile(name);
  }

  #onConfigured(): void {
    this.#endpoints.cover();
    for (const name of this.table.names()) this.#endpoints.reconcile(name);
    this.#cluster.tellServices();
    this.#cluster.tellRemoteNodes();
    this.#endpoints.sweep();
  }

  /** The datapath is there anew: whatever it was given must be given again. */
  #forgetApplied(): void {
    this.#endpoints.forgetApplied();
    this.#cluster.forgetApplied();
  }

  /** What only time tells. */
  async #looks(): Promise<void> {
    const { signal } = this.#stop;
    for (let turn = 1; !signal.aborted; turn++) {
      await this.#clock.sleep(LOOK_MS, signal);
      if (signal.aborted) return;
      this.#peers.status();
      this.#endpoints.judgePolicies();
      this.#acknowledger.look();
      this.#lookAtOrder();
      const { waiting } = this.#identityOrder;
      this.#waitingLooks = waiting === 0 ? 0 : this.#waitingLooks + 1;
      this.#peers.policy.setStale(
        "addresses of identities",
        this.#waitingLooks < LATE_LOOKS
          ? undefined
          : `${waiting} ${
            waiting === 1 ? "address waits" : "addresses wait"
          } for policies that know their identities`,
      );
      if (turn % COMPARE_LOOKS === 0 && this.#datapathEndpoints) {
        this.#endpoints.compare(this.#datapathEndpoints);
      }
    }
  }

  #onResult(key: string, failure: Failure | undefined): void {
    if (!failure) return;
    const { error, attempts } = failure;
    this.#log("Work failed, will be tried again", { key, error: error.message, attempts });
  }
}
