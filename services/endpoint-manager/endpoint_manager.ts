/**
 * The conductor of a node: joins endpoints, identities, policies and the cluster's ipcache, and hands the datapath its
 * desired state. One queue does all the work, one task at a time, so there is one writer for everything.
 *
 *     PUT endpoint ─▶ addresses ─▶ identity ─▶ map state ─▶ datapath policy ─▶ datapath endpoint ─▶ ipcache ─▶ READY
 *
 * Nothing is taken from the kernel before all sources are in sync: with the control plane away, what works stays.
 * @module
 */
import { IpAddress, notFound, ProblemError, WatchedTable } from "@weir/common";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import { Endpoint, EndpointStatus, type EndpointStatusState } from "@weir/proto/endpoint";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";
import type { Init } from "@weir/proto";
import type { EndpointManagerConfig } from "./config.ts";
import { identityLabels } from "./endpoint_labels.ts";
import { readEndpointSpec, sameSpec } from "./endpoint_spec.ts";
import type { EndpointStore } from "./endpoint_store.ts";
import { announcementOf, type Entry, prefixesOf } from "./entry.ts";
import { IpcacheReconciler } from "./ipcache_reconciler.ts";
import { EndpointIds, IpamError } from "./ipam.ts";
import { NodeReconciler } from "./node_reconciler.ts";
import { PolicyReconciler } from "./policy_reconciler.ts";
import { policyName } from "./policy_variant.ts";
import type { AllocatorPort, DatapathPort, LoadBalancerPort, Mirror, PolicyPort } from "./ports.ts";
import { NO_SERVICES, ServiceReconciler } from "./service_reconciler.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** What the manager is made of. */
export interface EndpointManagerParts {
  config: EndpointManagerConfig;
  allocator: AllocatorPort;
  policy: PolicyPort;
  datapath: DatapathPort;
  /** Absent: this node serves no services, and takes those that it has out of its datapath. */
  loadBalancer?: LoadBalancerPort;
  store: EndpointStore;
  now?: () => number;
  log?: (message: string, fields?: Record<string, unknown>) => void;
}

const NODE = "node", IPCACHE = "ipcache", SYNC = "sync", HEARTBEAT = "heartbeat";
const SERVICES = "services", SERVICES_FAILED = "services that failed";
const endpointKey = (name: string) => `endpoint ${name}`;

/** See the module comment. */
export class EndpointManager {
  /** The API's view of every endpoint. */
  readonly endpoints: WatchedTable<Endpoint> = new WatchedTable<Endpoint>({
    name: "endpoints",
    entriesMax: EndpointIds.max,
  });
  private readonly entries = new Map<string, Entry>();
  private readonly ids = new EndpointIds();
  private readonly queue: WorkQueue;
  private readonly now: () => number;
  private readonly log: NonNullable<EndpointManagerParts["log"]>;
  private readonly node: NodeReconciler;
  private readonly prefixes: IpcacheReconciler;
  private readonly policies: PolicyReconciler;
  /** This node's services; undefined before the start. */
  services: ServiceReconciler | undefined;
  private nodes!: Mirror<Node> & Disposable;
  private ipcache!: Mirror<IpcacheEntry> & Disposable;
  private cidrs!: Mirror<CidrIdentity> & Disposable;
  private synced = false;
  private following: Disposable | undefined;
  private heartbeat: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly parts: EndpointManagerParts) {
    this.now = parts.now ?? Date.now;
    this.log = parts.log ?? (() => {});
    const { config, allocator, policy, datapath } = parts;
    this.node = new NodeReconciler(config, allocator, datapath);
    this.prefixes = new IpcacheReconciler(config, allocator, datapath);
    this.policies = new PolicyReconciler(policy, datapath, (identity) => {
      for (const entry of this.entries.values()) {
        if (entry.status.identity === identity) this.queue.add(endpointKey(entry.spec.name));
      }
    });
    this.queue = new WorkQueue({
      now: this.now,
      work: (key) => this.work(key),
      onResult: (key, failure) => this.onResult(key, failure),
    });
  }

  /** Reads back what the last process knew and starts to follow the sources. */
  async start(): Promise<void> {
    const { endpoints, broken } = await this.parts.store.load();
    for (const file of broken) this.log("Cannot read endpoint file, set aside", { ...file });
    for (const saved of endpoints) this.restore(saved);
    const listener = (key: string) => ({ onChange: () => this.queue.add(key) });
    this.nodes = this.parts.allocator.nodes({
      onChange: () => {
        this.queue.add(NODE);
        this.queue.add(IPCACHE);
      },
    });
    this.ipcache = this.parts.allocator.ipcache(listener(IPCACHE));
    this.cidrs = this.parts.policy.cidrs(listener(IPCACHE));
    const { loadBalancer, datapath, config } = this.parts;
    this.services = new ServiceReconciler({
      // Without one there are no services: those of an earlier configuration must go.
      loadBalancer: loadBalancer ?? NO_SERVICES,
      datapath,
      place: { nodeName: config.nodeName, zone: config.zone },
      onDirty: () => this.queue.add(SERVICES),
      now: this.now,
    });
    this.following = this.parts.datapath.follow(() => this.forgetApplied());
    this.heartbeat = setInterval(() => this.queue.add(HEARTBEAT), this.parts.config.heartbeatMs ?? 30_000);
    this.queue.add(NODE);
  }

  /** Ends; the kernel keeps everything. */
  async stop(): Promise<void> {
    clearInterval(this.heartbeat);
    this.following?.[Symbol.dispose]();
    for (const source of [this.nodes, this.ipcache, this.cidrs, this.policies, this.services]) {
      source?.[Symbol.dispose]();
    }
    await this.queue.stop();
  }

  /** What readiness waits for; empty when ready. */
  waitingFor(): string[] {
    const waits: string[] = [];
    if (!this.node.node) waits.push("this node's registration with the identity allocator");
    if (!this.nodes?.synced) waits.push("nodes from the identity allocator");
    if (!this.ipcache?.synced) waits.push("the ipcache from the identity allocator");
    if (!this.cidrs?.synced) waits.push("CIDR identities from the policy engine");
    if (this.services?.synced === false) waits.push("services from the load balancer");
    if (!this.node.configured) waits.push("the datapath");
    if (!this.synced) waits.push("the first full sync with the datapath");
    return waits;
  }

  /** Whether services come from somewhere. */
  get followsServices(): boolean {
    return this.parts.loadBalancer !== undefined;
  }

  /** Failures of work that is not an endpoint's own, by key. */
  failure(key: "node" | "ipcache" | "services" | "sync"): Failure | undefined {
    return this.queue.failureOf(key);
  }

  /** Addresses in use, for status. */
  addresses(): { pool: string; used: number; usableMax: string }[] {
    return [this.node.poolV4, this.node.poolV6].filter((p) => p !== undefined)
      .map((p) => ({ pool: p.prefix.text, used: p.used, usableMax: String(p.usableMax) }));
  }

  /** Upsert of the whole spec. Repeatable; a changed label set relabels the running endpoint. @throws {ProblemError} */
  async put(name: string, given: Endpoint): Promise<Endpoint> {
    if (given.name !== "" && given.name !== name) {
      throw new ProblemError("NAME_MISMATCH", {
        status: 422,
        detail: `Cannot put endpoint ${name}: the body names another`,
        found: given.name,
        expected: name,
      });
    }
    const spec = readEndpointSpec({ ...given, name });
    const entry = this.entries.get(name);
    if (entry?.deleting) {
      throw new ProblemError("ENDPOINT_DELETING", {
        status: 409,
        detail: `Cannot put endpoint ${name}: it is being deleted`,
        action: "Try again when it is gone",
      });
    }
    if (entry && sameSpec(entry.spec, spec)) return this.publish(entry);
    if (entry) {
      this.refuseMove(entry.spec, spec);
      entry.spec = spec;
      this.setState(entry, entry.status.state === "READY" ? "REGENERATING" : entry.status.state);
    } else {
      this.refuseDouble(spec);
      this.entries.set(name, {
        spec,
        status: EndpointStatus.create({ state: "WAITING_FOR_IDENTITY", id: this.ids.allocate() }),
        announced: new Map(),
      });
    }
    const now = this.entries.get(name)!;
    try {
      this.giveAddresses(now);
    } catch (error) {
      if (!entry) this.drop(now);
      if (error instanceof IpamError) {
        throw new ProblemError(error.code, {
          status: error.code === "IPAM_TAKEN" ? 409 : 422,
          detail: error.message,
          action: error.code === "IPAM_EXHAUSTED"
            ? "Delete endpoints or give the node a larger CIDR"
            : "Ask for another address",
        });
      }
      throw error;
    }
    await this.parts.store.save({ ...now.spec, status: now.status });
    this.queue.add(endpointKey(name));
    return this.publish(now);
  }

  /** Deletes and waits until the kernel has let go of it. @throws {ProblemError} NOT_FOUND */
  async delete(name: string): Promise<void> {
    const entry = this.entries.get(name);
    if (!entry) throw notFound("endpoints", name);
    entry.deleting ??= Promise.withResolvers<void>();
    this.setState(entry, "DISCONNECTING");
    this.queue.add(endpointKey(name));
    await entry.deleting.promise;
  }

  /** Resolves when nothing is waiting, for tests. */
  async idle(): Promise<void> {
    await this.queue.idle();
  }

  private restore(saved: Endpoint): void {
    const { status, ...rest } = saved;
    const id = status?.id ?? 0;
    if (!this.ids.claim(id)) {
      this.log("Cannot restore endpoint: its number is taken", { endpoint: saved.name, id });
      return;
    }
    const entry: Entry = {
      spec: Endpoint.create(rest),
      status: EndpointStatus.create({ ...status, state: "RESTORING" }),
      announced: new Map(),
    };
    this.entries.set(saved.name, entry);
    this.publish(entry);
  }

  private refuseMove(before: Endpoint, after: Endpoint): void {
    for (const key of ["netns", "device", "cgroup", "containerDevice", "ipv4", "ipv6", "mac"] as const) {
      if (before[key] === after[key]) continue;
      throw new ProblemError("ENDPOINT_IMMUTABLE", {
        status: 409,
        detail: `Cannot change ${key} of endpoint ${before.name}: it is fixed when the endpoint is added`,
        found: after[key],
        expected: before[key],
        action: "Delete the endpoint and add it again",
      });
    }
  }

  private refuseDouble(spec: Endpoint): void {
    for (const other of this.entries.values()) {
      for (const key of ["netns", "device", "cgroup"] as const) {
        if (spec[key] === "" || other.spec[key] !== spec[key]) continue;
        if (key === "netns" && other.spec.containerDevice !== spec.containerDevice) continue;
        throw new ProblemError("ENDPOINT_TAKEN", {
          status: 409,
          detail: `Cannot add endpoint ${spec.name}: ${key} ${
            spec[key]
          } belongs to endpoint ${other.spec.name}`,
          action: "Delete that endpoint first",
        });
      }
    }
  }

  /** Addresses of an entry, if the node's pools are known; repeatable. @throws {IpamError} */
  private giveAddresses(entry: Entry): void {
    const { spec, status } = entry;
    if (spec.cgroup !== "") return;
    for (const [key, pool] of [["ipv4", this.node.poolV4], ["ipv6", this.node.poolV6]] as const) {
      const wanted = status[key] || spec[key];
      if (wanted !== "") {
        const address = IpAddress.parse(wanted);
        // A device may carry an address of its own that no pool knows.
        if (pool && (pool.prefix.contains(address) || spec.device === "")) pool.claim(address, spec.name);
        status[key] = wanted;
      } else if (pool) {
        status[key] = pool.allocate(spec.name).text;
      }
    }
  }

  private drop(entry: Entry): void {
    this.ids.release(entry.status.id);
    this.node.poolV4?.release(entry.status.ipv4, entry.spec.name);
    this.node.poolV6?.release(entry.status.ipv6, entry.spec.name);
    this.entries.delete(entry.spec.name);
    this.queue.forget(endpointKey(entry.spec.name));
  }

  private setState(entry: Entry, state: EndpointStatusState): void {
    entry.status.state = state;
    this.publish(entry);
  }

  private publish(entry: Entry): Endpoint {
    const value = Endpoint.create({ ...entry.spec, status: { ...entry.status } });
    const before = this.endpoints.get(entry.spec.name);
    if (!before || JSON.stringify(before) !== JSON.stringify(value)) {
      this.endpoints.put(entry.spec.name, value);
    }
    return value;
  }

  /** The datapath is there anew: whatever it was given must be given again. */
  private forgetApplied(): void {
    this.node.forget();
    this.prefixes.forget();
    this.policies.forget();
    this.services?.forget();
    this.synced = false;
    this.queue.add(NODE);
    this.queue.add(IPCACHE);
    this.queue.add(SERVICES);
    for (const [name, entry] of this.entries) {
      entry.applied = undefined;
      this.queue.add(endpointKey(name));
    }
    this.queue.add(SYNC);
  }

  private async work(key: string): Promise<void> {
    if (key === NODE) return await this.reconcileNode();
    if (key === IPCACHE) return await this.reconcileIpcache();
    if (key === SERVICES) return await this.reconcileServices();
    if (key === SERVICES_FAILED) return await this.services?.retryFailed();
    if (key === SYNC) return await this.reconcileSync();
    if (key === HEARTBEAT) return await this.node.register();
    const entry = this.entries.get(key.slice(endpointKey("").length));
    if (entry?.deleting) await this.tearDown(entry);
    else if (entry) await this.reconcileEndpoint(entry);
  }

  private onResult(key: string, failure: Failure | undefined): void {
    if (failure) {
      this.log("Work failed, will be tried again", {
        key,
        error: failure.error.message,
        attempts: failure.attempts,
      });
    }
    const entry = this.entries.get(key.slice(endpointKey("").length));
    if (!key.startsWith(endpointKey("")) || !entry) return;
    entry.status.error = failure && {
      kind: "endpoint",
      error: failure.error.message,
      sinceUnixS: failure.sinceMs / 1000,
      nextRetryUnixS: failure.nextRetryMs / 1000,
      attempts: failure.attempts,
    };
    this.publish(entry);
    if (!this.synced) this.queue.add(SYNC);
  }

  private async reconcileNode(): Promise<void> {
    if (!this.node.node) {
      await this.node.register();
      // Those that have addresses first, else a new one could take them.
      for (
        const entry of [...this.entries.values()].sort((a, b) => b.status.ipv4.length - a.status.ipv4.length)
      ) {
        this.giveAddresses(entry);
      }
      this.queue.add(IPCACHE);
    }
    if (await this.node.applyConfig()) {
      for (const name of this.entries.keys()) this.queue.add(endpointKey(name));
      this.queue.add(SERVICES);
      this.queue.add(SYNC);
    }
    this.services?.setZone(this.node.zone);
    if (this.nodes.synced) await this.node.applyRemoteNodes(this.nodes.values());
  }

  private async reconcileIpcache(): Promise<void> {
    if (!this.node.node) return;
    await this.prefixes.reconcile(
      { nodes: this.nodes, ipcache: this.ipcache, cidrs: this.cidrs },
      this.node.gateways,
      this.entries.values(),
    );
    if (!this.synced) this.queue.add(SYNC);
  }

  private async reconcileServices(): Promise<void> {
    // NodePorts need the node's addresses, which come with its configuration.
    if (!this.services || !this.node.configured) return;
    const frontends = await this.services.reconcile();
    if (this.services.failures > 0 && (frontends || !this.queue.failureOf(SERVICES_FAILED))) {
      this.queue.add(SERVICES_FAILED);
    }
    if (!this.synced) this.queue.add(SYNC);
  }

  private async reconcileEndpoint(entry: Entry): Promise<void> {
    const { spec, status } = entry;
    if (!this.node.configured) return;
    this.giveAddresses(entry);
    const labels = identityLabels(spec, this.parts.config.cluster);
    if (entry.labelsAllocated !== labels.join(";")) {
      if (status.identity === 0) this.setState(entry, "WAITING_FOR_IDENTITY");
      const identity = await this.parts.allocator.allocate(labels, spec.name);
      status.identity = identity.number;
      status.identityLabels = identity.labels;
      entry.labelsAllocated = labels.join(";");
      await this.parts.store.save({ ...spec, status });
    }
    const mapState = this.policies.mapState(status.identity);
    if (!mapState) {
      if (status.state !== "RESTORING") this.setState(entry, "WAITING_TO_REGENERATE");
      return;
    }
    if (mapState.error !== "" && status.policy !== "") {
      throw new Error(`Cannot apply the policy of identity ${status.identity}: ${mapState.error}`);
    }
    if (status.state !== "READY") this.setState(entry, "REGENERATING");
    const policyBefore = status.policy;
    status.policy = policyName(mapState, spec.namedPorts);
    await this.policies.apply(mapState, spec);
    await this.applyEndpoint(entry);
    await this.announce(entry);
    status.policyRevision = mapState.policyRevision;
    status.ingressEnforced = mapState.enforceIngress;
    status.egressEnforced = mapState.enforceEgress;
    if (status.state !== "READY") status.readyUnixS = this.now() / 1000;
    if (entry.spec === spec) this.setState(entry, "READY");
    if (policyBefore !== status.policy) await this.dropUnusedPolicies();
  }

  private async applyEndpoint(entry: Entry): Promise<void> {
    const { spec, status } = entry;
    const wanted: Init<DatapathEndpoint> = {
      name: spec.name,
      id: status.id,
      kind: spec.netns !== "" ? "NETNS" : spec.device !== "" ? "DEVICE" : "CGROUP",
      netns: spec.netns,
      device: spec.device,
      cgroup: spec.cgroup,
      containerDevice: spec.containerDevice || (spec.netns !== "" ? "eth0" : ""),
      ipv4: status.ipv4,
      ipv6: status.ipv6,
      mac: spec.mac,
      identity: status.identity,
      policy: status.policy,
    };
    const text = JSON.stringify(wanted);
    if (entry.applied === text) return;
    entry.applied = undefined;
    const realized = await this.parts.datapath.putEndpoint(wanted);
    if (realized.status?.error) {
      throw new Error(`Cannot attach endpoint ${spec.name}: ${realized.status.error.error}`);
    }
    status.mac = realized.status?.mac ?? "";
    status.hostDevice = realized.status?.hostDevice ?? "";
    status.ifindex = realized.status?.ifindex ?? 0;
    entry.applied = text;
  }

  /** Tells the cluster where the endpoint's addresses are, and this node's own datapath at once. */
  private async announce(entry: Entry): Promise<void> {
    for (const prefix of prefixesOf(entry)) {
      const announcement = announcementOf(entry, prefix, this.parts.config);
      const text = JSON.stringify(announcement);
      if (entry.announced.get(prefix) === text) continue;
      await this.parts.allocator.putIpcache(announcement);
      entry.announced.set(prefix, text);
      this.queue.add(IPCACHE);
    }
  }

  private async tearDown(entry: Entry): Promise<void> {
    const { name } = entry.spec;
    await this.parts.datapath.deleteEndpoint(name);
    for (const prefix of prefixesOf(entry)) await this.parts.allocator.deleteIpcache(prefix);
    await this.parts.allocator.release(name);
    await this.parts.store.remove(name);
    this.drop(entry);
    this.endpoints.delete(name);
    entry.deleting?.resolve();
    this.queue.add(IPCACHE);
    await this.dropUnusedPolicies();
  }

  private async dropUnusedPolicies(): Promise<void> {
    const used = new Set<string>(), identities = new Set<number>();
    for (const { status } of this.entries.values()) {
      used.add(status.policy);
      identities.add(status.identity);
    }
    await this.policies.keepOnly(used, identities);
  }

  /** Once every source is in sync and every endpoint was tried, the datapath may sweep what nothing desires. */
  private async reconcileSync(): Promise<void> {
    if (this.synced || !this.prefixes.complete || !this.node.configured) return;
    if (this.services && !this.services.complete) return;
    for (const { spec, status } of this.entries.values()) {
      if (status.state !== "READY" && !this.queue.failureOf(endpointKey(spec.name))) return;
    }
    await this.parts.datapath.sync();
    this.synced = true;
  }
}
