/**
 * What the endpoint manager asks of the other services. `peers.ts` implements these over HTTP; tests join the real
 * services in one process.
 * @module
 */
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
import type { CidrIdentity, MapState } from "@weir/proto/policy";

/** A local copy of a collection that is kept in sync. */
export interface Mirror<T> {
  /** True once everything that existed was received; stays true while the service is away. */
  readonly synced: boolean;
  values(): Iterable<T>;
  get(name: string): T | undefined;
}

/** Called when a mirror changed, and when it was synced (again). */
export interface MirrorListener {
  onChange(): void;
}

/** Told of each change of a mirror, in order. */
export interface ChangeListener<T> {
  /** `value` is undefined when the object is gone, `previous` when it is new. */
  onChange(name: string, value: T | undefined, previous: T | undefined): void;
  /** Once, when everything that existed was received. */
  onSynced(): void;
}

/** Cluster scope: identities, nodes, ipcache. */
export interface AllocatorPort {
  allocate(labels: readonly string[], holder: string): Promise<Identity>;
  release(holder: string): Promise<void>;
  putNode(node: Init<Node>): Promise<Node>;
  putIpcache(entry: Init<IpcacheEntry>): Promise<void>;
  /** Repeatable. */
  deleteIpcache(prefix: string): Promise<void>;
  nodes(listener: MirrorListener): Mirror<Node> & Disposable;
  ipcache(listener: MirrorListener): Mirror<IpcacheEntry> & Disposable;
}

/** Cluster scope: policy by identity. */
export interface PolicyPort {
  cidrs(listener: MirrorListener): Mirror<CidrIdentity> & Disposable;
  /** The map state of one identity. */
  mapState(identity: number, listener: MirrorListener): Mirror<MapState> & Disposable;
}

/** Cluster scope: services and their backends. */
export interface LoadBalancerPort {
  servicePorts(listener: ChangeListener<ServicePort>): Mirror<ServicePort> & Disposable;
  backends(listener: ChangeListener<Backend>): Mirror<Backend> & Disposable;
}

/** This node's datapath. */
export interface DatapathPort {
  putNodeConfig(config: Init<NodeConfig>): Promise<void>;
  putEndpoint(endpoint: Init<DatapathEndpoint>): Promise<DatapathEndpoint>;
  /** Repeatable. */
  deleteEndpoint(name: string): Promise<void>;
  putPolicy(policy: Init<DatapathPolicy>): Promise<DatapathPolicy>;
  /** Repeatable. */
  deletePolicy(name: string): Promise<void>;
  updateIpcache(update: Init<IpcacheUpdate>): Promise<void>;
  putRemoteNode(node: Init<RemoteNode>): Promise<void>;
  /** Repeatable. */
  deleteRemoteNode(name: string): Promise<void>;
  updateServices(update: Init<ServicesUpdate>): Promise<ServicesUpdateResponse>;
  sync(): Promise<void>;
  /** Follows the datapath: `onConnected` each time it is there anew and must be told everything again. */
  follow(onConnected: () => void): Disposable;
}
