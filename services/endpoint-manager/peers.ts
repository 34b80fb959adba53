/**
 * The ports over HTTP: the identity allocator, the policy engine, the load balancer and this node's datapath as the
 * endpoint manager sees them.
 * @module
 */
import { type CollectionClient, type Query, Reflector, type WeirClient } from "@weir/client";
import type { Logger } from "@weir/common";
import {
  DatapathEndpoint,
  DatapathPolicy,
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
  IpcacheEntry,
  Node,
  ReleaseRequest,
  ReleaseResponse,
} from "@weir/proto/identity";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { CidrIdentity, MapState } from "@weir/proto/policy";
import type {
  AllocatorPort,
  ChangeListener,
  DatapathPort,
  LoadBalancerPort,
  Mirror,
  MirrorListener,
  PolicyPort,
} from "./ports.ts";

function mirror<T>(
  collection: CollectionClient<T>,
  listener: MirrorListener,
  options: { query?: Query; log?: Logger },
): Mirror<T> & Disposable {
  const changed = () => listener.onChange();
  return changesOf(collection, { onChange: changed, onSynced: changed }, options);
}

function changesOf<T>(
  collection: CollectionClient<T>,
  listener: ChangeListener<T>,
  options: { query?: Query; log?: Logger },
): Mirror<T> & Disposable {
  const reflector = new Reflector(collection, {
    ...options,
    onChange: (name, value, previous) => listener.onChange(name, value, previous),
    onSynced: () => listener.onSynced(),
  }).start();
  return {
    get synced() {
      return reflector.synced;
    },
    values: () => reflector.list(),
    get: (name) => reflector.get(name),
    [Symbol.dispose]: () => void reflector.stop(),
  };
}

/** The identity allocator for the node `nodeName`. */
export function allocatorPeer(client: WeirClient, nodeName: string, log?: Logger): AllocatorPort {
  const nodes = client.collection("nodes", Node), ipcache = client.collection("ipcache", IpcacheEntry);
  return {
    async allocate(labels, holder) {
      const { identity } = await client.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels: [...labels], node: nodeName, holder } },
        response: AllocateResponse,
      });
      if (!identity || identity.number === 0) {
        throw new Error(`Cannot allocate an identity for ${holder}: none came back`);
      }
      return identity;
    },
    async release(holder) {
      await client.call("/v1/identities:release", {
        request: { message: ReleaseRequest, value: { node: nodeName, holder } },
        response: ReleaseResponse,
      });
    },
    putNode: (node) => nodes.put(nodeName, node),
    putIpcache: async (entry) => void await ipcache.put(entry.prefix!, entry),
    deleteIpcache: async (prefix) => void await ipcache.delete(prefix),
    nodes: (listener) => mirror(nodes, listener, { log }),
    ipcache: (listener) => mirror(ipcache, listener, { log }),
  };
}

/** The policy engine. */
export function policyPeer(client: WeirClient, log?: Logger): PolicyPort {
  const cidrs = client.collection("cidridentities", CidrIdentity),
    mapStates = client.collection("mapstates", MapState);
  return {
    cidrs: (listener) => mirror(cidrs, listener, { log }),
    mapState: (identity, listener) => mirror(mapStates, listener, { query: { identity }, log }),
  };
}

/** The load balancer. */
export function loadBalancerPeer(client: WeirClient, log?: Logger): LoadBalancerPort {
  const servicePorts = client.collection("serviceports", ServicePort),
    backends = client.collection("backends", Backend);
  return {
    servicePorts: (listener) => changesOf(servicePorts, listener, { log }),
    backends: (listener) => changesOf(backends, listener, { log }),
  };
}

/** This node's datapath. */
export function datapathPeer(client: WeirClient, log?: Logger): DatapathPort {
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
    async updateIpcache(update) {
      await client.call("/v1/ipcache", {
        request: { message: IpcacheUpdate, value: update },
        response: IpcacheUpdateResponse,
      });
    },
    updateServices: (update) =>
      client.call("/v1/services:update", {
        request: { message: ServicesUpdate, value: update },
        response: ServicesUpdateResponse,
      }),
    putRemoteNode: async (node) => void await remoteNodes.put(node.name!, node),
    deleteRemoteNode: async (name) => void await remoteNodes.delete(name),
    async sync() {
      await client.call("/v1/sync", { request: { message: SyncRequest, value: {} }, response: SyncResponse });
    },
    follow(onConnected) {
      const reflector = new Reflector(endpoints, {
        log,
        onState: (error) => {
          if (error === undefined) onConnected();
        },
      }).start();
      return { [Symbol.dispose]: () => void reflector.stop() };
    },
  };
}
