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
import { type Clock, HOST_ENDPOINT, hostLabels, ProblemError, systemClock } from "@weir/common";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import { type AddressBlock, Endpoint, type PeerStatus } from "@weir/proto/endpoint";
import { Announcer } from "./announcer.ts";
import { KubernetesPods } from "./cni/kubernetes_pods.ts";
import { ClusterMirrors } from "./cluster_mirrors.ts";
import { ClusterWork, IPCACHE } from "./cluster_work.ts";
import type { EndpointManagerConfig } from "./config.ts";
import { Deletions } from "./deletions.ts";
import { EndpointIntake } from "./endpoint_intake.ts";
import { EndpointReconciler } from "./endpoint_reconciler.ts";
import type { EndpointStore, KeptEndpoint } from "./endpoint_store.ts";
import { EndpointTable } from "./endpoint_table.ts";
import { IdentityOrder } from "./identity_order.ts";
import { IdentityReconciler } from "./identity_reconciler.ts";
import { IpcacheReconciler } from "./ipcache_reconciler.ts";
import { type NameStore, NO_NAMES_KEPT } from "./names/name_file.ts";
import { EXPIRE_MS, NodeNames } from "./names/node_names.ts";
import { HealthCheckServer, type HealthCheckServerParts } from "./health_check/health_check_server.ts";
import { KubernetesNodeFacts } from "./kubernetes_node.ts";
import { NodeConfigurator, RemoteNodes } from "./node_datapath.ts";
import type { NodeStore } from "./node_file.ts";
import { NodeRegistration } from "./node_registration.ts";
import { NodePeers } from "./node_peers.ts";
import type { PeerName } from "./peer_effects.ts";
import { PolicyAcknowledger } from "./policy_acknowledger.ts";
import { PolicyReconciler } from "./policy_reconciler.ts";
import type { PolicySetStore } from "./policy_set_file.ts";
import { addressBlock } from "./pod_pools.ts";
import { PrefixOrder } from "./prefix_order.ts";
import { ProxyReconciler } from "./proxy_reconciler.ts";
import { NO_SERVICES, ServiceReconciler } from "./service_reconciler.ts";
import type {
  Datapath,
  Directory,
  Kubernetes,
  L7Proxy,
  Mirror,
  PolicySource,
  ServiceSource,
} from "./sources.ts";
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
  /** Absent: no Kubernetes describes this node's pods. */
  kubernetes?: Kubernetes;
  /** Absent: no L7 proxy runs here, and policies with L7 rules cannot be put in force. */
  proxy?: L7Proxy;
  /** Listens on a health check node port, on every address of the node. Absent: nobody answers on those. */
  healthCheckListen?: HealthCheckServerParts["listen"];
  store: EndpointStore;
  nodeStore: NodeStore;
  /** Keeps names; without one they are learnt anew after a start. */
  nameStore?: NameStore;
  /** Keeps which policy set was in force; without one that is learnt anew after a start. */
  policySetStore?: PolicySetStore;
  /** Where the peers are, for people. */
  addresses?: Partial<Record<PeerName, string>>;
  clock?: Clock;
  log?: (message: string, fields?: Record<string, unknown>) => void;
}

/** How often what only time tells is looked at, milliseconds. */
const LOOK_MS = 2_000;
/** What an answer to a query for a name counts for at least, milliseconds: programs use addresses for longer than they may. */
export const NAMES_MIN_TTL_MS = 60_000;
/** Addresses that wait for so many looks are said to. */
const LATE_LOOKS = 3;
/** Every so many looks the datapath's endpoints are compared. */
const COMPARE_LOOKS = 5;

/** Joins the parts; owns the life of each endpoint. */
export class EndpointManager {
  readonly table: EndpointTable;
  /** This node's services. */
  readonly services: ServiceReconciler;
  /** What this node's endpoints know of names. */
  readonly names: NodeNames;
  /** What load balancers in front of the cluster ask; undefined: nobody answers them. */
  readonly healthChecks: HealthCheckServer | undefined;
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
  readonly #proxy: ProxyReconciler;
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
  #pods: KubernetesPods | undefined;
  #kubernetesNode: KubernetesNodeFacts | undefined;

  constructor(parts: EndpointManagerParts) {
    this.#parts = parts;
    const clock = this.#clock = parts.clock ?? systemClock;
    this.#log = parts.log ?? (() => {});
    const { config, directory, policy, datapath } = parts;
    this.#peers = new NodePeers({
      nodeName: config.nodeName,
      addresses: parts.addresses,
      hasServices: parts.services !== undefined,
      hasKubernetes: parts.kubernetes !== undefined,
      hasProxy: parts.proxy !== undefined,
      policyRevision: () => this.#policyRevision(),
      clock,
    });
    const { directory: directoryPeer, policy: policyPeer, datapath: datapathPeer } = this.#peers;
    const onResult = (key: string, failure: Failure | undefined) => this.#onResult(key, failure);
    const table = this.table = new EndpointTable({ clock, config });
    this.#registration = new NodeRegistration({
      config,
      directory,
      peer: directoryPeer,
      store: parts.nodeStore,
      clock,
      podCidrs: parts.kubernetes && config.ipam === "kubernetes"
        ? () => this.#kubernetesNode?.podCidrs
        : undefined,
      kubernetesZone: () => this.#kubernetesNode?.zone ?? "",
      kubernetesLabels: () => this.#kubernetesNode?.labels ?? [],
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
      names: {
        onPrefix: () => this.names.order.onPrefix(),
        isBased: (pair) => this.names.order.isBased(pair),
        isBase: (pair) => this.names.order.isBase(pair),
      },
    });
    this.names = new NodeNames({
      prefixes: this.#prefixes,
      isCovered: (fqdn) => this.#policies.isCovered(fqdn),
      isMeant: (selector) => this.#policies.isMeant(selector),
      isKnown: (identity) => this.#policies.isKnown(identity),
      onCover: (isUrgent) => this.#endpoints.cover(isUrgent),
      onIpcache: (prefix, identity) => this.#ipcache.join.setName(prefix, identity),
      onTell: (isUrgent) => this.#cluster.tellIpcache(isUrgent),
      onThere: () => this.#endpoints.onPrefixes(),
      store: parts.nameStore ?? NO_NAMES_KEPT,
      hasEndpoint: (endpoint) => this.table.hasId(endpoint),
      inUse: (addresses) =>
        datapathPeer.call("ask which addresses are in use", () => datapath.inUse(addresses)),
      ttlMsMin: config.namesMinTtlMs ?? NAMES_MIN_TTL_MS,
      clock,
      log: this.#log,
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
    this.#proxy = new ProxyReconciler({
      proxy: parts.proxy,
      peer: this.#peers.proxy,
      clock,
      maySweep: () => this.#endpoints.swept,
      onThere: () => this.#endpoints.retryFailed(),
      onResult,
    });
    this.#policies = new PolicyReconciler({
      proxy: this.#proxy,
      prefixes: this.#prefixes,
      names: this.names.order,
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
      proxy: this.#proxy,
      prefixes: this.#prefixes,
      names: this.names,
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
      place: { nodeName: config.nodeName, zone: config.zone, labels: [] },
      onDirty: () => this.#cluster?.tellServices(),
      onHealthCheck: () => this.healthChecks?.look(),
      healthCheckStatus: (port) => this.healthChecks?.status(port),
      clock,
      holdMs: config.holdMs,
    });
    this.healthChecks = parts.healthCheckListen && new HealthCheckServer({
      wanted: () => this.services.healthChecks(),
      answer: (port) => this.services.healthAnswer(port),
      listen: parts.healthCheckListen,
      clock,
      onResult,
      onFailed: (service, failure) => this.#tellService(service, failure),
    });
    this.#cluster = new ClusterWork({
      ipcache: this.#ipcache,
      remoteNodes: this.#remoteNodes,
      services: this.services,
      clock,
      isFound: () => this.#endpoints.isFound,
      // Without the node's pools the gateways are not known.
      isJoinWhole: () =>
        this.#endpoints.isFound && this.#mirrors?.synced === true && this.#registration.node !== undefined &&
        (this.#ipcache.complete || this.#identityOrder.isReady),
      areNodesKnown: () => this.#mirrors?.nodesSynced === true,
      isConfigured: () => this.#configurator.configured,
      onTold: () => {
        if (this.#ipcache.isTold) this.#prefixes.told(this.#ipcache.left);
        this.#noteNamesTold();
        this.#endpoints.sweep();
        this.#acknowledger.look();
      },
      onNamesTold: () => this.#noteNamesTold(),
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
      config,
      clock,
      giveAddresses: (workload) => this.#endpoints.giveAddresses(workload),
      awaitAddresses: () => this.#registration.asked(),
      onPut: ({ spec: { name } }) => {
        this.#registration.keepLastGiven();
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
    await this.names.load();
    const { endpoints, broken } = await this.#parts.store.load();
    for (const file of broken) this.#log("Cannot read endpoint file, set aside", { ...file });
    // (Whoever gets another number comes last.)
    const number = ({ endpoint }: KeptEndpoint) => endpoint.status?.id ?? 0;
    for (const kept of endpoints.toSorted((a, b) => number(a) - number(b))) {
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
    if (!this.#parts.config.hostEndpoint && this.table.get(HOST_ENDPOINT)) {
      await this.#intake.beginDelete(HOST_ENDPOINT);
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
    this.#proxy.start();
    this.#endpoints.find();
    this.#datapathEndpoints = this.#peers.datapath.follow(datapath.endpoints(() => this.#forgetApplied()));
    await this.#registration.start();
    this.#followKubernetes();
    for (const name of this.table.names()) this.#endpoints.reconcile(name);
    void this.#looks();
    void this.#expireNames();
  }

  /** Ends; the kernel keeps everything. */
  async stop(): Promise<void> {
    this.#stop.abort();
    const sources = [this.#datapathEndpoints, this.#mirrors, this.#policies, this.#proxy, this.services];
    for (const source of [...sources, this.#pods, this.#kubernetesNode]) {
      source?.[Symbol.dispose]();
    }
    await this.healthChecks?.stop();
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

  /** Addresses in use, by prefix. */
  addresses(): AddressBlock[] {
    const { poolV4, poolV6, pools } = this.#registration;
    const own = [poolV4, poolV6].filter((pool) => pool !== undefined).map((pool) => addressBlock(pool));
    return [...own, ...pools.usage()];
  }

  /** Upsert of the whole spec. Repeatable; a changed label set relabels the running endpoint. @throws {ProblemError} */
  put(name: string, given: Endpoint): Promise<Endpoint> {
    refuseHost(name);
    return this.#intake.put(name, given);
  }

  /** Deletes, as `Deletions.delete` has it. @throws {ProblemError} */
  delete(name: string): Promise<void> {
    refuseHost(name);
    return this.#intake.delete(name);
  }

  /** Begins to delete, for good; it goes on by itself. @throws {ProblemError} NOT_FOUND, ENDPOINT_STORE_FAILED */
  beginDelete(name: string): Promise<void> {
    return this.#intake.beginDelete(name);
  }

  /** Router addresses of this node's endpoints, "" where there is none. */
  get gateways(): { v4: string; v6: string } {
    const { poolV4, poolV6 } = this.#registration;
    return { v4: poolV4?.gateway.text ?? "", v6: poolV6?.gateway.text ?? "" };
  }

  /** This node's pods, where Kubernetes describes them; from {@link start} on. */
  get pods(): KubernetesPods | undefined {
    return this.#pods;
  }

  /** An endpoint as the datapath says that it has it; undefined: it has none, or was not heard yet. */
  inKernel(name: string): DatapathEndpoint | undefined {
    return this.#datapathEndpoints?.get(name);
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
      ...[this.#deletions, this.#intake, this.#proxy, ...this.#cluster.queues],
      ...(this.#pods ? [this.#pods] : []),
      ...(this.healthChecks ? [this.healthChecks] : []),
    ];
  }

  /** Says beside a Service of Kubernetes that nothing answers its health checks here: at once, then every five minutes. */
  #tellService({ namespace, name }: { namespace: string; name: string }, { attempts, error }: Failure): void {
    const { kubernetes } = this.#parts, { kubernetes: peer } = this.#peers;
    if (attempts % 30 !== 1 || kubernetes === undefined || peer === undefined) return;
    const event = {
      kind: "Service",
      namespace,
      name,
      reason: "HealthCheckPortFailed",
      message: error.message,
    };
    peer.call(`say that service ${namespace}/${name} has no health check`, () => kubernetes.tell(event))
      .catch((error) =>
        this.#log("Cannot write an event", { service: `${namespace}/${name}`, error: error.message })
      );
  }

  #followKubernetes(): void {
    const { kubernetes } = this.#parts, { kubernetes: peer } = this.#peers;
    if (kubernetes === undefined || peer === undefined) return;
    const onResult = (key: string, failure: Failure | undefined) => this.#onResult(`pod ${key}`, failure);
    this.#pods = new KubernetesPods({ node: this, kubernetes, peer, clock: this.#clock, onResult });
    const { nodeName } = this.#parts.config;
    const onChange = () => this.#registration.reconsider();
    this.#kubernetesNode = new KubernetesNodeFacts({ kubernetes, peer, nodeName, onChange });
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
    for (const address of [status.ipv4, status.ipv6]) this.#registration.pools.free(address, name);
    this.table.drop(workload);
    this.names.forget(status.id);
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
    void this.#putHost();
    this.services.setPlace(this.#registration);
    this.#endpoints.configure();
    this.#cluster.tellIpcache();
  }

  /** The node itself as an endpoint, by the labels that it has now. Not before Kubernetes was heard: fewer labels may mean no policy. */
  async #putHost(): Promise<void> {
    const { config, kubernetes } = this.#parts;
    if (!config.hostEndpoint || (kubernetes !== undefined && !this.#kubernetesNode?.isKnown)) return;
    const labels = hostLabels(this.#registration.hostLabels).toStrings();
    // "Always" is for workloads: a node that nothing selects would be out of reach.
    const enforcement = config.enforcement === "NEVER" ? "NEVER" : "DEFAULT";
    const spec = Endpoint.create({ name: HOST_ENDPOINT, host: true, labels, enforcement });
    try {
      await this.#intake.put(HOST_ENDPOINT, spec);
    } catch (error) {
      this.#log("Cannot make this node an endpoint", { error: (error as Error).message });
    }
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
      this.#endpoints.tidyProxy();
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

  #noteNamesTold(): void {
    if (this.#ipcache.areNamesTold) this.names.order.told(this.#ipcache.left);
  }

  /** Has a loop of its own: a datapath that hangs holds up nothing else. */
  async #expireNames(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#clock.sleep(EXPIRE_MS, signal);
      if (signal.aborted) return;
      await this.names.expire().catch((error) =>
        this.#log("Cannot tell which names have ended; those stay", { error: error.message })
      );
    }
  }

  #onResult(key: string, failure: Failure | undefined): void {
    if (!failure) return;
    if (key === IPCACHE) this.names.order.fail("ipcache", failure.error);
    const { error, attempts } = failure;
    this.#log("Work failed, will be tried again", { key, error: error.message, attempts });
  }
}

/** The node makes it, of its own labels. @throws {ProblemError} HOST_ENDPOINT */
function refuseHost(name: string): void {
  if (name !== HOST_ENDPOINT) return;
  throw new ProblemError("HOST_ENDPOINT", {
    status: 409,
    detail: `Cannot change endpoint ${name}: it is the node itself`,
    action: "weir agent --node-label gives it labels, --no-host-firewall takes it away",
  });
}
