/**
 * The sources over HTTP: the identity allocator, the policy engine, the load balancer and this node's datapath.
 * @module
 */
import { type CollectionClient, Reflector, type ReflectorOptions, type WeirClient } from "@weir/client";
import type { Logger, Position } from "@weir/common";
import {
  AddressesInUse,
  DatapathEndpoint,
  DatapathPolicy,
  Found,
  IpcacheUpdate,
  IpcacheUpdateResponse,
  NodeConfig,
  RemoteNode,
  ServicesUpdate,
  ServicesUpdateResponse,
  SyncRequest,
  SyncResponse,
} from "@weir/proto/datapath";
import {
  AllocateRequest,
  AllocateResponse,
  ClaimRequest,
  ClaimResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  Holder,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
  ReleaseRequest,
  ReleaseResponse,
} from "@weir/proto/identity";
import { KubernetesNode, KubernetesPod, NodeEvent, NodeEventResponse } from "@weir/proto/kubernetes";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { CidrIdentity, MapState, NodePolicy } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import type {
  ChangeListener,
  Datapath,
  Directory,
  Kubernetes,
  L7Proxy,
  NamedMirror,
  PolicySource,
  ServiceSource,
} from "./sources.ts";

/** A mirror that a reflector keeps. */
class ReflectedMirror<T> implements NamedMirror<T> {
  readonly #reflector: Reflector<T>;

  constructor(
    collection: CollectionClient<T>,
    listener: ChangeListener<T>,
    options: Pick<ReflectorOptions<T>, "names" | "query" | "log"> = {},
  ) {
    this.#reflector = new Reflector(collection, {
      ...options,
      onChange: (name, value, previous, lost) => listener.onChange(name, value, previous, lost),
      onSynced: () => listener.onSynced(),
      onPosition: (position) => listener.onPosition?.(position),
    }).start();
  }

  get synced(): boolean {
    return this.#reflector.synced;
  }
  get error(): Error | undefined {
    return this.#reflector.error;
  }
  get lastHeardMs(): number {
    return this.#reflector.lastHeardMs;
  }
  get position(): Position | undefined {
    const { epoch, revision, synced } = this.#reflector;
    return synced ? { epoch, revision } : undefined;
  }
  values(): Iterable<T> {
    return this.#reflector.list();
  }
  get(name: string): T | undefined {
    return this.#reflector.get(name);
  }
  setNames(names: ReadonlySet<string>): void {
    this.#reflector.setNames(names);
  }
  knows(name: string): boolean {
    return this.#reflector.knows(name);
  }
  [Symbol.dispose](): void {
    void this.#reflector.stop();
  }
}

/** The identity allocator for the node `nodeName`. */
export function httpDirectory(client: WeirClient, nodeName: string, log?: Logger): Directory {
  const nodes = client.collection("nodes", Node), ipcache = client.collection("ipcache", IpcacheEntry);
  const holders = client.collection("holders", Holder);
  /** Newest epoch of its tables: it must know whether the caller has seen them after they were lost. */
  let epoch = "";
  return {
    async allocate(labels, holder) {
      const { identity } = await client.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels: [...labels], node: nodeName, holder, epoch } },
        response: AllocateResponse,
      });
      if (!identity || identity.number === 0) {
        throw new Error(`Cannot allocate an identity for ${holder}: none came back`);
      }
      return identity;
    },
    async claim(claims) {
      const value = {
        node: nodeName,
        claims: claims.map((claim) => ({ ...claim, labels: [...claim.labels] })),
        epoch,
      };
      const { results } = await client.call("/v1/identities:claim", {
        request: { message: ClaimRequest, value },
        response: ClaimResponse,
      });
      return results.map(({ holder, identity, code, detail }) => ({
        holder,
        identity,
        error: detail || code,
      }));
    },
    async release(holder) {
      await client.call("/v1/identities:release", {
        request: { message: ReleaseRequest, value: { node: nodeName, holder } },
        response: ReleaseResponse,
      });
    },
    async holders() {
      const { items } = await holders.list({ node: nodeName });
      return new Map(items.map(({ holder, number }) => [holder, number]));
    },
    putNode: (node) => nodes.put(nodeName, node),
    async heartbeat() {
      const answer = await client.call("/v1/nodes:heartbeat", {
        request: { message: HeartbeatRequest, value: { node: nodeName, epoch } },
        response: HeartbeatResponse,
      });
      epoch = answer.epoch;
      return answer;
    },
    async announce(upserts, deletes) {
      const { refused } = await client.call("/v1/ipcache:update", {
        request: {
          message: IpcacheBatch,
          value: { node: nodeName, upserts: [...upserts], deletes: [...deletes] },
        },
        response: IpcacheBatchResponse,
      });
      return new Map(refused.map(({ prefix, code, detail }) => [prefix, detail || code]));
    },
    nodes: (listener) => new ReflectedMirror(nodes, listener, { log }),
    ipcache: (listener) => new ReflectedMirror(ipcache, listener, { log }),
  };
}

/** The policy engine for the node `nodeName`. */
export function httpPolicySource(client: WeirClient, nodeName: string, log?: Logger): PolicySource {
  const cidrs = client.collection("cidridentities", CidrIdentity),
    mapStates = client.collection("mapstates", MapState),
    inForce = client.collection("nodepolicies", NodePolicy);
  return {
    cidrs: (listener) => new ReflectedMirror(cidrs, listener, { log }),
    mapStates: (listener) => new ReflectedMirror(mapStates, listener, { names: [], log }),
    async acknowledge({ epoch, revision, prefixes, error, endpoints, newestPolicyRevision }) {
      const { policyRevision, policySet, repeatS } = await inForce.put(nodeName, {
        node: nodeName,
        epoch,
        revision,
        prefixEpoch: prefixes?.epoch,
        prefixRevision: prefixes?.revision,
        error,
        endpoints,
        newestPolicyRevision,
      });
      return { policyRevision, policySet, repeatS };
    },
  };
}

/** The load balancer. */
export function httpServiceSource(client: WeirClient, log?: Logger): ServiceSource {
  const servicePorts = client.collection("serviceports", ServicePort),
    backends = client.collection("backends", Backend);
  return {
    servicePorts: (listener) => new ReflectedMirror(servicePorts, listener, { log }),
    backends: (listener) => new ReflectedMirror(backends, listener, { log }),
  };
}

/** The service `kubernetes` for the node `nodeName`. */
export function httpKubernetes(client: WeirClient, nodeName: string, log?: Logger): Kubernetes {
  const pods = client.collection("pods", KubernetesPod), nodes = client.collection("nodes", KubernetesNode);
  return {
    pods: (listener) => new ReflectedMirror(pods, listener, { query: { node: nodeName }, log }),
    node: (listener) => new ReflectedMirror(nodes, listener, { names: [nodeName], log }),
    tell: async (event) => {
      const request = { message: NodeEvent, value: { ...event, node: nodeName } };
      await client.call("/v1/events", { request, response: NodeEventResponse });
    },
  };
}

/** This node's L7 proxy. */
export function httpL7Proxy(client: WeirClient, log?: Logger): L7Proxy {
  const policies = client.collection("policies", ProxyPolicy);
  const endpoints = client.collection("endpoints", ProxyEndpoint);
  return {
    policies: (listener) => new ReflectedMirror(policies, listener, { log }),
    endpoints: (listener) => new ReflectedMirror(endpoints, listener, { log }),
    putPolicy: (policy) => policies.put(policy.name!, policy),
    deletePolicy: async (name) => void await policies.delete(name),
    putEndpoint: async (endpoint) => void await endpoints.put(endpoint.name!, endpoint),
    deleteEndpoint: async (name) => void await endpoints.delete(name),
  };
}

/** Kind of the error of a datapath that has no room for prefixes of policies. */
const IPCACHE_POLICIES = "ipcache policies";

/** This node's datapath. */
export function httpDatapath(client: WeirClient, log?: Logger): Datapath {
  const endpoints = client.collection("endpoints", DatapathEndpoint);
  const policies = client.collection("policies", DatapathPolicy);
  const remoteNodes = client.collection("remotenodes", RemoteNode);
  const nodeConfig = client.collection("nodeconfig", NodeConfig);
  return {
    putNodeConfig: async (config) => void await nodeConfig.put("node", config),
    putEndpoint: (endpoint) => endpoints.put(endpoint.name!, endpoint),
    deleteEndpoint: async (name) => void await endpoints.delete(name),
    putPolicy: (policy) => policies.put(policy.name!, policy),
    deletePolicy: async (name) => void await policies.delete(name),
    found: () => client.call("/v1/found", { method: "GET", response: Found }),
    async updateIpcache(update) {
      const { errors, left } = await client.call("/v1/ipcache", {
        request: { message: IpcacheUpdate, value: update },
        response: IpcacheUpdateResponse,
      });
      // One that is older does not say which.
      return left.length === 0 && errors.some(({ kind }) => kind === IPCACHE_POLICIES) ? undefined : left;
    },
    updateServices: (update) =>
      client.call("/v1/services:update", {
        request: { message: ServicesUpdate, value: update },
        response: ServicesUpdateResponse,
      }),
    async inUse(addresses) {
      const value = { addresses: [...addresses] };
      const request = { message: AddressesInUse, value };
      const used = await client.call("/v1/conntrack:in-use", { request, response: AddressesInUse });
      return new Set(used.addresses);
    },
    putRemoteNode: async (node) => void await remoteNodes.put(node.name!, node),
    deleteRemoteNode: async (name) => void await remoteNodes.delete(name),
    async sync(epoch) {
      await client.call("/v1/sync", {
        request: { message: SyncRequest, value: { epoch } },
        response: SyncResponse,
      });
    },
    endpoints(onProcess) {
      let known = "";
      const onPosition = ({ epoch }: Position) => {
        if (epoch === known) return;
        known = epoch;
        onProcess();
      };
      return new ReflectedMirror(endpoints, { onChange: () => {}, onSynced: () => {}, onPosition }, { log });
    },
  };
}
