/**
 * A cluster in one process: the real identity allocator, policy engine and endpoint managers, over a simulated network, with
 * kernels in memory and time that passes only when the simulation says so.
 * @module
 */
import { sql } from "kysely";
import { ApiServer, isKnownPage } from "@weir/common";
import { Database } from "@weir/common/state";
import { type ClientOptions, WeirClient } from "@weir/client";
import { createIdentityAllocator, type IdentityAllocator } from "@weir/identity-allocator";
import { createPolicyEngine, type PolicyEngine } from "@weir/policy-engine";
import { createLoadBalancer, type LoadBalancer } from "@weir/load-balancer";
import {
  type Datapath,
  EndpointManager,
  httpDirectory,
  httpPolicySource,
  httpServiceSource,
  type PolicySource,
} from "@weir/endpoint-manager";
import { MapState } from "@weir/proto/policy";
import { FakeDisk, TEST_CONFIG } from "../../services/endpoint-manager/testing.ts";
import { ModelDatapath } from "./model_datapath.ts";
import { Network, type SimulatedProcess } from "./network.ts";
import { Choices } from "./random.ts";
import { VirtualTime } from "./virtual_time.ts";

/**
 * A wrong world on purpose, to show that the checks notice it: nodes that take a policy which they do not know for "none", or
 * that never say which addresses they have no more, or that never take a backend out of their kernel, or whose policies cover no
 * prefix that they do not know, or that hear of no known identities and so let every address in at once.
 */
export type Fault =
  | "unknown-policy-is-open"
  | "deletions-are-kept-secret"
  | "backends-stay"
  | "nothing-is-covered"
  | "addresses-do-not-wait";

export const ALLOCATOR = "identity-allocator", ENGINE = "policy-engine", ADMIN = "admin";
export const BALANCER = "load-balancer";
const NODES = 3;

/** What a world is made of. */
export interface WorldOptions {
  fault?: Fault;
  /** How many allocators, policy engines and load balancers there are, on one database each. Default 1. */
  replicas?: number;
  /** Whether there are load balancers. Default false. */
  services?: boolean;
}

/** What nodes' clients have beside those of services. */
type NodeClientOptions = Pick<ClientOptions, "joint" | "headers">;

/** What of a node outlives its processes, and the endpoint manager that runs. */
export interface SimulatedNode {
  readonly name: string;
  readonly disk: FakeDisk;
  readonly datapath: ModelDatapath;
  process: SimulatedProcess;
  manager: EndpointManager;
}

/** See the top of the file. */
export class World {
  readonly time: VirtualTime = new VirtualTime();
  readonly network: Network;
  readonly nodes: SimulatedNode[] = [];
  /** Whoever applies policies. */
  readonly admin: SimulatedProcess = { name: ADMIN, frozen: false, dead: false };
  /** By the names of their processes. */
  readonly allocators = new Map<string, IdentityAllocator>();
  readonly engines = new Map<string, PolicyEngine>();
  /** Empty: there are no services. */
  readonly balancers = new Map<string, LoadBalancer>();
  /** The names of a service's replicas, all on one database. */
  readonly replicas: Readonly<Record<string, readonly string[]>>;
  readonly #seed: number;
  readonly #folder: string;
  readonly #fault: Fault | undefined;
  readonly #running = new Map<string, { process: SimulatedProcess; end: () => Promise<void> }>();
  readonly #allocatorDatabases = new Map<string, Database>();
  /** How far the wall clocks of machines are ahead, by process. */
  readonly #aheadMs = new Map<string, number>();
  #copies = 0;
  #lives = 0;

  constructor(seed: number, folder: string, { fault, replicas = 1, services = false }: WorldOptions = {}) {
    const names = (service: string) =>
      Array.from({ length: replicas }, (_, index) => index === 0 ? service : `${service}-${index + 1}`);
    this.replicas = {
      [ALLOCATOR]: names(ALLOCATOR),
      [ENGINE]: names(ENGINE),
      [BALANCER]: services ? names(BALANCER) : [],
    };
    this.#seed = seed;
    this.#folder = folder;
    this.#fault = fault;
    this.network = new Network(this.time, seed);
    this.network.join(this.admin);
  }

  /** Starts every process and waits until the nodes are registered. */
  async start(): Promise<void> {
    for (const name of this.replicas[ALLOCATOR]) await this.startAllocator(name);
    for (const name of this.replicas[ENGINE]) await this.startEngine(name);
    for (const name of this.replicas[BALANCER]) await this.startBalancer(name);
    for (let index = 1; index <= NODES; index++) {
      const node = {
        name: `node-${index}`,
        disk: new FakeDisk(),
        datapath: new ModelDatapath(this.time),
      } as SimulatedNode;
      this.nodes.push(node);
      await this.startNode(node);
    }
    await this.time.advance(5_000);
  }

  /** A client of `service`, wherever it runs, for `process`. */
  client(process: SimulatedProcess, service: string, options: NodeClientOptions = {}): WeirClient {
    const clock = this.time.clock(process), places = this.replicas[service];
    const first = new Choices(this.#seed, `${process.name} ${service} ${this.#lives}`).below(places.length);
    const url = places.map((place) => `http://${place}`).join(",");
    const ask = async (url: string, init: RequestInit) => {
      const { signal } = init;
      const answered = this.network.link(process, new URL(url).hostname)(
        new Request(url, { ...init, signal: null }),
      );
      const answer = await orAborted(Promise.resolve(answered), signal);
      if (!signal || answer.body === null) return answer;
      return new Response(answer.body.pipeThrough(new TransformStream(), { signal }), answer);
    };
    return new WeirClient({ url, clock, first, fetch: ask }, { clock, ...options });
  }

  async startAllocator(name: string): Promise<void> {
    const process = this.#process(name), clock = this.time.clock(process);
    const database = this.#database(process, this.#allocatorFile);
    this.#allocatorDatabases.set(name, database);
    const allocator = createIdentityAllocator({
      database,
      clock,
      api: new ApiServer({ name: ALLOCATOR, clock }),
      random: new Choices(this.#seed, `allocator ${this.#lives}`).next,
    });
    // The other replica may hold the database, and stand still.
    await allocator.start({ wait: false });
    this.allocators.set(name, allocator);
    process.handler = allocator.api.fetch;
    this.#run(process, async () => {
      await allocator.stop();
      await database.close();
    });
  }

  // deno-lint-ignore require-await
  async startEngine(name: string): Promise<void> {
    const process = this.#process(name), clock = this.time.clock(process);
    const database = this.#database(process, `${this.#folder}/policy.db`);
    const engine = createPolicyEngine({
      database,
      clock,
      allocator: this.client(process, ALLOCATOR),
    });
    engine.start();
    this.engines.set(name, engine);
    process.handler = engine.handler;
    this.#run(process, async () => {
      await engine.stop();
      await database.close();
    });
  }

  // deno-lint-ignore require-await
  async startBalancer(name: string): Promise<void> {
    const process = this.#process(name), clock = this.time.clock(process);
    const database = this.#database(process, `${this.#folder}/load-balancer.db`);
    const balancer = createLoadBalancer({
      database,
      clock,
      api: new ApiServer({ name: BALANCER, clock }),
      identityAllocator: this.client(process, ALLOCATOR),
    });
    balancer.start();
    this.balancers.set(name, balancer);
    process.handler = balancer.handler;
    this.#run(process, async () => {
      await balancer.stop();
      await database.close();
    });
  }

  async startNode(node: SimulatedNode): Promise<void> {
    const process = node.process = this.#process(node.name);
    const write = <R>(action: () => Promise<R>) => this.network.write(process, action);
    const attached = node.datapath.attach(process, write);
    // As nodes have them: one stream of each service.
    const directory = httpDirectory(this.client(process, ALLOCATOR, { joint: true }), node.name);
    const engine = this.client(process, ENGINE, { joint: true, headers: () => manager.evidence() });
    const policy = httpPolicySource(engine, node.name);
    const manager: EndpointManager = node.manager = new EndpointManager({
      config: { ...TEST_CONFIG, nodeName: node.name, nodeIpv4: `192.0.2.${this.nodes.indexOf(node) + 1}` },
      directory: this.#fault === "deletions-are-kept-secret"
        ? { ...directory, announce: (upserts) => directory.announce(upserts, []) }
        : directory,
      policy: this.#fault === "unknown-policy-is-open"
        ? withMapStates(policy, (state, name) => state ?? MapState.create({ identity: Number(name) }))
        : this.#fault === "nothing-is-covered"
        ? withMapStates(policy, withoutPrefixes())
        : this.#fault === "addresses-do-not-wait"
        ? withoutPages(policy)
        : policy,
      services: this.replicas[BALANCER].length > 0
        ? httpServiceSource(this.client(process, BALANCER, { joint: true }))
        : undefined,
      datapath: this.#fault === "backends-stay" ? keepBackends(attached) : attached,
      store: {
        load: () => node.disk.load(),
        save: (endpoint, current) => write(() => node.disk.save(endpoint, current)),
        markDeleting: (endpoint) => write(() => node.disk.markDeleting(endpoint)),
        remove: (endpoint) => write(() => node.disk.remove(endpoint)),
      },
      policySetStore: {
        load: () => node.disk.policySetStore.load(),
        save: (newest) => write(() => node.disk.policySetStore.save(newest)),
      },
      nodeStore: {
        load: () => node.disk.nodeStore.load(),
        save: (kept) => write(() => node.disk.nodeStore.save(kept)),
        loadLastGiven: () => node.disk.nodeStore.loadLastGiven(),
        saveLastGiven: (addresses) => write(() => node.disk.nodeStore.saveLastGiven(addresses)),
      },
      clock: this.time.clock(process),
    });
    this.#run(process, () => manager.stop());
    await manager.start();
  }

  /** Ends a process, whatever it is doing, and starts another one in its place. */
  async restart(name: string): Promise<void> {
    await this.end(name);
    if (this.replicas[ALLOCATOR].includes(name)) await this.startAllocator(name);
    else if (this.replicas[ENGINE].includes(name)) await this.startEngine(name);
    else if (this.replicas[BALANCER].includes(name)) await this.startBalancer(name);
    else await this.startNode(this.nodes.find((node) => node.name === name)!);
  }

  /** Processes that ended by themselves, at a write. */
  get crashed(): string[] {
    return this.processes.filter((name) => this.#running.get(name)!.process.dead);
  }

  /** The next write of the process is its last. */
  endAtWrite(name: string, when: "before" | "after" | undefined): void {
    this.#running.get(name)!.process.endsAtWrite = when;
  }

  /** The wall clock of the process jumps. */
  jump(name: string, ms: number): void {
    const { process } = this.#running.get(name)!;
    process.aheadMs = (process.aheadMs ?? 0) + ms;
    this.#aheadMs.set(name, process.aheadMs);
  }

  /** Ends a process. */
  async end(name: string): Promise<void> {
    const { process, end } = this.#running.get(name)!;
    this.#running.delete(name);
    this.network.leave(process);
    // Some of it waits for what never comes: that is what being dead means.
    let isOver = false;
    void end().catch(() => {}).finally(() => isOver = true);
    for (let turn = 0; turn < 20 && !isOver; turn++) await this.time.settle();
  }

  /** The process stands still, or goes on. */
  freeze(name: string, frozen: boolean): void {
    const running = this.#running.get(name);
    if (running) running.process.frozen = frozen;
    this.network.changed();
  }

  get processes(): string[] {
    return [...this.#running.keys()].sort();
  }

  /** Keeps a copy of the allocator's database as it is now. */
  async copyAllocatorDatabase(): Promise<void> {
    const file = `${this.#folder}/copy-${this.#copies++}.db`;
    const [database] = this.#allocatorDatabases.values();
    await database.query((db) => sql`vacuum into ${sql.lit(file)}`.execute(db));
  }

  /** Replaces the allocators' database by the newest copy, or by nothing, and starts them on it. */
  async replaceAllocatorDatabase(how: "older" | "empty"): Promise<void> {
    for (const name of this.replicas[ALLOCATOR]) await this.end(name);
    for (const suffix of ["", "-wal", "-shm"]) {
      await Deno.remove(this.#allocatorFile + suffix).catch(() => {});
    }
    if (how === "older" && this.#copies > 0) {
      await Deno.copyFile(`${this.#folder}/copy-${this.#copies - 1}.db`, this.#allocatorFile);
    }
    for (const name of this.replicas[ALLOCATOR]) await this.startAllocator(name);
  }

  /** Ends everything. */
  async close(): Promise<void> {
    this.network.heal();
    for (const name of this.processes) await this.end(name);
    this.network.leave(this.admin);
  }

  get #allocatorFile(): string {
    return `${this.#folder}/allocator.db`;
  }

  /** A database in which nothing of a dead process is written. */
  #database(process: SimulatedProcess, file: string): Database {
    const database = new Database(`sqlite:${file}`, { clock: this.time.clock(process) });
    const transaction = database.transaction.bind(database);
    database.transaction = (action) => this.network.write(process, () => transaction(action));
    return database;
  }

  #process(name: string): SimulatedProcess {
    this.#lives++;
    return { name, frozen: false, dead: false, aheadMs: this.#aheadMs.get(name) };
  }

  #run(process: SimulatedProcess, end: () => Promise<void>): void {
    this.#running.set(process.name, { process, end });
    this.network.join(process);
  }
}

/** A mistake that the checks must notice. */
function keepBackends(datapath: Datapath): Datapath {
  return {
    ...datapath,
    updateServices: (update) => datapath.updateServices({ ...update, deletedBackends: [] }),
  };
}

/** The promise's value, unless the signal is aborted before. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | null | undefined): Promise<T> {
  if (!signal) return await promise;
  promise.catch(() => {});
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Map states as of an engine that does not say which prefixes it knows. One is one object. */
function withoutPrefixes(): (state: MapState | undefined) => MapState | undefined {
  const made = new WeakMap<MapState, MapState>();
  return (state) => {
    if (!state) return undefined;
    let other = made.get(state);
    if (!other) made.set(state, other = { ...state, selfDescribed: false });
    return other;
  };
}

/** The map states of an engine that has no pages of known identities. */
function withoutPages(source: PolicySource): PolicySource {
  return {
    ...source,
    mapStates: (listener) =>
      source.mapStates({
        ...listener,
        onChange: (name, ...change) => isKnownPage(name) ? undefined : listener.onChange(name, ...change),
      }),
  };
}

/** Map states that are others to their reader. */
function withMapStates(
  source: PolicySource,
  change: (state: MapState | undefined, name: string) => MapState | undefined,
): PolicySource {
  return {
    cidrs: source.cidrs,
    acknowledge: source.acknowledge,
    mapStates(listener) {
      const mirror = source.mapStates(listener);
      return {
        get synced() {
          return mirror.synced;
        },
        get error() {
          return mirror.error;
        },
        get lastHeardMs() {
          return mirror.lastHeardMs;
        },
        get position() {
          return mirror.position;
        },
        values: () => mirror.values(),
        get: (name) => change(mirror.get(name), name),
        setNames: (names) => mirror.setNames(names),
        knows: (name) => mirror.knows(name),
        [Symbol.dispose]: () => mirror[Symbol.dispose](),
      };
    },
  };
}
