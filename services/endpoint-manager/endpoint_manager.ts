/**
 * The conductor of a node: joins endpoints, identities, policies and the cluster's ipcache, and hands the datapath its
 * desired state. One queue does all the work, one task at a time, so there is one writer for everything.
 *
 *     PUT endpoint ─▶ addresses ─▶ identity ─▶ map state ─▶ datapath policy ─▶ datapath endpoint ─▶ ipcache ─▶ READY
 *
 * Nothing is taken from the kernel before all sources are in sync: with the control plane away, what works stays.
 * @module
 */
import { IpAddress, notFound, Prefix, ProblemError, WatchedTable } from "@weir/common";
import type { DatapathEndpoint, IpcacheUpsert, NodeConfigRoutingMode } from "@weir/proto/datapath";
import { Endpoint, EndpointStatus, type EndpointStatusState } from "@weir/proto/endpoint";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity, MapState } from "@weir/proto/policy";
import type { Init } from "@weir/proto";
import { identityLabels } from "./endpoint_labels.ts";
import { readEndpointSpec, sameSpec } from "./endpoint_spec.ts";
import type { EndpointStore } from "./endpoint_store.ts";
import { diffIpcache, joinIpcache } from "./ipcache_join.ts";
import { AddressPool, EndpointIds, IpamError } from "./ipam.ts";
import { policyName, resolvePolicy } from "./policy_variant.ts";
import type { AllocatorPort, DatapathPort, Mirror, PolicyPort } from "./ports.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** What the node is told about itself. */
export interface EndpointManagerConfig {
  nodeName: string;
  instance: string;
  cluster: string;
  nodeIpv4: string;
  nodeIpv6: string;
  routingMode: NodeConfigRoutingMode;
  mtu: number;
  devices: string[];
  tunnelPort: number;
  masquerade: boolean;
  /** How often the node says that it is alive, default 30,000. */
  heartbeatMs?: number;
}

/** What the manager is made of. */
export interface EndpointManagerParts {
  config: EndpointManagerConfig;
  allocator: AllocatorPort;
  policy: PolicyPort;
  datapath: DatapathPort;
  store: EndpointStore;
  now?: () => number;
  log?: (message: string, fields?: Record<string, unknown>) => void;
}

/** An endpoint and what is known of it beyond its API object. */
interface Entry {
  spec: Endpoint;
  status: EndpointStatus;
  /** Labels that `status.identity` was allocated for; undefined until this process has asked. */
  labelsAllocated?: string;
  /** Prefixes written to the cluster's ipcache, with what was written. */
  announced: Map<string, string>;
  /** What the datapath was given last; undefined when it must be given again. */
  applied?: string;
  deleting?: PromiseWithResolvers<void>;
}

const NODE = "node", IPCACHE = "ipcache", SYNC = "sync";
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
  private poolV4: AddressPool | undefined;
  private poolV6: AddressPool | undefined;
  private node: Node | undefined;
  private nodes!: Mirror<Node> & Disposable;
  private ipcache!: Mirror<IpcacheEntry> & Disposable;
  private cidrs!: Mirror<CidrIdentity> & Disposable;
  private readonly mapStates = new Map<number, Mirror<MapState> & Disposable>();
  /** Policies the datapath has, with what it was given. */
  private readonly policiesApplied = new Map<string, string>();
  private ipcacheApplied: Map<string, IpcacheUpsert> | undefined;
  private readonly remoteNodesApplied = new Map<string, string>();
  private nodeConfigApplied = "";
  private synced = false;
  private following: Disposable | undefined;
  private heartbeat: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly parts: EndpointManagerParts) {
    this.now = parts.now ?? Date.now;
    this.log = parts.log ?? (() => {});
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
    this.following = this.parts.datapath.follow(() => this.forgetApplied());
    this.heartbeat = setInterval(() => this.queue.add("heartbeat"), this.parts.config.heartbeatMs ?? 30_000);
    this.queue.add(NODE);
  }

  /** Ends; the kernel keeps everything. */
  async stop(): Promise<void> {
    clearInterval(this.heartbeat);
    this.following?.[Symbol.dispose]();
    for (const source of [this.nodes, this.ipcache, this.cidrs, ...this.mapStates.values()]) {
      source?.[Symbol.dispose]();
    }
    await this.queue.stop();
  }

  /** What readiness waits for; empty when ready. */
  waitingFor(): string[] {
    const waits: string[] = [];
    if (!this.node) waits.push("this node's registration with the identity allocator");
    if (!this.nodes?.synced) waits.push("nodes from the identity allocator");
    if (!this.ipcache?.synced) waits.push("the ipcache from the identity allocator");
    if (!this.cidrs?.synced) waits.push("CIDR identities from the policy engine");
    if (this.nodeConfigApplied === "") waits.push("the datapath");
    if (!this.synced) waits.push("the first full sync with the datapath");
    return waits;
  }

  /** Failures of work that is not an endpoint's own, by key. */
  failure(key: "node" | "ipcache" | "sync"): Failure | undefined {
    return this.queue.failureOf(key);
  }

  /** Addresses in use, for status. */
  addresses(): { pool: string; used: number; usableMax: string }[] {
    return [this.poolV4, this.poolV6].filter((p) => p !== undefined)
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
    for (const [key, pool] of [["ipv4", this.poolV4], ["ipv6", this.poolV6]] as const) {
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
    this.poolV4?.release(entry.status.ipv4, entry.spec.name);
    this.poolV6?.release(entry.status.ipv6, entry.spec.name);
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
    this.nodeConfigApplied = "";
    this.ipcacheApplied = undefined;
    this.policiesApplied.clear();
    this.remoteNodesApplied.clear();
    this.synced = false;
    this.queue.add(NODE);
    this.queue.add(IPCACHE);
    for (const [name, entry] of this.entries) {
      entry.applied = undefined;
      this.queue.add(endpointKey(name));
    }
    this.queue.add(SYNC);
  }

  private async work(key: string): Promise<void> {
    if (key === NODE) return await this.reconcileNode();
    if (key === IPCACHE) return await this.reconcileIpcache();
    if (key === SYNC) return await this.reconcileSync();
    if (key === "heartbeat") return await this.register();
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

  private async register(): Promise<void> {
    const { nodeName, nodeIpv4, nodeIpv6, cluster } = this.parts.config;
    this.node = await this.parts.allocator.putNode({
      name: nodeName,
      ipv4: nodeIpv4,
      ipv6: nodeIpv6,
      cluster,
      podCidrV4: this.node?.podCidrV4 ?? "",
      podCidrV6: this.node?.podCidrV6 ?? "",
    });
  }

  private async reconcileNode(): Promise<void> {
    if (!this.node) {
      await this.register();
      const { podCidrV4, podCidrV6 } = this.node!;
      this.poolV4 = podCidrV4 ? new AddressPool(podCidrV4) : undefined;
      this.poolV6 = podCidrV6 ? new AddressPool(podCidrV6) : undefined;
      // Those that have addresses first, else a new one could take them.
      for (
        const entry of [...this.entries.values()].sort((a, b) => b.status.ipv4.length - a.status.ipv4.length)
      ) {
        this.giveAddresses(entry);
      }
      for (const name of this.entries.keys()) this.queue.add(endpointKey(name));
      this.queue.add(IPCACHE);
    }
    const { config, datapath } = this.parts;
    const nodeConfig = {
      instance: config.instance,
      nodeName: config.nodeName,
      ipv4: config.nodeIpv4,
      ipv6: config.nodeIpv6,
      podCidrV4: this.node!.podCidrV4,
      podCidrV6: this.node!.podCidrV6,
      gatewayV4: this.poolV4?.gateway.text ?? "",
      gatewayV6: this.poolV6?.gateway.text ?? "",
      routingMode: config.routingMode,
      mtu: config.mtu,
      devices: config.devices,
      tunnelPort: config.tunnelPort,
      cluster: config.cluster,
      masquerade: config.masquerade,
    };
    const text = JSON.stringify(nodeConfig);
    if (text !== this.nodeConfigApplied) {
      await datapath.putNodeConfig(nodeConfig);
      this.nodeConfigApplied = text;
      for (const name of this.entries.keys()) this.queue.add(endpointKey(name));
      this.queue.add(SYNC);
    }
    if (this.nodes.synced) await this.reconcileRemoteNodes();
  }

  private async reconcileRemoteNodes(): Promise<void> {
    const wanted = new Map<string, Init<Node>>();
    for (const node of this.nodes.values()) {
      if (node.name === this.parts.config.nodeName) continue;
      const { name, ipv4, ipv6, podCidrV4, podCidrV6 } = node;
      wanted.set(name, { name, ipv4, ipv6, podCidrV4, podCidrV6 });
    }
    for (const [name, node] of wanted) {
      const text = JSON.stringify(node);
      if (this.remoteNodesApplied.get(name) === text) continue;
      await this.parts.datapath.putRemoteNode(node);
      this.remoteNodesApplied.set(name, text);
    }
    for (const name of [...this.remoteNodesApplied.keys()]) {
      if (wanted.has(name)) continue;
      await this.parts.datapath.deleteRemoteNode(name);
      this.remoteNodesApplied.delete(name);
    }
  }

  private async reconcileIpcache(): Promise<void> {
    if (!this.node || !this.nodes.synced || !this.ipcache.synced || !this.cidrs.synced) return;
    const gateways = [this.poolV4?.gateway.text ?? "", this.poolV6?.gateway.text ?? ""];
    const own = new Map<string, IpcacheEntry>();
    for (const entry of this.ipcache.values()) own.set(entry.prefix, entry);
    // What this node has announced holds before the allocator's echo of it arrives.
    for (const entry of this.entries.values()) {
      for (const prefix of entry.announced.keys()) own.set(prefix, this.announcement(entry, prefix));
    }
    const joined = joinIpcache({
      nodeName: this.parts.config.nodeName,
      gateways,
      ipcache: own.values(),
      nodes: this.nodes.values(),
      cidrs: this.cidrs.values(),
    });
    const first = this.ipcacheApplied === undefined;
    const { upserts, deletes } = diffIpcache(this.ipcacheApplied ?? new Map(), joined);
    if (first || upserts.length > 0 || deletes.length > 0) {
      await this.parts.datapath.updateIpcache({ upserts, deletes, replace: first });
      this.ipcacheApplied = joined;
    }
    await this.withdrawStrays();
    if (!this.synced) this.queue.add(SYNC);
  }

  /** Entries in this node's name that no endpoint stands behind: left by an endpoint that went while nobody heard. */
  private async withdrawStrays(): Promise<void> {
    const held = new Set<string>();
    for (const entry of this.entries.values()) for (const prefix of this.prefixesOf(entry)) held.add(prefix);
    for (const entry of this.ipcache.values()) {
      if (entry.node === this.parts.config.nodeName && !held.has(entry.prefix)) {
        await this.parts.allocator.deleteIpcache(entry.prefix);
      }
    }
  }

  private prefixesOf(entry: Entry): string[] {
    if (entry.spec.cgroup !== "") return [];
    return [entry.status.ipv4, entry.status.ipv6].filter((a) => a !== "")
      .map((a) => Prefix.host(IpAddress.parse(a)).text);
  }

  private announcement(entry: Entry, prefix: string): IpcacheEntry {
    const { spec, status } = entry;
    const { config } = this.parts;
    return {
      prefix,
      identity: status.identity,
      node: config.nodeName,
      nodeIpv4: config.nodeIpv4,
      nodeIpv6: config.nodeIpv6,
      endpoint: spec.name,
      namespace: spec.namespace,
      podName: spec.podName,
      namedPorts: spec.namedPorts,
      labels: status.identityLabels,
      flags: 0,
    };
  }

  private mirrorOf(identity: number): Mirror<MapState> {
    let mirror = this.mapStates.get(identity);
    if (!mirror) {
      mirror = this.parts.policy.mapState(identity, {
        onChange: () => {
          for (const entry of this.entries.values()) {
            if (entry.status.identity === identity) this.queue.add(endpointKey(entry.spec.name));
          }
        },
      });
      this.mapStates.set(identity, mirror);
    }
    return mirror;
  }

  private async reconcileEndpoint(entry: Entry): Promise<void> {
    const { spec, status } = entry;
    if (!this.node || this.nodeConfigApplied === "") return;
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
    const mirror = this.mirrorOf(status.identity);
    const mapState = mirror.get(`${status.identity}`);
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
    await this.applyPolicy(mapState, spec);
    await this.applyEndpoint(entry);
    await this.announce(entry);
    status.policyRevision = mapState.policyRevision;
    status.ingressEnforced = mapState.enforceIngress;
    status.egressEnforced = mapState.enforceEgress;
    if (status.state !== "READY") status.readyUnixS = this.now() / 1000;
    if (entry.spec === spec) this.setState(entry, "READY");
    if (policyBefore !== status.policy) await this.dropUnusedPolicies();
  }

  private async applyPolicy(mapState: MapState, spec: Endpoint): Promise<void> {
    const policy = resolvePolicy(mapState, spec.namedPorts);
    const text = JSON.stringify(policy);
    if (this.policiesApplied.get(policy.name!) === text) return;
    const applied = await this.parts.datapath.putPolicy(policy);
    if (applied.status?.error) {
      throw new Error(`Cannot apply policy ${policy.name}: ${applied.status.error.error}`);
    }
    this.policiesApplied.set(policy.name!, text);
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
    for (const prefix of this.prefixesOf(entry)) {
      const announcement = this.announcement(entry, prefix);
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
    for (const prefix of this.prefixesOf(entry)) await this.parts.allocator.deleteIpcache(prefix);
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
    for (const name of [...this.policiesApplied.keys()]) {
      if (used.has(name)) continue;
      await this.parts.datapath.deletePolicy(name);
      this.policiesApplied.delete(name);
    }
    for (const [identity, mirror] of this.mapStates) {
      if (identities.has(identity)) continue;
      mirror[Symbol.dispose]();
      this.mapStates.delete(identity);
    }
  }

  /** Once every source is in sync and every endpoint was tried, the datapath may sweep what nothing desires. */
  private async reconcileSync(): Promise<void> {
    if (this.synced || this.ipcacheApplied === undefined || this.nodeConfigApplied === "") return;
    for (const { spec, status } of this.entries.values()) {
      if (status.state !== "READY" && !this.queue.failureOf(endpointKey(spec.name))) return;
    }
    await this.parts.datapath.sync();
    this.synced = true;
  }
}
