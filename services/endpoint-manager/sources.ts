/**
 * What the endpoint manager asks of the other services, and what it hears of them. `http_sources.ts` gives these over HTTP; tests
 * and the simulation join sources in one process.
 * @module
 */
import type { NewestPolicySet } from "./policy_set_file.ts";
import type { Position } from "@weir/common";
import type { Init } from "@weir/proto";
import type {
  DatapathEndpoint,
  DatapathPolicy,
  IpcacheUpdate,
  NodeConfig,
  RemoteNode,
  ServicesUpdate,
  ServicesUpdateResponse,
} from "@weir/proto/datapath";
import type { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import type { Backend, ServicePort } from "@weir/proto/loadbalancer";
import type { KubernetesNode, KubernetesPod, NodeEvent } from "@weir/proto/kubernetes";
import type { CidrIdentity, MapState } from "@weir/proto/policy";
import type { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";

/** A local copy of a collection that is kept in sync. */
export interface Mirror<T> extends Disposable {
  /** True once everything that existed was received; stays true while the service is away. */
  readonly synced: boolean;
  /** What keeps the copy from being fresh; undefined while it is. */
  readonly error: Error | undefined;
  /** When something was heard last, milliseconds of the clock's `nowMs`; 0: never, or not known. */
  readonly lastHeardMs: number;
  /** Where the copy is; undefined before everything was received. */
  readonly position: Position | undefined;
  values(): Iterable<T>;
  get(name: string): T | undefined;
}

/** A mirror of some objects of a collection by name. */
export interface NamedMirror<T> extends Mirror<T> {
  /** From now on these; what is there of them already stays. */
  setNames(names: ReadonlySet<string>): void;
  /** True when what there is of this name was told: then, and only then, nothing means that there is none. */
  knows(name: string): boolean;
}

/** Told of each change of a mirror, in order. */
export interface ChangeListener<T> {
  /**
   * `value` is undefined when the object is gone, `previous` when it is new. `lost`: it is not in a list of another epoch,
   * so nobody may have deleted it: a database was lost, or is older than what was known.
   */
  onChange(name: string, value: T | undefined, previous: T | undefined, lost?: boolean): void;
  /** When everything that existed was received, for the first time. */
  onSynced(): void;
  /** Everything up to here was told. Again and again, also when nothing has changed. */
  onPosition?(position: Position): void;
}

/** A running endpoint's number and the labels that it stands for. */
export interface IdentityClaim {
  holder: string;
  number: number;
  labels: readonly string[];
}
/** The answer to a claim: the identity to use from now on, or why there is none (yet). */
export interface ClaimAnswer {
  holder: string;
  identity?: Identity;
  error?: string;
}
/** What the directory says when the node says that it is alive. */
export interface HeartbeatAnswer {
  /** False: it does not know the node (any more). */
  known: boolean;
  /** Digest of what the node holds there, as `holdersDigest` has it. */
  holdersDigest: string;
  /** Of the directory's tables. */
  epoch: string;
}

/** Cluster scope: identities, nodes, ipcache. The identity allocator's side of this node. */
export interface Directory {
  allocate(labels: readonly string[], holder: string): Promise<Identity>;
  /** One answer per claim. Claims before allocations: a claimed number is never given to others. */
  claim(claims: readonly IdentityClaim[]): Promise<ClaimAnswer[]>;
  release(holder: string): Promise<void>;
  /** Holders of this node with their numbers. */
  holders(): Promise<Map<string, number>>;
  putNode(node: Init<Node>): Promise<Node>;
  /** The node is alive. */
  heartbeat(): Promise<HeartbeatAnswer>;
  /**
   * Many entries of this node at once, and prefixes that it has no more. Repeatable.
   * @returns why, by prefix, some were refused; the others are done
   */
  announce(upserts: readonly IpcacheEntry[], deletes: readonly string[]): Promise<Map<string, string>>;
  nodes(listener: ChangeListener<Node>): Mirror<Node>;
  ipcache(listener: ChangeListener<IpcacheEntry>): Mirror<IpcacheEntry>;
}

/** What of the policies is in force on this node. */
export interface PolicyInForce extends Position {
  /** Where prefixes come from another replica than map states: how far they are. The position is of the map states alone then. */
  prefixes?: Position;
  sinceUnixS: number;
  /** Why something newer is not in force; `""`. */
  error: string;
  endpoints: number;
  /** The newest policy set that was ever in force here. */
  newestPolicyRevision: number;
}

/** What the policy engine answers to {@link PolicyInForce}: which policy set that is, as far as it knows. */
export interface PolicyAcknowledged extends NewestPolicySet {
  /** So long it need not be said again while nothing changes, in seconds; absent or 0: an older engine. */
  readonly repeatS?: number;
}

/** Cluster scope: policy by identity. The policy engine. */
export interface PolicySource {
  cidrs(listener: ChangeListener<CidrIdentity>): Mirror<CidrIdentity>;
  /** Map states, named by identity. */
  mapStates(listener: ChangeListener<MapState>): NamedMirror<MapState>;
  /** Says what is in force here. Repeatable. */
  acknowledge(inForce: PolicyInForce): Promise<PolicyAcknowledged>;
}

/** Cluster scope: services and their backends. The load balancer. */
export interface ServiceSource {
  servicePorts(listener: ChangeListener<ServicePort>): Mirror<ServicePort>;
  backends(listener: ChangeListener<Backend>): Mirror<Backend>;
}

/** Cluster scope: what of Kubernetes' objects concerns this node. The service `kubernetes`. */
export interface Kubernetes {
  /** This node's pods. */
  pods(listener: ChangeListener<KubernetesPod>): Mirror<KubernetesPod>;
  /** This node. */
  node(listener: ChangeListener<KubernetesNode>): Mirror<KubernetesNode>;
  /** Says something to people who look at a pod or a Service. */
  tell(event: Omit<Init<NodeEvent>, "node">): Promise<void>;
}

/** What a datapath has of an earlier process of the endpoint manager. */
export interface FoundInDatapath {
  policies: DatapathPolicy[];
  /** Policies that an earlier process of it left too, and the numbers of the endpoints that have them. */
  left: { policy?: DatapathPolicy; endpoints: number[] }[];
  /** Epoch of the process that says so. */
  process: string;
  /** Prefixes of policies in the kernel's ipcache. */
  prefixes: { prefix: string; identity: number }[];
}

/** This node's L7 proxy. */
export interface L7Proxy {
  policies(listener: ChangeListener<ProxyPolicy>): Mirror<ProxyPolicy>;
  endpoints(listener: ChangeListener<ProxyEndpoint>): Mirror<ProxyEndpoint>;
  putPolicy(policy: Init<ProxyPolicy>): Promise<ProxyPolicy>;
  /** Repeatable. */
  deletePolicy(name: string): Promise<void>;
  putEndpoint(endpoint: Init<ProxyEndpoint>): Promise<void>;
  /** Repeatable. */
  deleteEndpoint(name: string): Promise<void>;
}

/** This node's datapath. */
export interface Datapath {
  found(): Promise<FoundInDatapath>;
  putNodeConfig(config: Init<NodeConfig>): Promise<void>;
  putEndpoint(endpoint: Init<DatapathEndpoint>): Promise<DatapathEndpoint>;
  /** Repeatable. */
  deleteEndpoint(name: string): Promise<void>;
  putPolicy(policy: Init<DatapathPolicy>): Promise<DatapathPolicy>;
  /** Repeatable. */
  deletePolicy(name: string): Promise<void>;
  /** @returns prefixes of policies that have no room now; undefined: some have not, and which is not known */
  updateIpcache(update: Init<IpcacheUpdate>): Promise<readonly string[] | undefined>;
  /** Which of these addresses a connection of an endpoint uses now. */
  inUse(addresses: readonly string[]): Promise<ReadonlySet<string>>;
  putRemoteNode(node: Init<RemoteNode>): Promise<void>;
  /** Repeatable. */
  deleteRemoteNode(name: string): Promise<void>;
  updateServices(update: Init<ServicesUpdate>): Promise<ServicesUpdateResponse>;
  /** Everything was told to the process of this epoch, which sweeps what was not. Another one refuses. */
  sync(epoch: string): Promise<void>;
  /** Its endpoints as it has them. `onProcess` for each process of it, the first too: it must be told everything. */
  endpoints(onProcess: () => void): Mirror<DatapathEndpoint>;
}
