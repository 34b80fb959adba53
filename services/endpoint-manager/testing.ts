/**
 * Sources that tests write, and neighbours that hang, answer late, come back empty or older. @module
 */
import { FakeClock } from "@weir/common/testing/fake_clock";
import { isLocalIdentity, type Position, ProblemError } from "@weir/common";
import { DatapathEndpoint, DatapathPolicy, ServicesUpdateResponse } from "@weir/proto/datapath";
import type { Endpoint } from "@weir/proto/endpoint";
import { Identity, type IpcacheEntry, Node, type NodePool, type PoolRequest } from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import type { Backend, ServicePort } from "@weir/proto/loadbalancer";
import type { KubernetesNode, KubernetesPod, NodeEvent } from "@weir/proto/kubernetes";
import { type CidrIdentity, MapState } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { joinL7Proxies } from "./joined_l7_proxies.ts";
import type { EndpointManagerConfig } from "./config.ts";
import { EndpointManager, type EndpointManagerParts } from "./endpoint_manager.ts";
import type { EndpointStore, KeptEndpoint } from "./endpoint_store.ts";
import { holdersDigest } from "./identity_reconciler.ts";
import type { NameRecord, NameStore } from "./names/name_file.ts";
import type { NodeStore } from "./node_file.ts";
import type { NewestPolicySet, PolicySetStore } from "./policy_set_file.ts";
import type {
  ChangeListener,
  Datapath,
  Directory,
  FoundInDatapath,
  HeartbeatAnswer,
  Kubernetes,
  L7Proxy,
  Mirror,
  NamedMirror,
  PolicyAcknowledged,
  PolicyInForce,
  PolicySource,
  ServiceSource,
} from "./sources.ts";

/** A collection in memory whose mirrors hear of each change. */
export class ChangeTable<T> {
  readonly rows = new Map<string, T>();
  synced = true;
  /** What keeps the mirrors from being fresh. */
  error: Error | undefined;
  lastHeardMs = 0;
  epoch = "first";
  revision = 1;
  readonly #listeners = new Set<ChangeListener<T>>();

  put(name: string, row: T): void {
    const previous = this.rows.get(name);
    this.rows.set(name, row);
    this.revision++;
    for (const listener of this.#listeners) listener.onChange(name, row, previous);
  }

  delete(name: string): void {
    this.#remove(name, false);
  }

  /** Everything that exists was received. */
  sync(): void {
    this.synced = true;
    for (const listener of this.#listeners) listener.onSynced();
    this.beat();
  }

  /** The mirrors are told where they are. */
  beat(): void {
    for (const listener of this.#listeners) {
      listener.onPosition?.({ epoch: this.epoch, revision: this.revision });
    }
  }

  /** The database is another one, with these rows of before. */
  lose(keep: (name: string, row: T) => boolean = () => false): void {
    this.epoch += "'";
    for (const [name, row] of [...this.rows]) if (!keep(name, row)) this.#remove(name, true);
    this.beat();
  }

  /** A mirror, which is told of what is there first. */
  mirror(listener: ChangeListener<T>): NamedMirror<T> {
    this.#listeners.add(listener);
    const table = (): ChangeTable<T> => this;
    queueMicrotask(() => {
      for (const [name, row] of this.rows) listener.onChange(name, row, undefined);
      if (this.synced) listener.onSynced();
      if (this.synced) listener.onPosition?.({ epoch: this.epoch, revision: this.revision });
    });
    return {
      get synced() {
        return table().synced;
      },
      get error() {
        return table().error;
      },
      get lastHeardMs() {
        return table().lastHeardMs;
      },
      get position(): Position | undefined {
        return table().synced ? { epoch: table().epoch, revision: table().revision } : undefined;
      },
      setNames: () => {},
      knows: () => table().synced,
      values: () => this.rows.values(),
      get: (name) => this.rows.get(name),
      [Symbol.dispose]: () => void this.#listeners.delete(listener),
    };
  }

  #remove(name: string, lost: boolean): void {
    const previous = this.rows.get(name);
    if (!this.rows.delete(name)) return;
    this.revision++;
    for (const listener of this.#listeners) listener.onChange(name, undefined, previous, lost);
  }
}

/** Policies of a process of the datapath before. */
const LEFT = "slot:";
const isLeft = (name: string) => name.startsWith(LEFT);

/** Every neighbour of a node in memory, with a log of the calls. */
export class FakeNeighbours implements Directory, PolicySource, ServiceSource, Kubernetes, Datapath {
  readonly nodeTable = new ChangeTable<Node>();
  readonly ipcacheTable = new ChangeTable<IpcacheEntry>();
  readonly cidrTable = new ChangeTable<CidrIdentity>();
  readonly mapStateTable = new ChangeTable<MapState>();
  readonly portTable = new ChangeTable<ServicePort>();
  readonly backendTable = new ChangeTable<Backend>();
  readonly podTable = new ChangeTable<KubernetesPod>();
  readonly kubernetesNodeTable = new ChangeTable<KubernetesNode>();
  readonly datapathTable = new ChangeTable<DatapathEndpoint>();
  /** Of the process that runs now. */
  datapathEpoch: string = this.datapathTable.epoch;
  readonly calls: string[] = [];
  readonly acknowledged: PolicyInForce[] = [];
  /** What it answers to that. */
  policySet: NewestPolicySet = { policyRevision: 0, policySet: "" };
  /** How long the engine need not hear again, in seconds. */
  repeatS: number | undefined;
  /** The kernel: identity and policy of each endpoint. */
  readonly kernel = new Map<string, { identity: number; policy: string }>();
  /** Most entries of one policy; one with more is refused, before anything is written. */
  policyEntriesMax = Infinity;
  /** The kernel's policies. */
  readonly kernelPolicies = new Map<string, DatapathPolicy>();
  /** Told after each change of the kernel. */
  onKernel = () => {};
  /** The kernel's ipcache. */
  readonly kernelIpcache = new Map<string, number>();
  /** Prefixes that the kernel's ipcache has no room for. */
  readonly roomless = new Set<string>();
  /** Calls that begin so fail. */
  fail: string | undefined;
  /** What they fail with, if not with an error of their own. */
  failure: Error | undefined;
  /** Calls that begin so are never answered. */
  readonly hang = new Set<string>();
  /** What a claim of a number answers that is another's. */
  readonly taken = new Set<number>();
  /** The policy engine writes the map states of new identities. */
  resolves = true;
  #numbers = new Map<string, number>();
  #nextNumber = 256;
  #heldBy = new Map<string, number>();
  #onProcess = () => {};

  /** The directory has lost everything. */
  loseDirectory(): void {
    this.#numbers.clear();
    this.#heldBy.clear();
    this.ipcacheTable.lose();
    this.nodeTable.lose();
  }

  /** What the directory knows of this node's endpoints. */
  get heldNumbers(): Map<string, number> {
    return this.#heldBy;
  }

  /** Another process of the datapath is there; the node does not know it yet. */
  restartDatapath(): void {
    this.datapathEpoch += "'";
  }
  /** That process knows no policy by name, although the kernel has them. */
  forgetPolicies(): void {
    for (const [name, policy] of [...this.kernelPolicies]) {
      if (isLeft(name)) continue;
      this.kernelPolicies.delete(name);
      this.kernelPolicies.set(LEFT + name, { ...policy, name: LEFT + name });
    }
    for (const [name, endpoint] of this.kernel) {
      if (!isLeft(endpoint.policy)) this.kernel.set(name, { ...endpoint, policy: LEFT + endpoint.policy });
    }
  }
  /** The node hears of the datapath's process. */
  reconnect(): void {
    this.datapathTable.epoch = this.datapathEpoch;
    this.#onProcess();
  }

  /** The calls since the last time. */
  take(): string[] {
    return this.calls.splice(0);
  }

  async allocate(labels: readonly string[], holder: string): Promise<Identity> {
    await this.#call(`allocate ${holder}`);
    return this.#identityOf(labels, holder);
  }
  claim: Directory["claim"] = async (claims) => {
    await this.#call(`claim ${claims.map(({ holder, number }) => `${holder}=${number}`).join(" ")}`);
    return claims.map(({ holder, number, labels }) => {
      const key = labels.join(";");
      if (!this.#numbers.has(key) && !this.taken.has(number)) {
        this.#numbers.set(key, number);
        this.#nextNumber = Math.max(this.#nextNumber, number + 1);
      }
      return { holder, identity: this.#identityOf(labels, holder) };
    });
  };
  async release(holder: string): Promise<void> {
    await this.#call(`release ${holder}`);
    this.#heldBy.delete(holder);
  }
  async holders(): Promise<Map<string, number>> {
    await this.#call("holders");
    return new Map(this.#heldBy);
  }
  /** Blocks of named pools that a node gets for what it asks. */
  poolBlocks: (requests: readonly Init<PoolRequest>[]) => Init<NodePool>[] = () => [];
  putNode: Directory["putNode"] = async (node) => {
    await this.#call("putNode");
    const full = Node.create({
      ...node,
      podCidrV4: node.podCidrV4 || "10.0.1.0/24",
      podCidrV6: node.podCidrV6 || "fd00:1::/112",
      pools: this.poolBlocks(node.requestedPools ?? []),
    });
    this.nodeTable.put(full.name, full);
    return full;
  };
  async heartbeat(): Promise<HeartbeatAnswer> {
    await this.#call("heartbeat");
    return {
      known: this.nodeTable.rows.has("node-1"),
      holdersDigest: holdersDigest("node-1", this.#heldBy),
      epoch: this.nodeTable.epoch,
    };
  }
  announce: Directory["announce"] = async (upserts, deletes) => {
    await this.#call(
      `announce${upserts.map((e) => ` ${e.prefix}=${e.identity}`).join("")}${
        deletes.map((p) => ` -${p}`).join("")
      }`,
    );
    for (const entry of upserts) this.ipcacheTable.put(entry.prefix, structuredClone(entry));
    for (const prefix of deletes) this.ipcacheTable.delete(prefix);
    return new Map();
  };
  nodes = (l: ChangeListener<Node>): Mirror<Node> => this.nodeTable.mirror(l);
  ipcache = (l: ChangeListener<IpcacheEntry>): Mirror<IpcacheEntry> => this.ipcacheTable.mirror(l);
  cidrs = (l: ChangeListener<CidrIdentity>): Mirror<CidrIdentity> => this.cidrTable.mirror(l);
  mapStates = (l: ChangeListener<MapState>): NamedMirror<MapState> => this.mapStateTable.mirror(l);
  async acknowledge(inForce: PolicyInForce): Promise<PolicyAcknowledged> {
    await this.#call("acknowledge", false);
    this.acknowledged.push(inForce);
    return { ...this.policySet, repeatS: this.repeatS };
  }
  servicePorts = (l: ChangeListener<ServicePort>): Mirror<ServicePort> => this.portTable.mirror(l);
  backends = (l: ChangeListener<Backend>): Mirror<Backend> => this.backendTable.mirror(l);

  pods = (l: ChangeListener<KubernetesPod>): Mirror<KubernetesPod> => this.podTable.mirror(l);
  node = (l: ChangeListener<KubernetesNode>): Mirror<KubernetesNode> => this.kubernetesNodeTable.mirror(l);

  readonly told: Omit<Init<NodeEvent>, "node">[] = [];
  tell = (event: Omit<Init<NodeEvent>, "node">): Promise<void> => {
    this.told.push(event);
    return Promise.resolve();
  };

  putNodeConfig = (): Promise<void> => this.#call("putNodeConfig");
  putEndpoint: Datapath["putEndpoint"] = async (endpoint) => {
    await this.#call(`putEndpoint ${endpoint.name} ${endpoint.identity} ${endpoint.policy}`);
    this.kernel.set(endpoint.name!, { identity: endpoint.identity!, policy: endpoint.policy! });
    const given = DatapathEndpoint.create({ ...endpoint, status: { ready: true, ifindex: 7 } });
    this.datapathTable.put(given.name, given);
    this.onKernel();
    return given;
  };
  async deleteEndpoint(name: string): Promise<void> {
    await this.#call(`deleteEndpoint ${name}`);
    this.kernel.delete(name);
    this.datapathTable.delete(name);
  }
  putPolicy: Datapath["putPolicy"] = async (policy) => {
    this.#refuseOther(policy.process);
    await this.#call(`putPolicy ${policy.name}`);
    if ((policy.entries?.length ?? 0) > this.policyEntriesMax) {
      throw new ProblemError("POLICY_MAP_FULL", {
        status: 507,
        detail: `Cannot write policy ${policy.name}`,
      });
    }
    const given = DatapathPolicy.create({ ...policy, process: "" });
    this.kernelPolicies.set(given.name, given);
    this.onKernel();
    return given;
  };
  async deletePolicy(name: string): Promise<void> {
    await this.#call(`deletePolicy ${name}`);
    this.kernelPolicies.delete(name);
  }
  /** Addresses that connections use. */
  readonly used = new Set<string>();
  inUse: Datapath["inUse"] = async (addresses) => {
    await this.#call("inUse", false);
    return new Set(addresses.filter((address) => this.used.has(address)));
  };
  updateIpcache: Datapath["updateIpcache"] = async (update) => {
    const { replace, process, ofPolicies } = update;
    const isOthers = (prefix: string | undefined) =>
      ofPolicies && this.kernelIpcache.has(prefix!) && !isLocalIdentity(this.kernelIpcache.get(prefix!)!);
    const upserts = (update.upserts ?? []).filter(({ prefix }) => !isOthers(prefix));
    const deletes = (update.deletes ?? []).filter((prefix) => !isOthers(prefix));
    this.#refuseOther(process);
    await this.#call(`updateIpcache${replace ? " replace" : ""} +${upserts.length} -${deletes.length}`);
    const named = new Set(upserts.map(({ prefix }) => prefix));
    const gone = replace ? [...this.kernelIpcache.keys()].filter((prefix) => !named.has(prefix)) : [];
    for (const { prefix, identity } of upserts) {
      if (this.roomless.has(prefix!)) this.kernelIpcache.delete(prefix!);
      else this.kernelIpcache.set(prefix!, identity!);
      this.onKernel();
    }
    for (const prefix of [...deletes, ...gone]) {
      this.kernelIpcache.delete(prefix);
      this.onKernel();
    }
    return [...this.roomless];
  };
  async found(): Promise<FoundInDatapath> {
    await this.#call("found", false);
    return {
      policies: structuredClone([...this.kernelPolicies.values()].filter(({ name }) => !isLeft(name))),
      left: this.#left(),
      process: this.datapathEpoch,
      prefixes: [...this.kernelIpcache].map(([prefix, identity]) => ({ prefix, identity }))
        .filter(({ identity }) => isLocalIdentity(identity)),
    };
  }
  putRemoteNode: Datapath["putRemoteNode"] = (node) => this.#call(`putRemoteNode ${node.name}`);
  deleteRemoteNode = (name: string): Promise<void> => this.#call(`deleteRemoteNode ${name}`);
  updateServices: Datapath["updateServices"] = async (update) => {
    const { replace, services = [], backends = [] } = update;
    await this.#call(`updateServices${replace ? " replace" : ""} +${services.length} +${backends.length}`);
    return ServicesUpdateResponse.create({ services: services.length, backends: backends.length });
  };
  sync: Datapath["sync"] = async (epoch) => {
    this.#refuseOther(epoch);
    await this.#call("sync");
  };
  endpoints(onProcess: () => void): Mirror<DatapathEndpoint> {
    this.#onProcess = onProcess;
    return this.datapathTable.mirror({ onChange: () => {}, onSynced: onProcess });
  }

  #refuseOther(epoch: string | undefined): void {
    if ((epoch ?? "") === "" || epoch === this.datapathEpoch) return;
    throw new ProblemError("DATAPATH_RESTARTED", { status: 409, detail: "Another process was told" });
  }

  #left(): FoundInDatapath["left"] {
    return [...this.kernelPolicies.values()].filter(({ name }) => isLeft(name)).map((policy) => ({
      policy: { ...structuredClone(policy), name: `left:${policy.name}` },
      endpoints: [...this.kernel].filter(([, { policy: of }]) => of === policy.name)
        .map(([name]) => this.datapathTable.rows.get(name)!.id),
    }));
  }

  #call(text: string, log = true): Promise<void> {
    if ([...this.hang].some((prefix) => text.startsWith(prefix))) return new Promise(() => {});
    if (this.fail && text.startsWith(this.fail)) {
      return Promise.reject(this.failure ?? new Error(`${text} failed`));
    }
    if (log) this.calls.push(text);
    return Promise.resolve();
  }

  #identityOf(labels: readonly string[], holder: string): Identity {
    const key = labels.join(";");
    const number = this.#numbers.get(key) ?? this.#nextNumber++;
    this.#numbers.set(key, number);
    this.#heldBy.set(holder, number);
    const revision = this.mapStateTable.rows.get(`${number}`)?.policyRevision;
    if (this.resolves && revision === undefined) {
      this.mapStateTable.put(`${number}`, MapState.create({ identity: number, policyRevision: 1 }));
    }
    return Identity.create({ number, labels: [...labels] });
  }
}

/** An L7 proxy in memory, with a log of the calls. */
export class FakeL7Proxy implements L7Proxy {
  readonly policyTable = new ChangeTable<ProxyPolicy>();
  readonly endpointTable = new ChangeTable<ProxyEndpoint>();
  /** Where it writes its calls down: beside the others', so that their order is seen. */
  readonly #calls: string[];
  /** Calls fail with this. */
  failure: Error | undefined;
  /** Calls are never answered. */
  hangs = false;

  constructor(calls: string[]) {
    this.#calls = calls;
  }

  policies = (l: ChangeListener<ProxyPolicy>): Mirror<ProxyPolicy> => this.policyTable.mirror(l);
  endpoints = (l: ChangeListener<ProxyEndpoint>): Mirror<ProxyEndpoint> => this.endpointTable.mirror(l);
  putPolicy: L7Proxy["putPolicy"] = async (policy) => {
    await this.#call(`policy ${policy.name}`);
    const given = ProxyPolicy.create({ ...policy, process: "" });
    this.policyTable.put(given.name, given);
    return given;
  };
  async deletePolicy(name: string): Promise<void> {
    await this.#call(`-policy ${name}`);
    this.policyTable.delete(name);
  }
  putEndpoint: L7Proxy["putEndpoint"] = async (endpoint) => {
    await this.#call(`endpoint ${endpoint.name}`);
    this.endpointTable.put(endpoint.name!, ProxyEndpoint.create(endpoint));
  };
  async deleteEndpoint(name: string): Promise<void> {
    await this.#call(`-endpoint ${name}`);
    this.endpointTable.delete(name);
  }

  /** Another process of it, which knows nothing. */
  restartEmpty(): void {
    this.policyTable.lose();
    this.endpointTable.lose();
  }

  #call(text: string): Promise<void> {
    if (this.hangs) return new Promise(() => {});
    if (this.failure) return Promise.reject(this.failure);
    this.#calls.push(`proxy ${text}`);
    return Promise.resolve();
  }
}

/** A disk in memory, which can be full. */
export class FakeDisk implements EndpointStore {
  readonly files = new Map<string, KeptEndpoint>();
  kept: Node | undefined;
  /** Whatever writes fails with this. */
  full: Error | undefined;
  /** The file of names. */
  names: NameRecord[] = [];
  readonly nameStore: NameStore = {
    bytes: 0,
    load: () => Promise.resolve({ records: [...this.names], broken: "" }),
    add: (records) => this.#write(() => void this.names.push(...records)),
    replace: (records) => this.#write(() => this.names = [...records]),
  };
  policySet: NewestPolicySet | undefined;
  /** The file of its newest policy set. */
  readonly policySetStore: PolicySetStore = {
    load: () => Promise.resolve(this.policySet),
    save: (newest) => this.#write(() => this.policySet = newest),
  };
  lastGiven: string[] = [];
  /** The node's file. */
  readonly nodeStore: NodeStore = {
    load: () => Promise.resolve(structuredClone(this.kept)),
    save: (node) => this.#write(() => this.kept = structuredClone(node)),
    loadLastGiven: () => Promise.resolve([...this.lastGiven]),
    saveLastGiven: (addresses) => {
      this.lastGiven = [...addresses];
      return Promise.resolve();
    },
  };

  load(): Promise<{ endpoints: KeptEndpoint[]; broken: [] }> {
    return Promise.resolve({ endpoints: structuredClone([...this.files.values()]), broken: [] });
  }
  save(name: string, current: () => Endpoint | undefined): Promise<void> {
    return this.#write(() => {
      const endpoint = current();
      if (endpoint) this.files.set(name, { endpoint: structuredClone(endpoint), deleting: false });
    });
  }
  markDeleting(name: string): Promise<void> {
    return this.#write(() => {
      const file = this.files.get(name);
      if (file) file.deleting = true;
    });
  }
  remove(name: string): Promise<void> {
    return this.#write(() => void this.files.delete(name));
  }

  async #write(action: () => void): Promise<void> {
    await Promise.resolve();
    if (this.full) throw this.full;
    action();
  }
}

/** A node's configuration for tests. */
export const TEST_CONFIG: EndpointManagerConfig = {
  nodeName: "node-1",
  instance: "test",
  cluster: "default",
  nodeIpv4: "192.0.2.1",
  nodeIpv6: "",
  routingMode: "TUNNEL",
  mtu: 1500,
  devices: [],
  tunnelPort: 0,
  masquerade: false,
  masqueradeExceptions: [],
  xdp: false,
  noBackendDrop: false,
  socketLb: true,
  vlanAllow: [],
  zone: "",
};

/** What a {@link TestNode} has beside what every node has. */
export interface TestNodeOptions extends Pick<EndpointManagerConfig, "ipam"> {
  services?: boolean;
  kubernetes?: boolean;
  /** A proxy; `2`: of two processes. */
  proxy?: boolean | 2;
}

/** A node with its neighbours, its disk and its clock. */
export class TestNode implements AsyncDisposable {
  readonly neighbours = new FakeNeighbours();
  readonly proxy = new FakeL7Proxy(this.neighbours.calls);
  readonly secondProxy = new FakeL7Proxy(this.neighbours.calls);
  readonly disk = new FakeDisk();
  readonly clock = new FakeClock();
  /** Of the process that is made next. */
  readonly config: EndpointManagerConfig;
  readonly #options: TestNodeOptions;
  /** Of the next process: listens on health check node ports. */
  healthCheckListen?: EndpointManagerParts["healthCheckListen"];
  manager: EndpointManager;

  constructor(options: TestNodeOptions = {}) {
    this.#options = options;
    this.config = { ...TEST_CONFIG, ipam: options.ipam };
    this.manager = this.#make();
  }

  async start(): Promise<this> {
    await this.manager.start();
    await this.settle();
    return this;
  }

  /** Another process. Whatever the one before was doing ends where it was. */
  async restart(): Promise<EndpointManager> {
    await Promise.race([this.manager.stop(), this.turns()]);
    this.manager = this.#make();
    await this.manager.start();
    await this.settle();
    return this.manager;
  }

  /** Everything that can be done without the clock is done. @throws when it never ends */
  async settle(): Promise<void> {
    let idle = false;
    void this.manager.idle().then(() => idle = true);
    await this.turns(2_000);
    if (!idle && this.neighbours.hang.size === 0) throw new Error("The node does not come to rest");
  }

  /** Time passes, and what follows from it is done. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 500) {
      await this.clock.advance(Math.min(left, 500));
      await this.turns(50);
    }
  }

  async turns(count = 400): Promise<void> {
    for (let i = 0; i < count; i++) await Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.neighbours.hang.clear();
    await Promise.race([this.manager.stop(), this.turns()]);
  }

  #make(): EndpointManager {
    const { neighbours, disk, clock } = this, { services, kubernetes, proxy } = this.#options;
    return new EndpointManager({
      config: { ...this.config },
      services: services ? neighbours : undefined,
      kubernetes: kubernetes ? neighbours : undefined,
      directory: neighbours,
      policy: neighbours,
      datapath: neighbours,
      proxy: proxy ? joinL7Proxies(proxy === 2 ? [this.proxy, this.secondProxy] : [this.proxy]) : undefined,
      healthCheckListen: this.healthCheckListen,
      store: disk,
      nodeStore: disk.nodeStore,
      nameStore: disk.nameStore,
      policySetStore: disk.policySetStore,
      clock,
    });
  }
}
