/**
 * The service: what is stored goes into the tables, what the tables say is served. One writer: changes run one after
 * another, each in one transaction with everything that it gives to services.
 *
 *     change ─▶ transaction: sources, assignments, claims ─▶ commit ─▶ sync() ─▶ tables ─▶ watchers
 *
 * The tables follow the stored objects alone, whoever wrote them, so a start and another replica come to the same state.
 * @module
 */
import { KUBERNETES_FILE_MARK } from "@weir/common/manifest";
import {
  ApiServer,
  type Clock,
  errorText,
  type Guard,
  type Logger,
  ProblemError,
  problemResponse,
  systemClock,
  WatchedTable,
} from "@weir/common";
import { type Database, Store } from "@weir/common/state";
import type { WeirClient } from "@weir/client";
import { AddressPool, Assignment, BackendOverride, Pod, Source } from "@weir/proto/loadbalancer";
import { PoolTable } from "./address_pool.ts";
import { AssignmentTable } from "./assignment_table.ts";
import { ChangeTransaction } from "./change_transaction.ts";
import { CONFIG_DEFAULT, type LoadBalancerConfig } from "./config.ts";
import { EndpointSource } from "./endpoint_source.ts";
import { hostPortSource } from "./host_port.ts";
import { readManifests } from "./manifest.ts";
import { type ServiceSpec, type SliceSpec, SPEC_VERSION } from "./model.ts";
import { PodSources } from "./pod_sources.ts";
import { ASSIGNMENTS, MIGRATIONS, NOTES, OVERRIDES, PODS, POOLS, SOURCES } from "./schema.ts";
import { ServiceAssigner } from "./service_assigner.ts";
import { hostPortName, ServiceJoin } from "./service_join.ts";

/** How often a change is tried again when another writer took what it wanted. */
const CONFLICT_TRIES_MAX = 3;
/** Name of the note that all of Kubernetes' objects were here once. */
const KUBERNETES_READ = "kubernetes-read";

/** What the load balancer is built from. */
export interface LoadBalancerOptions {
  /** Where its state is kept; the caller closes it after `stop()`. */
  database: Database;
  config?: Partial<LoadBalancerConfig>;
  /** Client of the identity-allocator: endpoints are sources of backends too. */
  identityAllocator?: WeirClient;
  /** Services come from Kubernetes: a new database has none until `services:kubernetes-read`, and no node is answered before. */
  awaitKubernetes?: boolean;
  clock?: Clock;
  /** Default: a server of its own. */
  api?: ApiServer;
}

/** The load balancer: what it keeps, its tables, and who feeds them. */
export class LoadBalancer {
  readonly api: ApiServer;
  readonly clock: Clock;
  readonly config: LoadBalancerConfig;
  readonly pools: PoolTable = new PoolTable();
  readonly assignments: AssignmentTable;
  readonly assigner: ServiceAssigner;
  readonly tables: ServiceJoin;
  readonly addressPools: WatchedTable<AddressPool> = new WatchedTable({ name: "addresspools" });
  readonly sources: WatchedTable<Source>;
  readonly pods: WatchedTable<Pod>;
  readonly overrides: WatchedTable<BackendOverride>;
  readonly #storedAssignments: WatchedTable<Assignment>;
  readonly #storedPools: WatchedTable<AddressPool>;
  readonly #podSources: PodSources;
  readonly #endpoints: EndpointSource | undefined;
  /** One object: that all that Kubernetes had was handed on to this database once. */
  readonly #notes: WatchedTable<Source>;
  readonly #awaitKubernetes: boolean;
  readonly #store: Store;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #turn: Promise<unknown> = Promise.resolve();
  #revision = -1;
  #loaded = false;
  readonly #loading = Promise.withResolvers<void>();

  constructor(options: LoadBalancerOptions) {
    const { database, clock = systemClock } = options;
    this.clock = clock;
    this.config = { ...CONFIG_DEFAULT, ...options.config };
    this.api = options.api ?? new ApiServer({ name: "load-balancer" });
    this.#log = this.api.log;
    const { health } = this.api;
    this.#store = new Store({ database, clock, log: this.#log, health, migrations: MIGRATIONS });
    this.sources = this.#store.collection(SOURCES, Source, { historyMax: 65_536 });
    this.#storedAssignments = this.#store.collection(ASSIGNMENTS, Assignment, { historyMax: 65_536 });
    this.pods = this.#store.collection(PODS, Pod, { historyMax: 65_536 });
    this.#storedPools = this.#store.collection(POOLS, AddressPool);
    this.overrides = this.#store.collection(OVERRIDES, BackendOverride);
    this.#notes = this.#store.collection(NOTES, Source);
    this.#awaitKubernetes = options.awaitKubernetes ?? false;
    this.assignments = new AssignmentTable(this.config, this.pools);
    this.assigner = new ServiceAssigner(this.assignments);
    this.tables = new ServiceJoin(this.assignments);
    this.#podSources = new PodSources((name, pod) => this.tables.setPod(name, pod));
    if (options.identityAllocator) {
      this.#endpoints = new EndpointSource({
        identityAllocator: options.identityAllocator,
        clock,
        log: this.#log,
        health,
        onPod: (name, pod) => {
          this.#podSources.see(name, pod);
          this.#flushSoon();
        },
        onZone: (node, zone) => {
          this.#podSources.setZone(node, zone);
          this.#flushSoon();
        },
        onSynced: () => this.#publish(),
      });
    }
    health.waitFor("tables", "waiting for the stored services");
    this.#measure();
  }

  /** Serves one request. Before everything was read an empty list would look like "no services". */
  readonly handler = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/v1/") && !this.ready) {
      const waits = this.api.health.list().filter((check) => !check.ok).map((check) => check.message);
      return problemResponse(
        new ProblemError("NOT_READY", {
          status: 503,
          detail: `Cannot answer yet: ${waits.join("; ") || "starting"}`,
          action: "Try again; /readyz?verbose says what is waited for",
        }),
      );
    }
    return await this.api.fetch(request);
  };

  /** Guards what nodes read: a database without what Kubernetes has would say "no service" of what they serve. */
  readonly toNodes: Guard = () => {
    if (!this.#awaitKubernetes || this.#notes.has(KUBERNETES_READ)) return;
    throw new ProblemError("NOT_READY", {
      status: 503,
      detail: "Cannot answer yet: the services of Kubernetes were not read yet",
      action: "Try again; /readyz?verbose says what is waited for",
    });
  };

  /** All services that Kubernetes has were handed on. Repeatable. @throws {ProblemError} DATABASE_UNAVAILABLE */
  async kubernetesRead(): Promise<void> {
    if (this.#notes.has(KUBERNETES_READ)) return;
    const note = Source.create({ name: KUBERNETES_READ });
    await this.#store.transact((tx) => tx.put(NOTES, KUBERNETES_READ, note));
  }

  /** True once the stored objects, and the endpoints where they are sources, were all seen. */
  get ready(): boolean {
    return this.#loaded && (this.#endpoints?.synced ?? true);
  }

  /** Begins; resolves at once, `waitReady` says when it serves. */
  start(): void {
    this.#endpoints?.start();
    this.#loop = this.#follow();
  }

  /** Resolves when it serves, or was stopped. */
  async waitReady(): Promise<void> {
    await this.#loading.promise;
    await this.#endpoints?.waitSynced(this.#stop.signal);
  }

  /** Ends all background work; the database stays open. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#loading.resolve();
    clearTimeout(this.#flushing);
    await this.#turn;
    await this.#store.stop();
    await this.#endpoints?.stop();
    await this.#loop;
  }

  /**
   * Runs a change in one transaction, one after another; when it resolves, the tables and their watchers have it.
   * Everything that it took in memory is given back when it fails.
   */
  change<R>(work: (change: ChangeTransaction) => Promise<R>): Promise<R> {
    const next = this.#turn.then(() => this.#changeNow(work));
    this.#turn = next.catch(() => {});
    return next;
  }

  async #changeNow<R>(work: (change: ChangeTransaction) => Promise<R>): Promise<R> {
    for (let tries = 1;; tries++) {
      const { sources, pools, assignments, assigner, tables, clock } = this;
      let change: ChangeTransaction | undefined;
      try {
        const result = await this.#store.transact(async (tx) => {
          // The counter is locked now: what another writer committed before is all there will be, and is read first.
          // (SQLite has one writer, whose one connection this transaction holds.)
          // What was pulled meanwhile counts only once it is taken in.
          if (this.#store.database.kind === "postgres" && tx.revision > this.#revision) {
            await this.#store.pull();
            this.sync();
          }
          change = new ChangeTransaction(tx, { sources, pools, assignments, assigner, tables, clock });
          const result = await work(change);
          await change.finish();
          return result;
        });
        this.sync();
        return result;
      } catch (error) {
        change?.undo();
        const conflict = (error as ProblemError).code === "DATABASE_CONFLICT";
        if (!conflict || tries >= CONFLICT_TRIES_MAX) throw error;
        // Another writer was first: with what it wrote the next try finds other numbers.
        await this.#store.pull();
        this.sync();
      }
    }
  }

  /** Brings the tables up to date with the stored objects, and tells the watchers. */
  sync(): void {
    const since = this.#revision;
    this.#revision = this.sources.revision;
    let poolsChanged = false;
    follow(this.#storedPools, since, () => this.pools.messages().map(({ name }) => name), (name, pool) => {
      this.pools.set(name, pool);
      poolsChanged = true;
    });
    const serviceNames = () => [...this.tables.entries()].map(({ name }) => name);
    follow(
      this.sources,
      since,
      () => [...serviceNames().map((name) => `Service/${name}`), ...this.tables.sliceNames()],
      (name, source) => this.#syncSource(name, source),
    );
    follow(this.pods, since, () => this.#podSources.putNames(), (name, pod) => this.#syncPod(name, pod));
    follow(this.#storedAssignments, since, serviceNames, (name, assignment) => {
      // Of the join: the assignments have what the change took already.
      const had = this.tables.entry(name)?.assignment?.loadBalancerIps.length ?? 0;
      poolsChanged ||= had + (assignment?.loadBalancerIps.length ?? 0) > 0;
      this.assignments.set(name, assignment, this.tables.entry(name)?.spec);
      this.tables.setAssignment(name, assignment);
    });
    const overridden = () =>
      [...this.tables.entries()].flatMap((entry) =>
        [...entry.overrides.keys()].map((address) => `${entry.name}/${address}`)
      );
    follow(this.overrides, since, overridden, (name, override) => {
      const at = name.lastIndexOf("/");
      this.tables.setOverride(name.slice(0, at), name.slice(at + 1), override);
    });
    if (poolsChanged) this.tables.recheckPools();
    this.#publish();
    if (poolsChanged) this.#publishPools();
  }

  #syncSource(name: string, source: Source | undefined): void {
    const slash = name.indexOf("/");
    const kind = name.slice(0, slash), object = name.slice(slash + 1);
    if (kind !== "Service") return this.tables.setSlice(name, source && this.#specOf<SliceSpec>(source));
    // The host ports of pods are services without a source.
    if (object.startsWith("hostport:")) return;
    const spec = source && this.#specOf<ServiceSpec>(source);
    // Who serves it is in its slices, also when that is nobody: the selector is for policies.
    const isOfKubernetes = source?.file.startsWith(KUBERNETES_FILE_MARK) === true;
    const ownSpec = spec && isOfKubernetes ? { ...spec, selector: undefined } : spec;
    this.tables.setService(object, ownSpec && { ...source!, spec: ownSpec, podSelector: spec!.selector });
    const assignment = this.assignments.get(object);
    if (assignment && spec) this.assignments.set(object, assignment, spec);
  }

  #syncPod(name: string, pod: Pod | undefined): void {
    this.#podSources.put(name, pod);
    const source = hostPortSource(pod), host = hostPortName(name);
    if (source !== undefined || this.tables.entry(host) !== undefined) this.tables.setService(host, source);
  }

  /** The stored spec, read anew from its manifest where another version stored it. */
  #specOf<T>(source: Source): T | undefined {
    if (source.specVersion === SPEC_VERSION) return JSON.parse(source.spec) as T;
    const { objects } = readManifests(source.manifest, {
      file: source.file,
      line: Math.max(1, source.line),
      namespace: source.namespace || undefined,
    });
    const found = objects.find((object) => `${object.kind}/${object.name}` === source.name);
    if (found === undefined) this.#log.error("Stored object cannot be read", { object: source.name });
    return found?.spec as T | undefined;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    await this.#store.start();
    if (signal.aborted) return;
    this.sync();
    this.assignments.loaded();
    this.#loaded = true;
    this.#loading.resolve();
    this.api.health.ok("tables", "in sync");
    while (!signal.aborted) {
      await this.sources.waitBeyond(this.#revision, signal);
      // Own changes sync themselves; what is left was written by another replica.
      await this.#turn;
      if (!signal.aborted && this.sources.revision !== this.#revision) this.sync();
    }
  }

  #flushing: ReturnType<typeof setTimeout> | undefined;

  /** Changes of endpoints come in bursts: those of one moment are told together. */
  #flushSoon(): void {
    if (this.#flushing !== undefined || this.#stop.signal.aborted) return;
    this.#flushing = setTimeout(() => {
      this.#flushing = undefined;
      if (this.ready) this.#publish();
    }, 1);
  }

  #publish(): void {
    this.tables.flush();
    const grown = this.tables.takeGrown();
    if (grown.size === 0) return;
    // A table that grew stays as large after a restart, so the size is stored; readers have it already.
    this.change((change) => change.storeTableSizes(grown)).catch((error) =>
      this.#log.warn("Cannot store table sizes", { error: errorText(error) })
    );
  }

  #publishPools(): void {
    const used = [...this.assignments.usedPoolIps()];
    const names = new Set<string>();
    for (const message of this.pools.messages()) {
      names.add(message.name);
      const usage = this.pools.usage(message.name, used);
      const conflict = this.pools.conflictOf(message.name);
      const conditions = conflict === "" ? [] : [{
        type: "Conflict",
        ok: false,
        reason: "RangesOverlap",
        message: `its ranges overlap with those of ${conflict}, which is older: it is not used`,
      }];
      const next = { ...message, status: { ...usage, conditions } };
      if (JSON.stringify(this.addressPools.get(message.name)) === JSON.stringify(next)) continue;
      this.addressPools.put(message.name, next);
    }
    for (const [name] of this.addressPools.entries()) if (!names.has(name)) this.addressPools.delete(name);
  }

  #measure(): void {
    const { metrics } = this.api;
    const { services, servicePorts, backends } = this.tables;
    metrics.gauge("weir_lb_services", "Services").collect(() => services.size);
    metrics.gauge("weir_lb_service_ports", "Service ports").collect(() => servicePorts.size);
    metrics.gauge("weir_lb_backends", "Backends of service ports").collect(() => backends.size);
    metrics.gauge("weir_lb_pods", "Pods that were put").collect(() => this.pods.size);
    metrics.gauge("weir_lb_service_port_ids_used", "Service port ids in use, of 65535")
      .collect(() => this.assignments.ids.used);
  }
}

/** Calls `set` for every object that changed since a revision; for all there are, and were, when that is not known. */
function follow<T>(
  table: WatchedTable<T>,
  since: number,
  known: () => Iterable<string>,
  set: (name: string, value: T | undefined) => void,
): void {
  const changes = since < 0 ? undefined : table.changesSince(since, Infinity);
  if (changes) {
    for (const { name, value } of changes) set(name, value);
    return;
  }
  for (const name of known()) if (!table.has(name)) set(name, undefined);
  for (const [name, value] of table.entries()) set(name, value);
}
