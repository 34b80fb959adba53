/**
 * The cluster's directory: identities, nodes with their pod CIDRs, the ipcache. A function from database, clock and
 * configuration to an HTTP handler.
 * @module
 */
import { sql } from "kysely";
import {
  type AllocateRequest,
  type AllocateResponse,
  type ClaimRequest,
  ClaimResponse,
  type ClaimResult,
  type HeartbeatRequest,
  HeartbeatResponse,
  type Holder,
  Holdings,
  Identity,
  type IpcacheBatch,
  type IpcacheBatchResponse,
  IpcacheEntry,
  Node,
  PodPool,
  type ReleaseRequest,
  type ReleaseResponse,
} from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import {
  ApiServer,
  assertOwner,
  type Clock,
  errorText,
  type Logger,
  type Peer,
  type Position,
  Prefix,
  ProblemError,
  systemClock,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store, type StoreTransaction } from "@weir/common/state";
import { canonicalPrefix, checkHolder, checkName, parseLabels } from "./arguments.ts";
import { ClusterAddresses } from "./cluster_addresses.ts";
import { checkClaims, CLAIMS_AT_ONCE, judgeClaims } from "./claims.ts";
import { type AllocatorParts, CONFIG_DEFAULT, type IdentityAllocatorConfig } from "./config.ts";
import { fixedIdentity } from "./fixed_identity.ts";
import { fetchHolderCounts, fetchHolders } from "./holder_queries.ts";
import { HOLDINGS, IDENTITIES, IdentityWriter } from "./identity_writer.ts";
import { IpcacheDirectory } from "./ipcache_directory.ts";
import {
  applyBatch,
  checkBatch,
  type EntryJudge,
  entryOfOther,
  IPCACHE,
  IPCACHE_ENTRIES_MAX,
  putChanged,
  readEntry,
  storedPrefixesOf,
} from "./ipcache_table.ts";
import { fetchHeartbeats, HEARTBEAT_WRITE_MS, NodeHeartbeats } from "./node_heartbeats.ts";
import { deleteNode, markDead, NODES, NODES_MAX, putNode } from "./node_table.ts";
import { NumberSource } from "./number_source.ts";
import {
  ENTRIES_PER_NODE_MAX,
  entriesFull,
  fetchSpeaker,
  judgeEntry,
  judgeNode,
  type Surroundings,
} from "./ownership.ts";
import { PodCidrs } from "./pod_cidrs.ts";
import { fetchUsedBlocks, POD_POOLS, POD_POOLS_MAX, putPodPool, withUsage } from "./pod_pools.ts";
import { MIGRATIONS } from "./schema.ts";
import { UnusedIdentities } from "./unused_identities.ts";

/** What the allocator is built from. */
export interface IdentityAllocatorOptions {
  database: Database;
  clock?: Clock;
  config?: Partial<IdentityAllocatorConfig>;
  /** Its health, metrics and log are used. */
  api?: ApiServer;
  /** 0 to 1, without 1: where the numbers of an empty database begin. Default Math.random. */
  random?: () => number;
}

/** Joins the tables and what time does to them. Made by `createIdentityAllocator()`, which adds its routes. */
export class IdentityAllocator {
  readonly api: ApiServer;
  readonly identities: WatchedTable<Identity>;
  readonly nodes: WatchedTable<Node>;
  readonly ipcache: WatchedTable<IpcacheEntry>;
  readonly podPools: WatchedTable<PodPool>;
  readonly #holdings: WatchedTable<Holdings>;
  readonly #directory: IpcacheDirectory;
  readonly #heartbeats: NodeHeartbeats;
  readonly #numbers: NumberSource;
  readonly #unused: UnusedIdentities;
  readonly #cidrs: PodCidrs;
  readonly #around: Surroundings;
  readonly #store: Store;
  readonly #parts: AllocatorParts;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #loops: Promise<void>[] = [];
  #epoch = "";
  #wasReplaced = false;

  constructor(options: IdentityAllocatorOptions) {
    const { database, clock = systemClock } = options;
    this.api = options.api ?? new ApiServer({ name: "identity-allocator" });
    this.#log = this.api.log;
    this.#parts = { clock, config: { ...CONFIG_DEFAULT, ...options.config } };
    this.#heartbeats = new NodeHeartbeats(clock);
    const isAnnounced = (number: number) => this.#directory.isAnnounced(number);
    this.#unused = new UnusedIdentities(clock, isAnnounced);
    this.#numbers = new NumberSource(this.#parts, { random: options.random ?? Math.random, isAnnounced });
    this.#store = new Store({
      database,
      clock,
      log: this.#log,
      health: this.api.health,
      migrations: MIGRATIONS,
    });
    this.identities = this.#store.collection(IDENTITIES, Identity, { entriesMax: 70_000 });
    this.nodes = this.#store.collection(NODES, Node, { entriesMax: NODES_MAX });
    this.podPools = this.#store.collection(POD_POOLS, PodPool, { entriesMax: POD_POOLS_MAX });
    this.ipcache = this.#store.collection(IPCACHE, IpcacheEntry, {
      entriesMax: IPCACHE_ENTRIES_MAX,
      historyMax: 16_384,
    });
    this.#holdings = this.#store.collection(HOLDINGS, Holdings, { entriesMax: 2 * NODES_MAX, historyMax: 1 });
    this.#directory = new IpcacheDirectory(this.ipcache);
    this.#cidrs = new PodCidrs(this.#parts);
    this.#around = {
      addresses: new ClusterAddresses(this.nodes, this.ipcache),
      config: this.#parts.config,
      identity: (number) => this.identities.get(String(number)),
      podPools: () =>
        this.podPools.list().flatMap(({ cidrsV4, cidrsV6 }) =>
          [...cidrsV4, ...cidrsV6].map((text) => Prefix.parse(text))
        ),
    };
    this.identities.onReset(() => {
      // Not the first load of this process: what it had read before is not what the database has now.
      this.#wasReplaced = this.#epoch !== "" && this.#epoch !== this.identities.epoch;
      this.#epoch = this.identities.epoch;
      this.#numbers.reset();
      this.#cidrs.reset();
    });
    this.#measure();
  }

  /** Loads the state and starts the sweeps. With `wait: false` it answers at once and readiness tells. */
  async start(options: { wait?: boolean } = {}): Promise<void> {
    await this.#store.start(options);
    const { graceS, nodeTtlS } = this.#parts.config;
    this.#loops = [
      this.#every(HEARTBEAT_WRITE_MS, "Heartbeats were not written", () => this.#writeHeartbeats()),
      this.#every(
        Math.min(60_000, Math.max(200, Math.min(graceS, nodeTtlS) * 250)),
        "Sweep failed",
        async () => void await this.sweep(),
      ),
      this.#tick(),
    ];
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#loops);
    await this.#writeHeartbeats().catch(() => {});
    await this.#store.stop();
  }

  /** The identity of `labels` after the filter, held by (node, holder). Idempotent. */
  async allocate(request: AllocateRequest, peer?: Peer): Promise<AllocateResponse> {
    const holder = checkHolder(request);
    assertOwner(peer, holder.node, "identities");
    const labels = this.#parts.config.labelFilter.apply(parseLabels(request.labels));
    const fixed = fixedIdentity(labels);
    if (fixed !== undefined) {
      // What the holder had before must not stay held for ever.
      if (this.#store.loaded) await this.#write((writer) => writer.dropHolder(holder));
      return {
        identity: Identity.create({ number: fixed.number, labels: fixed.labels.toStrings() }),
        created: false,
      };
    }
    await this.#notePast(request);
    // A sign of life: what a node holds is ended when nothing is heard of it any more, registered or not.
    this.#heartbeats.heard(holder.node);
    return await this.#write((writer) => writer.allocate(holder, labels));
  }

  /** Ends what (node, holder) holds. Repeatable. */
  async release(request: ReleaseRequest, peer?: Peer): Promise<ReleaseResponse> {
    const holder = checkHolder(request);
    assertOwner(peer, holder.node, "identities");
    await this.#write((writer) => writer.dropHolder(holder));
    return {};
  }

  /** What running endpoints of a node use, see claims.ts. Repeatable. */
  async claim(request: ClaimRequest, peer?: Peer): Promise<ClaimResponse> {
    const { node, claims } = request;
    checkName("node", node);
    assertOwner(peer, node, "identities");
    checkClaims(claims.length);
    await this.#notePast(request);
    this.#heartbeats.heard(node);
    const isEvidence = this.nodes.get(node)?.state !== "NODE_DEAD";
    const results: Init<ClaimResult>[] = [];
    // Others wait for a transaction: a node with many endpoints must not hold them up.
    for (let at = 0; at < claims.length; at += CLAIMS_AT_ONCE) {
      const part = claims.slice(at, at + CLAIMS_AT_ONCE);
      results.push(
        ...await this.#write((writer, store) =>
          judgeClaims({ store, writer, numbers: this.#numbers, parts: this.#parts, isEvidence }, node, part)
        ),
      );
    }
    return ClaimResponse.create({ results });
  }

  /** The node is alive; answers what it is believed to have. From memory. */
  async heartbeat(request: HeartbeatRequest, peer?: Peer): Promise<HeartbeatResponse> {
    const { node } = request;
    checkName("node", node);
    assertOwner(peer, node, `node ${node}`);
    this.#assertLoaded();
    // A database that is away must not make nodes look dead: what cannot be noted now is said again.
    await this.#notePast(request).catch(() => {});
    const registered = this.nodes.get(node);
    const holdings = this.#holdings.get(node);
    // Nothing is listened for that has nothing to lose.
    if (registered !== undefined || holdings !== undefined) this.#heartbeats.heard(node);
    const ipcache = this.#directory.sumOf(node);
    return HeartbeatResponse.create({
      known: registered !== undefined && registered.state !== "NODE_DEAD",
      holdersCount: holdings?.holdersCount ?? 0,
      holdersDigest: holdings?.holdersDigest ?? "0".repeat(16),
      ipcacheCount: ipcache.count,
      ipcacheDigest: ipcache.text,
      epoch: this.identities.epoch,
    });
  }

  /** A caller has seen what the database does not remember, or this process itself has: claims come first for a while. */
  async #notePast(seen: Position): Promise<void> {
    if (!this.#store.loaded || !this.#numbers.mayBeginGrace) return;
    const isUnknown = () => seen.epoch !== "" && !this.identities.remembers(seen);
    // Another replica may have begun an epoch that this one has not read yet.
    if (isUnknown()) await this.#store.pull();
    if (!isUnknown() && !this.#wasReplaced) return;
    this.#log.warn("The database does not remember what was handed out", { position: seen.epoch });
    await this.#store.transact((store) => this.#numbers.sawPast(store.tx));
    this.#wasReplaced = false;
  }

  /** Upsert of a node, see `putNode()`. */
  async putNode(name: string, given: Node, peer?: Peer): Promise<Node> {
    checkName("node", name);
    assertOwner(peer, name, `node ${name}`);
    this.#assertLoaded();
    const judge = peer?.role !== "node"
      ? undefined
      : (before: Node | undefined) => judgeNode(name, given, before, this.#around);
    const put = await this.#store.transact((store) =>
      putNode(store, this.#parts, this.#cidrs, { name, given, judge })
    );
    this.#heartbeats.heard(name);
    return put;
  }

  /** Upsert of a named pool, see `putPodPool()`. */
  putPodPool(name: string, given: PodPool): Promise<PodPool> {
    return this.#store.transact((store) => putPodPool(store, { name, given, others: this.podPools.list() }));
  }

  /** Nothing more is given of it; nodes keep their blocks while they use them. False when there was none. */
  deletePodPool(name: string): Promise<boolean> {
    return this.#store.transact((store) => store.delete(POD_POOLS, name));
  }

  /** With how many of their blocks nodes have. */
  async withUsage(pools: PodPool[]): Promise<PodPool[]> {
    const used = await this.#store.database.query((kysely) => fetchUsedBlocks(kysely));
    return pools.map((pool) => withUsage(pool, used));
  }

  /** Deletes a node with all that it holds and has announced. False when there was none. */
  async deleteNode(name: string, peer?: Peer): Promise<boolean> {
    assertOwner(peer, name, `node ${name}`);
    const existed = await this.#write(async (writer, store) => {
      await writer.dropNode(name);
      await this.#deleteEntriesOf(store, name);
      return await deleteNode(store, this.#cidrs, name);
    });
    this.#heartbeats.forget(name);
    return existed;
  }

  /** Upsert of one prefix; only a change is published. */
  async putIpcache(name: string, given: IpcacheEntry, peer?: Peer): Promise<IpcacheEntry> {
    const entry = readEntry(name, given);
    assertOwner(peer, entry.node, entry.prefix);
    await this.#store.transact(async (store) => {
      const before = await store.get<IpcacheEntry>(IPCACHE, entry.prefix);
      (await this.#judgeOf(store, peer))?.(entry, before);
      await putChanged(store, before, entry);
    });
    return entry;
  }

  /** False when there was no such prefix. */
  async deleteIpcache(name: string, peer?: Peer): Promise<boolean> {
    const prefix = canonicalPrefix(name);
    return await this.#store.transact(async (store) => {
      const before = await store.get<IpcacheEntry>(IPCACHE, prefix);
      if (before !== undefined) assertOwner(peer, before.node, prefix);
      return await store.delete(IPCACHE, prefix);
    });
  }

  /** Many changes of one node in one transaction. Repeatable. */
  async updateIpcache(batch: IpcacheBatch, peer?: Peer): Promise<IpcacheBatchResponse> {
    checkName("node", batch.node);
    checkBatch(batch);
    assertOwner(peer, batch.node, "the ipcache");
    this.#heartbeats.heard(batch.node);
    return await this.#store.transact(async (store) =>
      await applyBatch(store, this.#store.database, batch, await this.#judgeOf(store, peer))
    );
  }

  /** What a node may announce; nothing binds the others. */
  async #judgeOf(store: StoreTransaction, peer: Peer | undefined): Promise<EntryJudge | undefined> {
    if (peer?.role !== "node") return undefined;
    const speaker = await fetchSpeaker(store, peer.node);
    let count = this.#directory.prefixesOf(peer.node).size;
    return (entry, before) => {
      if (before !== undefined && before.node !== peer.node) {
        throw entryOfOther(entry.prefix, before, peer.node);
      }
      judgeEntry(entry, speaker, this.#around);
      if (before === undefined && ++count > ENTRIES_PER_NODE_MAX) throw entriesFull(entry.prefix, peer.node);
    };
  }

  /** What a node holds, or every node. */
  fetchHolders(node?: string): Promise<Holder[]> {
    return fetchHolders(this.#store.database, node);
  }

  /** With their reference counts: in the watched object they would wake every node for every endpoint. */
  async withCounts(identities: Identity[]): Promise<Identity[]> {
    const counts = await fetchHolderCounts(this.#store.database, identities).catch(() => new Map());
    return identities.map((identity) => ({ ...identity, referenceCount: counts.get(identity.number) ?? 0 }));
  }

  /** With when each was heard of last, by whichever replica, and what is thought of it. */
  async withHeartbeats(nodes: Node[]): Promise<Node[]> {
    const stored = await this.#store.database.query((kysely) => fetchHeartbeats(kysely))
      .catch(() => new Map<string, number>());
    return nodes.map((node) => {
      const heartbeatUnixS = Math.max(stored.get(node.name) ?? 0, this.#heartbeats.heardUnixS(node.name));
      const state = node.state !== "NODE_DEAD"
        ? "NODE_KNOWN"
        : heartbeatUnixS > 0
        ? "NODE_RETURNED"
        : "NODE_DEAD";
      return { ...node, heartbeatUnixS, state };
    });
  }

  /** One round of what time does: identities released, dead nodes cleared. */
  async sweep(): Promise<{ released: number[]; deadNodes: string[] }> {
    try {
      await this.#heartbeats.write(this.#store.database);
      const stored = await this.#store.database.query((kysely) => fetchHeartbeats(kysely));
      const listened = new Map(stored);
      // Whoever has something to lose is listened for, also when its first heartbeat was never written.
      for (const { node } of this.#holdings.list()) if (!listened.has(node)) listened.set(node, 0);
      for (const { name, state } of this.nodes.list()) {
        if (state !== "NODE_DEAD" && !listened.has(name)) listened.set(name, 0);
      }
      const deadNodes = this.#heartbeats.silent(listened, this.#parts.config.nodeTtlS);
      for (const node of deadNodes) await this.#giveUp(node);
      await this.#clearDead(stored);
      const released = await this.#write((writer) => writer.releaseUnused());
      if (released.length > 0) this.#log.info("Identities released", { numbers: released });
      this.#heartbeats.worked();
      return { released, deadNodes };
    } catch (error) {
      this.#heartbeats.failed();
      throw error;
    }
  }

  /** A node was silent for too long: what it held and announced goes, its pod CIDR stays its own until it is deleted. */
  async #giveUp(node: string): Promise<void> {
    const { held, prefixes } = await this.#write(async (writer, store) => {
      const held = await writer.dropNode(node);
      const prefixes = await this.#deleteEntriesOf(store, node);
      await sql`delete from weir_heartbeat where node = ${node}`.execute(store.tx);
      await markDead(store, this.#parts, node);
      return { held, prefixes };
    });
    this.#heartbeats.forget(node);
    this.#log.warn("Node is dead", { node, held, prefixes, ttlS: this.#parts.config.nodeTtlS });
  }

  /** What a replica still wrote for a node while another one gave it up. */
  async #clearDead(heard: ReadonlyMap<string, number>): Promise<void> {
    for (const { name, state } of this.nodes.list()) {
      if (state !== "NODE_DEAD" || heard.has(name) || this.#directory.prefixesOf(name).size === 0) continue;
      await this.#store.transact((store) => this.#deleteEntriesOf(store, name));
    }
  }

  async #deleteEntriesOf(store: StoreTransaction, node: string): Promise<number> {
    const inMemory = this.#directory.prefixesOf(node);
    const prefixes = await storedPrefixesOf(store, node, inMemory, this.ipcache.revision);
    for (const prefix of prefixes) await store.delete(IPCACHE, prefix);
    return prefixes.size;
  }

  #write<R>(action: (writer: IdentityWriter, store: StoreTransaction) => Promise<R>): Promise<R> {
    return this.#store.transact(async (store) => {
      const writer = new IdentityWriter(store, this.#parts, {
        numbers: this.#numbers,
        unused: this.#unused,
      });
      const result = await action(writer, store);
      await writer.finish();
      return result;
    });
  }

  #assertLoaded(): void {
    if (this.#store.loaded) return;
    throw new ProblemError("NOT_READY", {
      status: 503,
      detail: "Cannot say what is known of nodes yet: they were not read from the database",
      action: "Try again; /readyz?verbose says what is waited for",
    });
  }

  async #writeHeartbeats(): Promise<void> {
    if (this.#store.loaded) await this.#heartbeats.write(this.#store.database);
  }

  async #every(ms: number, failure: string, action: () => Promise<void>): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#parts.clock.sleep(ms, signal);
      if (signal.aborted || !this.#store.loaded) continue;
      await action().catch((error) => this.#log.warn(failure, { error: errorText(error) }));
    }
  }

  /** A loop of its own: it must not wait for the database. */
  async #tick(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#parts.clock.sleep(HEARTBEAT_WRITE_MS, signal);
      this.#heartbeats.tick();
    }
  }

  #measure(): void {
    const { metrics } = this.api;
    metrics.gauge("weir_identities", "Allocated identities").collect(() => this.identities.size);
    metrics.gauge("weir_nodes", "Nodes").collect(() => this.nodes.size);
    metrics.gauge("weir_ipcache_entries", "Prefixes in the ipcache").collect(() => this.ipcache.size);
  }
}
