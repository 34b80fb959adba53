/** One process that plays many nodes against the real services; tells main.ts its progress in lines of JSON. @module */
import { Reflector, WeirClient } from "@weir/client";
import { CollectionWatch, JointWatchRequest, WatchRequest } from "@weir/proto/common";
import {
  AllocateRequest,
  AllocateResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
} from "@weir/proto/identity";
import { NodePolicy } from "@weir/proto/policy";
import { type Counted, CountedStream } from "./counted_stream.ts";

/** What one worker plays. */
export interface WorkerLoad {
  /** Paths of sockets. */
  allocator: string;
  engine: string;
  /** Numbers of its nodes. */
  nodes: number[];
  /** How many of them keep a whole mirror with the product's client instead of sums. */
  mirrors: number;
  /** One stream per node and service, or one per collection as older nodes have. */
  isJoint: boolean;
  /** Each pod asks for its identity; otherwise each worker asks once for each label set. */
  allocatesEach: boolean;
  heartbeatMs: number;
  /** Nodes that begin at once. */
  atOnce: number;
  /** The first so many nodes register and announce pods; the others only watch, acknowledge and send no heartbeats. */
  announcing: number;
  pods: number;
  labelSets: number;
  seed: number;
}

/** What a worker tells of all its nodes at a moment. */
export interface WorkerState {
  kind: "state";
  begun: number;
  /** Nodes by what they have of the ipcache: "count sum". */
  ipcache: Record<string, number>;
  /** Newest revision that the node which is furthest behind has been told. */
  revision: number;
  bytes: number;
  reads: number;
}

const STATE_MS = 500;
const BEGIN_TRIES_MAX = 20;
const load = JSON.parse(Deno.args[0]) as WorkerLoad;
const allocator = new WeirClient({ socket: load.allocator }, { deadlineMs: 120_000 });
const engine = new WeirClient({ socket: load.engine }, { deadlineMs: 120_000 });
const failures = new Map<string, number>();
const fail = (what: string, error: unknown) => {
  const key = `${what}: ${(error as { code?: string }).code ?? (error as Error).message}`;
  failures.set(key, (failures.get(key) ?? 0) + 1);
  console.log(JSON.stringify({ kind: "failure", what: key, count: failures.get(key) }));
};
let begun = 0;
const numbers = new Map<number, Promise<number>>();
const streams: CountedStream[] = [];
const mirrors: Reflector<IpcacheEntry>[] = [];

/** Begins as a node does, then watches and acknowledges. */
async function play(index: number, isMirror: boolean): Promise<void> {
  const name = `node-${index}`;
  const own = index < load.announcing ? await announce(name, index) : await someIdentities();
  await followPolicies(name, own);
  if (isMirror) followWhole();
  else await followAddresses();
  begun++;
  if (index >= load.announcing) return;
  // Each node has its own moment for heartbeats.
  setTimeout(() => beat(name), index * 7919 % load.heartbeatMs);
}

async function beat(node: string): Promise<void> {
  await allocator.call("/v1/nodes:heartbeat", {
    request: { message: HeartbeatRequest, value: { node } },
    response: HeartbeatResponse,
  }).catch((error) => fail("heartbeat", error));
  setTimeout(() => beat(node), load.heartbeatMs);
}

/** Identities of the worker's other nodes. */
async function someIdentities(): Promise<Set<string>> {
  return new Set((await Promise.all([...numbers.values()].slice(0, 10))).map(String));
}

/** Registers, gives its pods identities and announces them; answers the identities. */
async function announce(name: string, index: number): Promise<Set<string>> {
  const nodes = allocator.collection("nodes", Node);
  const ipv4 = `172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
  const node = await nodes.put(name, { name, ipv4 });
  const base = node.podCidrV4.split("/")[0].split(".").slice(0, 3).join(".");
  const upserts = [];
  const own = new Set<string>();
  for (let pod = index, k = 2; pod < load.pods; pod += load.announcing, k++) {
    const set = (Math.imul(pod + 1, 2_654_435_761) + load.seed >>> 0) % load.labelSets;
    const labels = [`k8s:app=a${set}`, "k8s:io.kubernetes.pod.namespace=default"];
    const allocate = async () => {
      const { identity } = await allocator.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels, node: name, holder: `default/p${pod}` } },
        response: AllocateResponse,
      });
      return identity!.number;
    };
    if (load.allocatesEach || !numbers.has(set)) numbers.set(set, allocate());
    const number = await numbers.get(set)!;
    own.add(String(number));
    upserts.push({
      prefix: `${base}.${k}/32`,
      identity: number,
      node: name,
      nodeIpv4: ipv4,
      endpoint: `default/p${pod}`,
    });
  }
  const { refused } = await allocator.call("/v1/ipcache:update", {
    request: { message: IpcacheBatch, value: { node: name, upserts } },
    response: IpcacheBatchResponse,
  });
  for (const entry of refused) fail("ipcache refused", new Error(entry.code));
  return own;
}

/** Nodes and ipcache, counted; until it has been told of all that there is. */
async function followAddresses(): Promise<void> {
  const synced = Promise.withResolvers<void>();
  for (const one of asked([{ collection: "nodes" }, { collection: "ipcache" }])) {
    const stream = new CountedStream({
      socket: load.allocator,
      ...one,
      onSynced: (collection) => collection === "ipcache" && synced.resolve(),
      onEnd: (error) => {
        fail("stream of the allocator", error);
        synced.resolve();
      },
    });
    if (one.collection !== "nodes") streams.push(stream);
    await stream.open();
  }
  await synced.promise;
}

/** The same, kept whole by the product's client. */
function followWhole(): void {
  const client = new WeirClient({ socket: load.allocator }, { joint: load.isJoint });
  const lost = (error: unknown) => error !== undefined && fail("stream of a mirror", error);
  new Reflector(client.collection("nodes", Node), { onState: lost }).start();
  mirrors.push(new Reflector(client.collection("ipcache", IpcacheEntry), { onState: lost }).start());
}

/** Map states of its identities and CIDR identities; acknowledges what both are complete up to. */
async function followPolicies(name: string, own: ReadonlySet<string>): Promise<void> {
  const known = new Map<string, Counted>();
  let told = "";
  const onSynced = (collection: string, counted: Counted) => {
    known.set(collection, counted);
    const states = known.get("mapstates"), cidrs = known.get("cidridentities");
    if (states === undefined || cidrs === undefined || states.epoch !== cidrs.epoch) return;
    const { epoch } = states, revision = Math.min(states.revision, cidrs.revision);
    const position = `${epoch} ${revision}`;
    if (position === told) return;
    told = position;
    engine.collection("nodepolicies", NodePolicy)
      .put(name, { node: name, epoch, revision, endpoints: own.size })
      .catch((error) => fail("nodepolicies", error));
  };
  const watches = [
    { collection: "mapstates", byNames: true, request: { newNames: [...own], parts: true } },
    { collection: "cidridentities" },
  ];
  for (const one of asked(watches)) {
    await new CountedStream({
      socket: load.engine,
      ...one,
      onSynced,
      onEnd: (error) => fail("stream of the engine", error),
    }).open();
  }
}

/** The requests: one for all, or one for each. */
function asked(watches: Parameters<typeof CollectionWatch.create>[0][]) {
  if (load.isJoint) {
    return [{
      path: "/v1/watch",
      body: JointWatchRequest.encode({ watches: watches as never[] }),
      collection: undefined,
    }];
  }
  return watches.map((watch) => {
    const { collection, byNames, request } = CollectionWatch.create(watch);
    return byNames
      ? { path: `/v1/${collection}:watch`, body: WatchRequest.encode(request!), collection }
      : { path: `/v1/${collection}?watch=true`, body: undefined, collection };
  });
}

function tell(): void {
  const state: WorkerState = {
    kind: "state",
    begun,
    ipcache: {},
    revision: Infinity,
    bytes: 0,
    reads: 0,
  };
  for (const stream of streams) {
    const counted = stream.collections.get("ipcache");
    const key = counted?.isSynced ? `${counted.puts - counted.deletes} ${counted.sum}` : "not synced";
    state.ipcache[key] = (state.ipcache[key] ?? 0) + 1;
    state.revision = Math.min(state.revision, counted?.isSynced ? counted.revision : 0);
    state.bytes += stream.bytes;
    state.reads += stream.reads;
  }
  for (const mirror of mirrors) {
    const key = mirror.synced ? `mirror ${mirror.size}` : "not synced";
    state.ipcache[key] = (state.ipcache[key] ?? 0) + 1;
    state.revision = Math.min(state.revision, mirror.synced ? mirror.revision : 0);
  }
  console.log(JSON.stringify(state));
}

setInterval(tell, STATE_MS);
let next = 0;
await Promise.all(Array.from({ length: load.atOnce }, async () => {
  while (next < load.nodes.length) {
    const at = next++;
    // What fails is asked again, as nodes do, and is a failure all the same.
    for (let tries = 0; tries < BEGIN_TRIES_MAX; tries++) {
      const hasBegun = await play(load.nodes[at], at < load.mirrors).then(() => true, (error) => {
        fail("begin", error);
      });
      if (hasBegun) break;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}));
