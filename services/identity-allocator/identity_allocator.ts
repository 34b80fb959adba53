/**
 * The cluster's directory: identities, nodes with their pod CIDRs, the ipcache. A function from database, clock and
 * configuration to an HTTP handler.
 * @module
 */
import { sql } from "kysely";
import {
  AllocateRequest,
  AllocateResponse,
  Identity,
  IpcacheEntry,
  Node,
  ReleaseRequest,
  ReleaseResponse,
} from "@weir/proto/identity";
import {
  ApiServer,
  type Clock,
  errorText,
  IDENTITY_ALLOCATED_MIN,
  invalidArgument,
  LabelError,
  LabelSet,
  type Logger,
  Prefix,
  ProblemError,
  RESERVED_IDENTITIES,
  reservedIdentityLabels,
  systemClock,
  unixSeconds,
  type WatchedTable,
} from "@weir/common";
import { type Database, Store } from "@weir/common/state";
import { type AllocatorParts, CONFIG_DEFAULT, type IdentityAllocatorConfig } from "./config.ts";
import {
  allocate,
  dropHolder,
  dropNode,
  fixedIdentity,
  IDENTITIES,
  releaseUnused,
} from "./identity_table.ts";
import { deleteNode, heartbeat, heartbeats, NODES, putNode } from "./node_table.ts";
import { MIGRATIONS } from "./schema.ts";

/** Name of the watched collection. */
export const IPCACHE = "ipcache";
/** Longest node and holder names in characters. */
export const NAME_CHARS_MAX = 253;

/** What the allocator is built from. */
export interface IdentityAllocatorOptions {
  database: Database;
  clock?: Clock;
  config?: Partial<IdentityAllocatorConfig>;
  /** Its health, metrics and log are used. */
  api?: ApiServer;
}

/** See the module comment. Made by {@link createIdentityAllocator}. */
export class IdentityAllocator {
  readonly api: ApiServer;
  readonly identities: WatchedTable<Identity>;
  readonly nodes: WatchedTable<Node>;
  readonly ipcache: WatchedTable<IpcacheEntry>;
  readonly #store: Store;
  readonly #parts: AllocatorParts;
  readonly #log: Logger;
  #startedUnixS: number;
  #stop = new AbortController();
  #sweeping: Promise<void> = Promise.resolve();

  constructor(options: IdentityAllocatorOptions) {
    const { database, clock = systemClock } = options;
    this.api = options.api ?? new ApiServer({ name: "identity-allocator" });
    this.#log = this.api.log;
    this.#parts = { clock, config: { ...CONFIG_DEFAULT, ...options.config } };
    this.#startedUnixS = unixSeconds(clock);
    this.#store = new Store({
      database,
      clock,
      log: this.#log,
      health: this.api.health,
      migrations: MIGRATIONS,
    });
    this.identities = this.#store.collection(IDENTITIES, Identity, { entriesMax: 70_000 });
    this.nodes = this.#store.collection(NODES, Node, { entriesMax: 10_000 });
    this.ipcache = this.#store.collection(IPCACHE, IpcacheEntry, {
      entriesMax: 1_000_000,
      historyMax: 16_384,
    });
    this.#mount();
    this.#measure();
  }

  /** Loads the state and starts the sweeps. With `wait: false` it answers at once and readiness tells. */
  async start(options: { wait?: boolean } = {}): Promise<void> {
    await this.#store.start(options);
    this.#sweeping = this.#sweepLoop();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#store.stop();
    await this.#sweeping;
  }

  /** The identity of `labels` after the filter, held by (node, holder). Idempotent. */
  async allocate(request: AllocateRequest): Promise<AllocateResponse> {
    const holder = checkHolder(request);
    const labels = this.#parts.config.labelFilter.apply(parseLabels(request.labels));
    const fixed = fixedIdentity(labels);
    if (fixed !== undefined) {
      // What the holder had before must not stay held for ever.
      if (this.#store.loaded) {
        await this.#store.transact((tx) => dropHolder(tx, this.#parts, holder.node, holder.holder));
      }
      return {
        identity: Identity.create({ number: fixed.number, labels: fixed.labels.toStrings() }),
        created: false,
      };
    }
    return await this.#store.transact(async (tx) => {
      // A sign of life: what a node holds is ended when nothing is heard of it any more, registered or not.
      await heartbeat(tx, this.#parts, holder.node);
      return await allocate(tx, this.#parts, { labels, ...holder });
    });
  }

  /** Ends what (node, holder) holds. Repeatable. */
  async release(request: ReleaseRequest): Promise<ReleaseResponse> {
    const { node, holder } = checkHolder(request);
    await this.#store.transact((tx) => dropHolder(tx, this.#parts, node, holder));
    return {};
  }

  /** One round of what time does: identities released, dead nodes cleared. */
  async sweep(): Promise<{ released: number[]; deadNodes: string[] }> {
    const now = unixSeconds(this.#parts.clock);
    const { nodeTtlS } = this.#parts.config;
    return await this.#store.transact(async (tx) => {
      const deadNodes: string[] = [];
      for (const [node, heardUnixS] of await heartbeats(tx)) {
        // While this process was away nobody could be heard: silence counts from its start only.
        if (Math.max(heardUnixS, this.#startedUnixS) + nodeTtlS > now) continue;
        const held = await dropNode(tx, this.#parts, node);
        const prefixes = this.ipcache.list().filter((entry) => entry.node === node).map((entry) =>
          entry.prefix
        );
        for (const prefix of prefixes) await tx.delete(IPCACHE, prefix);
        await sql`delete from weir_heartbeat where node = ${node}`.execute(tx.tx);
        deadNodes.push(node);
        this.#log.warn("Node is dead", { node, held, prefixes: prefixes.length, silentS: now - heardUnixS });
      }
      return { released: await releaseUnused(tx, this.#parts), deadNodes };
    });
  }

  async #sweepLoop(): Promise<void> {
    const { signal } = this.#stop;
    const { graceS, nodeTtlS } = this.#parts.config;
    const everyMs = Math.min(60_000, Math.max(200, Math.min(graceS, nodeTtlS) * 250));
    while (!signal.aborted) {
      await this.#parts.clock.sleep(everyMs, signal);
      if (signal.aborted || !this.#store.loaded) continue;
      try {
        const { released } = await this.sweep();
        if (released.length > 0) this.#log.info("Identities released", { numbers: released });
      } catch (error) {
        this.#log.warn("Sweep failed", { error: errorText(error) });
      }
    }
  }

  #mount(): void {
    const { api } = this;
    api.collection({
      name: IDENTITIES,
      message: Identity,
      table: this.identities,
      list: async () => [...reservedIdentities(), ...await this.#withCounts(this.identities.list())],
      get: async (name) => {
        const reserved = reservedIdentities().find((identity) => String(identity.number) === name);
        const stored = this.identities.get(name);
        return reserved ?? (stored && (await this.#withCounts([stored]))[0]);
      },
      filters: {
        label: (label) => (identity) => identity.labels.includes(label),
        number: (number) => (identity) => String(identity.number) === number,
      },
      description: "Identities. A watch carries the allocated ones; the reserved ones never change",
    });
    api.action({
      path: "/v1/identities:allocate",
      request: AllocateRequest,
      response: AllocateResponse,
      handle: (request) => this.allocate(request),
    });
    api.action({
      path: "/v1/identities:release",
      request: ReleaseRequest,
      response: ReleaseResponse,
      handle: (request) => this.release(request),
    });
    api.collection({
      name: NODES,
      message: Node,
      table: this.nodes,
      list: () => this.#withHeartbeats(this.nodes.list()),
      put: (name, node) => {
        checkName("node", name);
        return this.#store.transact((tx) => putNode(tx, this.#parts, name, node));
      },
      delete: (name) =>
        this.#store.transact(async (tx) => {
          await dropNode(tx, this.#parts, name);
          for (const entry of this.ipcache.list()) {
            if (entry.node === name) await tx.delete(IPCACHE, entry.prefix);
          }
          return await deleteNode(tx, name);
        }),
    });
    api.collection({
      name: IPCACHE,
      message: IpcacheEntry,
      table: this.ipcache,
      put: (name, entry) => this.#putIpcache(name, entry),
      delete: (name) => this.#store.transact((tx) => tx.delete(IPCACHE, canonicalPrefix(name))),
      get: (name) => this.ipcache.get(canonicalPrefix(name)),
      filters: {
        node: (node) => (entry) => entry.node === node,
        identity: (number) => (entry) => String(entry.identity) === number,
      },
    });
  }

  async #putIpcache(name: string, given: IpcacheEntry): Promise<IpcacheEntry> {
    const prefix = canonicalPrefix(name);
    if (given.prefix !== "" && canonicalPrefix(given.prefix) !== prefix) {
      throw invalidArgument("Cannot put the entry: its prefix is not its name", {
        found: given.prefix,
        expected: prefix,
      });
    }
    const entry = { ...given, prefix };
    const before = this.ipcache.get(prefix);
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(entry)) return before;
    await this.#store.transact((tx) => tx.put(IPCACHE, prefix, entry));
    return entry;
  }

  /** Reference counts are read when asked for: in the watched object they would wake every node for every endpoint. */
  async #withCounts(identities: Identity[]): Promise<Identity[]> {
    const counts = await this.#store.database.query(async (kysely) => {
      const { rows } = await sql<{ number: number; count: string }>`
        select number, count(*) as count from weir_holder group by number`.execute(kysely);
      return new Map(rows.map((row) => [row.number, Number(row.count)]));
    }).catch(() => new Map<number, number>());
    return identities.map((identity) => ({ ...identity, referenceCount: counts.get(identity.number) ?? 0 }));
  }

  async #withHeartbeats(nodes: Node[]): Promise<Node[]> {
    const heard = await this.#store.database.query((kysely) => heartbeats({ tx: kysely as never }))
      .catch(() => new Map<string, number>());
    return nodes.map((node) => ({ ...node, heartbeatUnixS: heard.get(node.name) ?? 0 }));
  }

  #measure(): void {
    const { metrics } = this.api;
    metrics.gauge("weir_identities", "Allocated identities").collect(() => this.identities.size);
    metrics.gauge("weir_nodes", "Nodes").collect(() => this.nodes.size);
    metrics.gauge("weir_ipcache_entries", "Prefixes in the ipcache").collect(() => this.ipcache.size);
  }
}

/** The factory: everything that the allocator needs comes in here. Call `start()` next. */
export function createIdentityAllocator(options: IdentityAllocatorOptions): IdentityAllocator {
  return new IdentityAllocator(options);
}

/** The reserved identities that have a name. */
export function reservedIdentities(): Identity[] {
  return Object.values(RESERVED_IDENTITIES).filter((number) => number > 0 && number < IDENTITY_ALLOCATED_MIN)
    .map((number) => Identity.create({ number, labels: reservedIdentityLabels(number)!.toStrings() }));
}

function parseLabels(texts: string[]): LabelSet {
  try {
    return LabelSet.parse(texts);
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
    throw new ProblemError("LABEL_INVALID", {
      detail: error.message,
      found: error.subject.slice(0, 200),
      expected: error.expected,
      action: "Correct the label of the endpoint",
    });
  }
}

function checkHolder(request: { node: string; holder: string }): { node: string; holder: string } {
  checkName("node", request.node);
  checkName("holder", request.holder);
  return { node: request.node, holder: request.holder };
}

function checkName(what: string, name: string): void {
  if (name !== "" && name.length <= NAME_CHARS_MAX) return;
  throw invalidArgument(`Cannot take the ${what}: its name has ${name.length} characters`, {
    found: name.slice(0, 80),
    expected: `1 to ${NAME_CHARS_MAX} characters`,
  });
}

function canonicalPrefix(text: string): string {
  const prefix = Prefix.tryParse(text);
  if (prefix === undefined) {
    throw invalidArgument("Cannot read the prefix", { found: text, expected: "address or address/length" });
  }
  return prefix.text;
}
