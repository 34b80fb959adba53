/** The allocator's API: decode, ask the allocator, encode. @module */
import {
  AllocateRequest,
  AllocateResponse,
  ClaimRequest,
  ClaimResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  Holder,
  Identity,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
  PodPool,
  ReleaseRequest,
  ReleaseResponse,
} from "@weir/proto/identity";
import { IDENTITY_ALLOCATED_MIN, RESERVED_IDENTITIES, reservedIdentityLabels } from "@weir/common";
import { canonicalPrefix } from "./arguments.ts";
import { IdentityAllocator, type IdentityAllocatorOptions } from "./identity_allocator.ts";
import { IDENTITIES } from "./identity_writer.ts";
import { IPCACHE } from "./ipcache_table.ts";
import { NODES } from "./node_table.ts";
import { POD_POOLS } from "./pod_pools.ts";

/** The factory: everything that the allocator needs comes in here. Call `start()` next. */
export function createIdentityAllocator(options: IdentityAllocatorOptions): IdentityAllocator {
  const allocator = new IdentityAllocator(options);
  mountIdentities(allocator);
  mountNodes(allocator);
  mountPodPools(allocator);
  mountIpcache(allocator);
  return allocator;
}

function mountIdentities(allocator: IdentityAllocator): void {
  const { api, identities } = allocator;
  api.collection({
    name: IDENTITIES,
    message: Identity,
    table: identities,
    list: async () => [...reservedIdentities(), ...await allocator.withCounts(identities.list())],
    get: async (name) => {
      const reserved = reservedIdentities().find((identity) => String(identity.number) === name);
      const stored = identities.get(name);
      return reserved ?? (stored && (await allocator.withCounts([stored]))[0]);
    },
    indexes: { label: (identity) => identity.labels, number: (identity) => String(identity.number) },
    description: "Identities. A watch carries the allocated ones; the reserved ones never change",
  });
  api.action({
    path: "/v1/identities:allocate",
    request: AllocateRequest,
    response: AllocateResponse,
    handle: (request, { peer }) => allocator.allocate(request, peer),
  });
  api.action({
    path: "/v1/identities:release",
    request: ReleaseRequest,
    response: ReleaseResponse,
    handle: (request, { peer }) => allocator.release(request, peer),
  });
  api.action({
    path: "/v1/identities:claim",
    request: ClaimRequest,
    response: ClaimResponse,
    handle: (request, { peer }) => allocator.claim(request, peer),
    description: "Numbers that running endpoints use, after the allocator has forgotten them",
  });
  api.collection({
    name: "holders",
    message: Holder,
    list: ({ query }) => {
      const nodes = query.getAll("node");
      return allocator.fetchHolders(nodes.length === 1 ? nodes[0] : undefined);
    },
    indexes: { node: (holder) => holder.node },
    description: "Which endpoint holds which number",
  });
}

function mountNodes(allocator: IdentityAllocator): void {
  const { api, nodes } = allocator;
  api.collection({
    name: NODES,
    message: Node,
    table: nodes,
    list: () => allocator.withHeartbeats(nodes.list()),
    get: async (name) => {
      const node = nodes.get(name);
      return node && (await allocator.withHeartbeats([node]))[0];
    },
    put: (name, node, { peer }) => allocator.putNode(name, node, peer),
    delete: (name, { peer }) => allocator.deleteNode(name, peer),
  });
  api.action({
    path: "/v1/nodes:heartbeat",
    request: HeartbeatRequest,
    response: HeartbeatResponse,
    handle: (request, { peer }) => allocator.heartbeat(request, peer),
    description: "A node is alive; answers what it is believed to have",
  });
}

function mountPodPools(allocator: IdentityAllocator): void {
  const { api, podPools } = allocator;
  api.collection({
    name: POD_POOLS,
    message: PodPool,
    table: podPools,
    list: () => allocator.withUsage(podPools.list()),
    get: async (name) => {
      const pool = podPools.get(name);
      return pool && (await allocator.withUsage([pool]))[0];
    },
    put: (name, pool) => allocator.putPodPool(name, pool),
    delete: (name) => allocator.deletePodPool(name),
    description: "Named pools of addresses for pods, of which nodes get blocks",
  });
}

function mountIpcache(allocator: IdentityAllocator): void {
  const { api, ipcache } = allocator;
  api.collection({
    name: IPCACHE,
    message: IpcacheEntry,
    table: ipcache,
    put: (name, entry, { peer }) => allocator.putIpcache(name, entry, peer),
    delete: (name, { peer }) => allocator.deleteIpcache(name, peer),
    get: (name) => ipcache.get(canonicalPrefix(name)),
    indexes: { node: (entry) => entry.node, identity: (entry) => String(entry.identity) },
  });
  api.action({
    path: "/v1/ipcache:update",
    request: IpcacheBatch,
    response: IpcacheBatchResponse,
    handle: (batch, { peer }) => allocator.updateIpcache(batch, peer),
    description: "Many changes of one node's prefixes",
  });
}

/** The reserved identities that have a name. */
function reservedIdentities(): Identity[] {
  return Object.values(RESERVED_IDENTITIES).filter((number) => number > 0 && number < IDENTITY_ALLOCATED_MIN)
    .map((number) => Identity.create({ number, labels: reservedIdentityLabels(number)!.toStrings() }));
}
