/**
 * The datapath of one node: desired state in by HTTP, kernel state out.
 *
 *     PUT nodeconfig, policies, endpoints, remotenodes; POST ipcache, services:update ─▶ stores ─▶ maps, programs, devices, routes
 *     kernel ─▶ GET events (stream), maps, programs, status
 *
 * What is in the kernel when it starts is taken over as desired objects arrive; the rest is swept after POST /v1/sync.
 * Stopping closes descriptors only: everything that was pinned goes on.
 *
 * @module
 */
import {
  ApiServer,
  type Clock,
  type Handler,
  invalidArgument,
  type Logger,
  type MetricsRegistry,
  ProblemError,
  WatchedTable,
} from "@weir/common";
import { Gate, unpin, VerdictCache, type Verifier } from "@weir/loader";
import { SHARE_OUTSIDE } from "@weir/maps";

import { DatagramSocket, deleteRoute, LocalWatcher, NetlinkSocket } from "@weir/net";
import {
  AddressesInUse,
  DatapathEndpoint,
  DatapathEndpointStatus,
  DatapathPolicy,
  DatapathPolicyStatus,
  DatapathStatus,
  EndpointSockets,
  EventBatch,
  Found,
  HostFirewall,
  IpcacheUpdate,
  IpcacheUpdateResponse,
  MapDump,
  NodeConfig,
  Probes,
  Program,
  RemoteNode,
  SyncRequest,
  SyncResponse,
  Usage,
} from "@weir/proto/datapath";
import { Handle, HandleBatch } from "@weir/proto/l7";
import { DUMP_NAMES } from "@weir/proto/dumps";
import { Attachments } from "./hooks/attachments.ts";
import { hex, mapped } from "./kernel/addresses.ts";
import { Collector } from "./kernel/collector.ts";
import { Handles } from "./kernel/handles.ts";
import { HANDLE_READERS_MAX, NewHandles } from "./kernel/new_handles.ts";
import { Holders } from "./kernel/holders.ts";
import { addressesInUse } from "./kernel/in_use.ts";
import { hostDeviceName } from "./endpoints/pod_network.ts";
import { EndpointStore } from "./endpoints/store.ts";
import { EventLosses } from "./reports/event_losses.ts";
import { EventHub, READERS_MAX } from "./reports/events.ts";
import { IpcacheStore } from "./node/ipcache.ts";
import { Kernel, type MapSizes } from "./kernel/kernel.ts";
import { KernelReport } from "./reports/kernel.ts";
import { hzOf, NodeStore } from "./node/store.ts";
import { Pins } from "./kernel/pins.ts";
import { PolicyStore } from "./endpoints/policies.ts";
import { PROBE_PORT } from "./probes/packet.ts";
import { Prober, TICK_MS } from "./probes/prober.ts";
import { mountProbeMetrics, probesReport } from "./probes/report.ts";
import { sweepAffinity } from "./services/affinity_table.ts";
import { Retries } from "./retries.ts";
import { ServiceReport } from "./reports/services.ts";
import { Retransmissions } from "./reports/retransmissions.ts";
import { readEndpointSockets } from "./reports/sockets.ts";
import { Troubles } from "./reports/troubles.ts";
import { UsageReport } from "./reports/usage.ts";
import { ServiceStore } from "./services/store.ts";
import { SocketHooks } from "./hooks/sockets.ts";
import { XdpHooks } from "./hooks/xdp.ts";

/** What a datapath is told. */
export interface DatapathConfig {
  /** Owner mark: "host" or "<lab>-<node>". */
  instance: string;
  /** Bytes of the built object. */
  object: Uint8Array<ArrayBuffer>;
  /** Entries of one policy at most, default 16,384. */
  policyEntriesMax?: number;
  /** Sizes of maps that differ from the object's. */
  mapSizes?: MapSizes;
  /** Private directory for verdicts; none: nothing is kept. */
  verdictDirectory?: string;
  /** Directory with the host's control groups; default: where the unified hierarchy is mounted. */
  cgroupRoot?: string;
  /** Path of the control group of the L7 proxy's processes. Default: they have none. */
  proxyCgroup?: string;
  /** How often devices are looked after, default 10,000 ms. */
  resyncMs?: number;
  /** How often conntrack is collected, default 30,000 ms. */
  gcMs?: number;
}

/** What a datapath is made of. */
export interface DatapathParts {
  config: DatapathConfig;
  verifier: Verifier;
  clock: Clock;
  api?: ApiServer;
  log?: Logger;
  metrics?: MetricsRegistry;
}

/** A running datapath. */
export interface Datapath {
  readonly api: ApiServer;
  readonly handler: Handler;
  /** Begins collecting; the kernel was taken over when it was made. */
  start(): void;
  /** Lets go of the kernel, which goes on as it is. */
  stop(): void;
  /** Tests look inside. */
  readonly kernel: Kernel;
}

/** Loads the programs and takes the kernel over. @throws {GateError} @throws {LoadError} */
export async function createDatapath(parts: DatapathParts): Promise<Datapath> {
  const { config, clock } = parts;
  const pins = new Pins(config.instance);
  const gate = new Gate(parts.verifier, new VerdictCache(config.verdictDirectory));
  const loadedMs = clock.monotonicMs();
  const kernel = Kernel.load({ object: config.object, pins, gate, sizes: config.mapSizes });
  parts.log?.info("Programs loaded", {
    ms: Math.round(clock.monotonicMs() - loadedMs),
    verifier: parts.verifier.version,
    adopted: kernel.programsAdopted,
    changed: [...kernel.programsChanged],
    mapsRebuilt: kernel.mapsRebuilt,
    mapsCarried: Object.fromEntries(kernel.mapsCarried),
    pinsRemoved: kernel.pinsRemoved,
  });
  const hz = kernel.config.get(0)?.hz || await measureHz(kernel, clock);
  return new Running(parts, kernel, gate, hz);
}

async function measureHz(kernel: Kernel, clock: Clock): Promise<number> {
  const before = kernel.sampleClock();
  await clock.sleep(110);
  return hzOf(before, kernel.sampleClock());
}

class Running implements Datapath {
  readonly api: ApiServer;
  readonly handler: Handler;
  readonly #socket = new NetlinkSocket();
  readonly #attachments: Attachments;
  readonly #policies: PolicyStore;
  readonly #endpoints: EndpointStore;
  readonly #node: NodeStore;
  readonly #ipcache: IpcacheStore;
  readonly #events: EventHub;
  readonly #losses: EventLosses;
  readonly #troubles: Troubles;
  readonly #retransmissions: Retransmissions;
  readonly #usage: UsageReport;
  readonly #sockets: SocketHooks;
  readonly #xdp: XdpHooks;
  readonly #prober: Prober;
  readonly #services: ServiceStore;
  readonly #serviceReport: ServiceReport;
  readonly #retries: Retries;
  readonly #collector: Collector;
  readonly #handles: Handles;
  readonly #newHandles: NewHandles;
  readonly #report: KernelReport;
  readonly #stopping = new AbortController();
  #local: LocalWatcher | undefined;
  readonly #tables = {
    endpoints: new WatchedTable<DatapathEndpoint>({ name: "endpoints" }),
    policies: new WatchedTable<DatapathPolicy>({ name: "policies" }),
    remoteNodes: new WatchedTable<RemoteNode>({ name: "remotenodes" }),
    nodeConfig: new WatchedTable<NodeConfig>({ name: "nodeconfig" }),
  };
  readonly #policyRevisions = new Map<string, number>();
  #synced = false;
  readonly #parts: DatapathParts;
  readonly #hz: number;

  constructor(
    parts: DatapathParts,
    readonly kernel: Kernel,
    gate: Gate,
    hz: number,
  ) {
    this.#parts = parts;
    this.#hz = hz;
    this.#attachments = new Attachments(kernel);
    this.#policies = new PolicyStore(kernel, parts.config.policyEntriesMax ?? 16_384);
    this.#node = new NodeStore({
      kernel,
      attachments: this.#attachments,
      socket: this.#socket,
      proxyCgroup: parts.config.proxyCgroup,
    });
    this.#endpoints = new EndpointStore({
      kernel,
      clock: parts.clock,
      attachments: this.#attachments,
      policies: this.#policies,
      socket: this.#socket,
      network: () => this.#node.network(),
      onForgotten: (id) => {
        this.#losses.forget(id);
        this.#troubles.forget(id);
        for (const share of [id, SHARE_OUTSIDE + id]) kernel.typed("weir_refused").clear(share);
      },
    });
    this.#ipcache = new IpcacheStore(kernel, parts.clock);
    this.#losses = new EventLosses(kernel, parts.clock, () => this.#endpoints.ids);
    this.#retransmissions = new Retransmissions({
      clock: parts.clock,
      endpoints: () => this.#tables.endpoints.list(),
      timeNs: () => kernel.sampleClock().time,
      tell: (records) => this.#events.tell(records),
    });
    this.#troubles = new Troubles({
      kernel,
      endpoints: () => this.#endpoints.ids,
      nameOf: (id) => this.#endpoints.nameOf(id),
      retransmitted: (name) => this.#retransmissions.segmentsOf(name),
    });
    this.#events = new EventHub(
      kernel,
      parts.clock,
      (lost) => this.#losses.addStream(lost),
      () => this.#usage.eventLosses(true),
    );
    this.#retries = new Retries(parts.clock);
    const serviceMaps = kernel.serviceMaps;
    this.#services = new ServiceStore(serviceMaps, parts.clock);
    this.#serviceReport = new ServiceReport(this.#services, serviceMaps);
    this.api = parts.api ?? new ApiServer({ name: "datapath", metrics: parts.metrics, log: parts.log });
    this.handler = this.api.fetch;
    this.#sockets = new SocketHooks({
      kernel,
      attachments: this.#attachments,
      log: this.api.log,
      cgroups: parts.config.cgroupRoot,
    });
    this.#xdp = new XdpHooks({ kernel, attachments: this.#attachments, socket: this.#socket });
    this.#handles = new Handles(kernel);
    this.#newHandles = new NewHandles(kernel, this.#handles, parts.clock);
    const holders = new Holders(kernel, parts.clock, () => this.#endpoints.ids);
    this.#collector = new Collector(kernel, holders, this.#handles, parts.clock, this.api.log);
    this.#usage = new UsageReport({
      clock: parts.clock,
      flows: holders,
      events: this.#events,
      losses: this.#losses,
      troubles: this.#troubles,
      ipcache: this.#ipcache,
      handles: this.#handles,
      sizes: { ct: kernel.ct.entriesMax, nat: kernel.typed("weir_nat").entriesMax },
      nameOf: (id) => this.#endpoints.nameOf(id),
    });
    this.#report = new KernelReport({
      kernel,
      gate,
      hz,
      verifier: parts.verifier,
      instance: parts.config.instance,
      attachments: this.#attachments,
      collector: this.#collector,
      endpoints: this.#endpoints,
      events: this.#events,
      ipcache: this.#ipcache,
      policies: this.#policies,
      retries: this.#retries,
      services: this.#services,
      serviceReport: this.#serviceReport,
    });
    const onLatency = mountProbeMetrics(this.api.metrics, () => this.#prober);
    this.#prober = new Prober({
      clock: parts.clock,
      random: () => crypto.getRandomValues(new BigUint64Array(1))[0],
      open: (family) => new DatagramSocket(family, PROBE_PORT),
      onLatency,
    });
    this.#mount();
  }

  start(): void {
    const { clock, config } = this.#parts;
    const { signal } = this.#stopping;
    const every = async (ms: number, work: () => void) => {
      while (!signal.aborted) {
        await clock.sleep(ms, signal);
        if (signal.aborted) return;
        try {
          work();
        } catch (error) {
          this.api.log.error("Background work failed", { error });
        }
      }
    };
    // What the tables hold from a version before is counted by the first walk, not in half a minute only.
    this.#collector.collect();
    every(config.gcMs ?? 30_000, () => this.#collector.collect());
    every(250, () => this.#collector.relieve());
    every(1000, () => this.#collector.tellUnanswered());
    every(1000, () => this.#retransmissions.look());
    let retired = 0, ended = 0;
    every(1000, () => {
      this.#endpoints.tick();
      this.#ipcache.tick();
    });
    every(1000, () => {
      this.#services.tick();
      const backendsWent = this.#services.retired !== retired;
      const affinityEnded = backendsWent || this.#services.affinitiesEnded !== ended;
      retired = this.#services.retired;
      ended = this.#services.affinitiesEnded;
      if (backendsWent) this.#sockets.reap(); // connected sockets learn soon that their backend is gone
      if (affinityEnded) this.#sweepAffinity();
    });
    // Ids of dead backends rest for a minute: long enough to find who still has one.
    every(1000, () => this.#services.backends.resting > 0 && this.#sockets.reap());
    every(1000, () => {
      if (this.#losses.sample(this.#events.lostRing())) {
        this.#events.announce(this.#usage.eventLosses(false));
      }
    });

    let told = 0;
    every(TICK_MS, () => {
      const { config, remotes, pathSizes, changes } = this.#node;
      if (changes !== told) this.#prober.tell(config, remotes, pathSizes);
      told = changes;
      this.#prober.tick();
    });
    this.#local = new LocalWatcher(() => this.#refreshAddresses());
    every(30_000, () => this.#refreshAddresses());
    every(config.resyncMs ?? 10_000, () => this.#repair());
    every(config.resyncMs ?? 10_000, () => this.#sockets.reap());
  }

  stop(): void {
    this.#stopping.abort();
    this.#retries.stop();
    this.#events.stop();
    this.#newHandles.stop();
    this.#services[Symbol.dispose]();
    this.#sockets.close();
    this.#prober[Symbol.dispose]();
    this.#local?.[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    this.kernel.close();
  }

  /** The kernel has said that addresses changed. What fails is tried again with the next change, and every 30 s. */
  #refreshAddresses(): void {
    try {
      const config = this.#tables.nodeConfig.get("node");
      if (config !== undefined && this.#node.hasOtherOuter()) {
        this.api.log.warn("The node's addresses are on other devices: it is configured anew");
        this.#putNodeConfig("node", config);
      }
      this.#node.refreshAddresses();
      this.#node.repair();
      this.#applyProxy();
    } catch (error) {
      this.api.log.error("Cannot follow the addresses of the node", { error });
    }
  }

  #mount(): void {
    const { api } = this;
    api.health.waitFor("node-config", "PUT /v1/nodeconfig/node");
    api.collection({
      name: "nodeconfig",
      message: NodeConfig,
      table: this.#tables.nodeConfig,
      put: (name, config) => this.#putNodeConfig(name, config),
    });
    api.collection({
      name: "endpoints",
      message: DatapathEndpoint,
      table: this.#tables.endpoints,
      put: (name, endpoint) => this.#putEndpoint(name, endpoint),
      delete: (name) => this.#deleteEndpoint(name),
    });
    api.collection({
      name: "policies",
      message: DatapathPolicy,
      table: this.#tables.policies,
      bodyBytesMax: 32 << 20,
      put: (name, policy) => this.#putPolicy(name, policy),
      delete: (name) => this.#deletePolicy(name),
    });
    api.collection({
      name: "remotenodes",
      message: RemoteNode,
      table: this.#tables.remoteNodes,
      put: (name, remote) => this.#putRemote(name, remote),
      delete: (name) => this.#deleteRemote(name),
    });
    api.collection({
      name: "handles",
      message: Handle,
      list: () => this.#handles.list(),
      get: (name) => this.#handles.get(name),
      description:
        "Connections that the L7 proxy judges, by the number in the address at which it finds them",
    });
    api.collection({ name: "programs", message: Program, list: () => this.#report.programs() });
    api.collection({
      name: "sockets",
      message: EndpointSockets,
      list: () => {
        throw invalidArgument("Cannot list the sockets of every endpoint", {
          found: "no endpoint",
          expected: "GET /v1/sockets/<endpoint>",
        });
      },
      get: (name) => {
        const endpoint = this.#tables.endpoints.get(name);
        const device = hostDeviceName(this.#parts.config.instance, name);
        const { gatewayV4 = "", gatewayV6 = "" } = this.#node.network() ?? {};
        return endpoint && readEndpointSockets(endpoint, device, [gatewayV4, gatewayV6], this.#parts.clock);
      },
      description: "Sockets of an endpoint: what listens where, connections in trouble",
    });
    api.action({
      path: "/v1/ipcache",
      request: IpcacheUpdate,
      response: IpcacheUpdateResponse,
      bodyBytesMax: 64 << 20,
      handle: (update) => {
        this.#refuseOther(update.process, "change the ipcache");
        return this.#ipcache.apply(update);
      },
    });
    api.action({
      path: "/v1/conntrack:in-use",
      request: AddressesInUse,
      response: AddressesInUse,
      handle: ({ addresses }) => ({ addresses: addressesInUse(this.kernel, addresses) }),
      description: "Which of these addresses an endpoint has a connection with now",
    });
    api.action({
      method: "GET",
      path: "/v1/found",
      response: Found,
      handle: () => ({
        policies: this.#tables.policies.list(),
        prefixes: this.#ipcache.policyPrefixes(),
        left: this.#policies.left(),
        process: this.#tables.endpoints.epoch,
      }),
    });
    api.action({
      path: "/v1/sync",
      request: SyncRequest,
      response: SyncResponse,
      handle: ({ epoch }) => this.#sync(epoch),
    });
    api.action({
      method: "GET",
      path: "/v1/status",
      response: DatapathStatus,
      handle: () => ({
        ...this.#report.status(this.#synced),
        xdp: this.#xdp.mode,
        degraded: this.#usage.degraded(),
        hostFirewall: this.#hostFirewall(),
      }),
    });
    api.action({ method: "GET", path: "/v1/usage", response: Usage, handle: () => this.#usage.usage() });
    api.action({
      method: "GET",
      path: "/v1/probes",
      response: Probes,
      handle: () => probesReport(this.#prober, this.#parts.clock, this.#node.tunnelPort),
    });
    this.#serviceReport.mount(api);
    for (const name of DUMP_NAMES) {
      api.action({
        method: "GET",
        path: `/v1/maps/${name}`,
        response: MapDump,
        handle: () => this.#report.dump(name),
      });
    }
    api.stream({
      path: "/v1/events",
      message: EventBatch,
      source: ({ signal }) => {
        refuseReaders("events", this.#events.readers, READERS_MAX);
        return this.#events.read(signal);
      },
    });
    api.stream({
      path: "/v1/handles:new",
      message: HandleBatch,
      description: "Handles as they are taken",
      source: ({ signal }) => {
        refuseReaders("new handles", this.#newHandles.readers, HANDLE_READERS_MAX);
        return this.#newHandles.read(signal);
      },
    });
    api.metrics.gauge("weir_datapath_handles_untold", "New handles that the ring had no room to tell of")
      .collect(() => this.#newHandles.untold());
    this.#report.mountMetrics(api.metrics);
    this.#usage.mountMetrics(api.metrics);
    this.#troubles.mountMetrics(api.metrics);
  }

  #putNodeConfig(name: string, config: NodeConfig): NodeConfig {
    if (name !== "node") {
      throw new ProblemError("NAME_INVALID", {
        status: 422,
        detail: `Cannot configure node ${name}: there is one object, "node"`,
        found: name,
        expected: "node",
      });
    }
    const error = this.#retries.run("nodeconfig", name, () => {
      this.#node.apply(config, this.#hz);
      this.api.health.ok("node-config");
    });
    if (error !== undefined) {
      throw new ProblemError("NODE_CONFIG_FAILED", {
        status: 409,
        detail: error.error,
        action: "It is tried again",
      });
    }
    // A state of its own: without it the node's packets still flow.
    this.#retries.run(
      "socket-lb",
      name,
      () => this.#sockets.apply(config.socketLb !== false || config.proxy !== undefined),
    );
    this.#tables.nodeConfig.put(name, config);
    this.#applyProxy();
    this.#retries.run("xdp", name, () => this.#xdp.apply(this.#node.outer, config));
    return config;
  }

  /** Also when nothing was asked for: somebody may have taken an address of a handle, or the proxy's control group be another one. */
  #applyProxy(): void {
    const config = this.#tables.nodeConfig.get("node");
    if (config !== undefined) this.#retries.run("proxy", "node", () => this.#node.applyProxy(config));
  }

  #putEndpoint(name: string, given: DatapathEndpoint): DatapathEndpoint {
    const desired = DatapathEndpoint.create({ ...given, name, status: undefined });
    const before = this.#tables.endpoints.get(name);
    // A retry must not answer for a newer wish, so the work looks at what is stored.
    let value = DatapathEndpoint.create({ ...desired, status: before?.status });
    let refusal: ProblemError | undefined;
    const error = this.#retries.run("endpoint", name, () => {
      try {
        const status = this.#endpoints.apply(desired);
        status.policyRevision = this.#policyRevisions.get(desired.policy) ?? 0;
        value = { ...desired, status };
        this.#tables.endpoints.put(name, value);
      } catch (error) {
        if (!(error instanceof ProblemError) || error.status !== 422) throw error;
        refusal = error;
      }
    });
    if (refusal !== undefined) throw refusal;
    if (error !== undefined) {
      value = {
        ...desired,
        status: DatapathEndpointStatus.create({
          ...before?.status,
          ready: this.#endpoints.has(name) && !this.#endpoints.lost().includes(name),
          error,
        }),
      };
      this.#tables.endpoints.put(name, value);
    }
    return value;
  }

  #deleteEndpoint(name: string): boolean {
    this.#retries.cancel("endpoint", name);
    const known = this.#endpoints.remove(name);
    return this.#tables.endpoints.delete(name) !== undefined || known;
  }

  #hostFirewall(): HostFirewall | undefined {
    const slot = this.#endpoints.hostSlot;
    return slot === 0 ? undefined : HostFirewall.create({
      policy: this.#policies.nameOf(slot),
      devices: this.#node.outer.map(({ name }) => name),
      failsafes: this.#node.failsafes.rows(),
    });
  }

  #putPolicy(name: string, given: DatapathPolicy): DatapathPolicy {
    this.#refuseOther(given.process, `write policy ${name}`);
    const policy = { ...given, name, process: "" };
    const slot = this.#policies.put(policy, (to) => this.#endpoints.switchPolicy(name, to));
    this.#policyRevisions.set(name, policy.policyRevision);
    const value = DatapathPolicy.create({
      ...policy,
      status: DatapathPolicyStatus.create({
        policyRevision: policy.policyRevision,
        slot,
        entries: policy.entries.length,
        entriesMax: this.#policies.entriesMax,
      }),
    });
    this.#tables.policies.put(name, value);
    for (const endpoint of this.#tables.endpoints.list()) {
      if (endpoint.policy !== name || !endpoint.status?.ready) continue;
      const status = { ...endpoint.status, policyRevision: policy.policyRevision };
      this.#tables.endpoints.put(endpoint.name, { ...endpoint, status });
    }
    return value;
  }

  #deletePolicy(name: string): boolean {
    const user = this.#tables.endpoints.list().find((endpoint) => endpoint.policy === name);
    if (user !== undefined) {
      throw new ProblemError("POLICY_IN_USE", {
        status: 409,
        detail: `Cannot delete policy ${name}: endpoint ${user.name} has it`,
        found: user.name,
        expected: "no endpoint",
      });
    }
    this.#policyRevisions.delete(name);
    this.#tables.policies.delete(name);
    return this.#policies.delete(name);
  }

  #putRemote(name: string, given: RemoteNode): RemoteNode {
    const remote = { ...given, name, error: undefined };
    const error = this.#retries.run("remotenode", name, () => this.#node.putRemote(remote));
    const value = RemoteNode.create({ ...remote, error });
    this.#tables.remoteNodes.put(name, value);
    return value;
  }

  #deleteRemote(name: string): boolean {
    this.#retries.cancel("remotenode", name);
    this.#node.deleteRemote(name);
    return this.#tables.remoteNodes.delete(name) !== undefined;
  }

  /** Whoever means another process takes for given what this one was not told. @throws {ProblemError} DATAPATH_RESTARTED */
  #refuseOther(epoch: string, what: string): void {
    const own = this.#tables.endpoints.epoch;
    if (epoch === "" || epoch === own) return;
    throw new ProblemError("DATAPATH_RESTARTED", {
      status: 409,
      detail: `Cannot ${what}: another process was told what is desired`,
      found: `epoch ${epoch}`,
      expected: `epoch ${own}`,
      action: "Tell everything again, with the epoch of /v1/endpoints",
    });
  }

  #sync(epoch: string): SyncResponse {
    this.#refuseOther(epoch, "sweep");
    let swept = this.#endpoints.sweep();
    // Endpoints no longer name them, so what no policy took over can go.
    swept += this.#policies.sweep();
    swept += this.#services.sweep();
    swept += this.#sweepAffinity();
    for (const path of this.#attachments.leftovers()) if (unpin(path)) swept++;
    for (const route of this.#leftoverRoutes()) if (deleteRoute(this.#socket, route)) swept++;
    this.#applyProxy();
    this.#synced = true;
    this.kernel.finishTakeover();
    // Programs of another version, which count otherwise, are off the hooks now.
    this.#collector.collect();
    return { swept };
  }

  #sweepAffinity(): number {
    const { kernel } = this;
    return sweepAffinity({ affinity: kernel.map("weir_affinity"), ...kernel.serviceMaps });
  }

  #leftoverRoutes() {
    const addresses = new Set(
      this.#tables.endpoints.list().flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]).filter((text) => text !== "")
        .map((text) => hex(mapped(text))),
    );
    return this.#node.leftoverRoutes(addresses);
  }

  /** Attaches anew what somebody took away (a namespace that ended takes its device with it). */
  #repair(): void {
    for (const name of this.#endpoints.lost()) {
      const desired = this.#tables.endpoints.get(name);
      if (desired === undefined || this.#retries.get("endpoint", name) !== undefined) continue;
      this.api.log.warn("Device of an endpoint is gone", {
        endpoint: name,
        device: desired.status?.hostDevice,
      });
      this.#putEndpoint(name, desired);
    }
  }
}

/** @throws {ProblemError} TOO_MANY_READERS */
function refuseReaders(what: string, readers: number, readersMax: number): void {
  if (readers < readersMax) return;
  throw new ProblemError("TOO_MANY_READERS", {
    status: 503,
    detail: `Cannot stream ${what}: there are ${readersMax} readers`,
    found: readers,
    expected: `fewer than ${readersMax}`,
  });
}
