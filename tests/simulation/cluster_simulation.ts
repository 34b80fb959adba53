/** One run of the simulated cluster: what happens, in which order, is the seed's choice. @module */
import { Endpoint } from "@weir/proto/endpoint";
import { ApplyRequest, ApplyResponse, DeleteRequest } from "@weir/proto/policy";
import { ApplyRequest as ServicesRequest, ApplyResponse as ServicesResponse } from "@weir/proto/loadbalancer";
import { Invariants } from "./invariants.ts";
import { Choices, generator } from "./random.ts";
import { ADMIN, ALLOCATOR, BALANCER, ENGINE, type Fault, type SimulatedNode, World } from "./world.ts";

/** How one run goes. */
export interface ClusterOptions {
  /** Decides every choice; 32 bits. */
  seed: number;
  /** How many things happen. */
  steps: number;
  /** An empty folder for the databases. */
  folder: string;
  fault?: Fault;
  /** How many allocators and policy engines there are, on one database each. Default 1. */
  replicas?: number;
  /** Whether there are load balancers too, and services. Default false. */
  services?: boolean;
  /** Whether the allocator's database may be replaced by an older one or an empty one. Default true. */
  replacements?: boolean;
}

/** What one run showed. */
export interface ClusterResult {
  /** One line per step. */
  trace: string[];
  /** What does not hold, in the order found; empty when all is well. */
  violations: string[];
  /** How many connections were tried at the kernels, and how many of them did not pass. */
  tried: number;
  denied: number;
}

/** Time without faults after which everything must be as it should, milliseconds: holds of 60 s, graces, backoffs. */
const SETTLE_MS = 240_000;
const PREFIXES = ["198.51.100.0/24", "198.51.100.0/25", "198.51.100.128/25", "0.0.0.0/0"];
/** Exceptions of each prefix that rules may have. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  "198.51.100.0/24": ["198.51.100.0/25", "198.51.100.128/25", "198.51.100.192/26"],
  "198.51.100.0/25": ["198.51.100.0/26"],
  "198.51.100.128/25": ["198.51.100.192/26"],
  "0.0.0.0/0": ["198.51.100.0/24", "203.0.113.0/24", "198.51.100.0/25"],
};
const APPS = 5, POLICIES = 4, SERVICES = 3, ENDPOINTS_PER_NODE = 4;

/** Runs `steps` choices of `seed`, checks after each, heals, and checks again. Starts nothing that outlives it. */
export async function simulateCluster(options: ClusterOptions): Promise<ClusterResult> {
  const random = Math.random;
  Math.random = generator(options.seed); // backoffs take it
  try {
    return await new Run(options).run();
  } finally {
    Math.random = random;
  }
}

class Run {
  readonly #options: ClusterOptions;
  readonly #world: World;
  readonly #invariants: Invariants;
  readonly #choices: Choices;
  /** Of services: with or without them the other choices are the same. */
  readonly #serviceChoices: Choices;
  /** Of exceptions of prefixes: likewise. */
  readonly #exceptionChoices: Choices;
  readonly #trace: string[] = [];
  readonly #frozen = new Set<string>();

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#world = new World(options.seed, options.folder, options);
    this.#invariants = new Invariants(this.#world);
    this.#choices = new Choices(options.seed, "actions");
    this.#exceptionChoices = new Choices(options.seed, "exceptions");
    this.#serviceChoices = new Choices(options.seed, "services");
  }

  async run(): Promise<ClusterResult> {
    const { steps } = this.#options, world = this.#world, choices = this.#choices;
    const violations = this.#invariants.violations;
    try {
      await world.start();
      for (const node of world.nodes) this.#invariants.watch(node);
      world.network.faulty = true;
      for (let step = 0; step < steps && violations.length === 0; step++) {
        const isService = this.#options.services && this.#serviceChoices.below(8) === 0;
        const what = isService ? this.#service() : await this.#act();
        this.#trace.push(`${step} ${what}`);
        for (let look = 0; look < 2; look++) {
          await world.time.advance(choices.below(1_500));
          this.#invariants.check(`step ${step} (${what})`);
        }
      }
      if (violations.length === 0) {
        world.network.faulty = false;
        for (const name of this.#frozen) world.freeze(name, false);
        world.network.heal();
        for (const name of world.processes) world.endAtWrite(name, undefined);
        for (const name of world.crashed) await world.restart(name);
        for (let passed = 0; passed < SETTLE_MS; passed += 10_000) {
          await world.time.advance(10_000);
          this.#invariants.check(`${passed / 1000} s after healing`);
        }
        this.#invariants.checkSettled("settled");
      }
    } finally {
      await world.close();
    }
    const { tried, denied } = this.#invariants;
    return { trace: this.#trace, violations, tried, denied };
  }

  /** Does something and says what. */
  async #act(): Promise<string> {
    const world = this.#world, choices = this.#choices;
    for (const name of world.crashed) {
      if (choices.below(2) === 0) continue;
      this.#frozen.delete(name);
      await world.restart(name);
      return `restart ${name}, which ended at a write`;
    }
    const node = choices.pick(world.nodes), dice = choices.below(100);
    if (dice < 25) return this.#put(node);
    if (dice < 31) return this.#delete(node);
    if (dice < 48) return this.#policy();
    if (dice < 55) {
      const name = choices.pick(world.processes);
      this.#frozen.delete(name);
      await world.restart(name);
      return `restart ${name}`;
    }
    if (dice < 62) {
      const name = choices.pick(world.processes), frozen = !this.#frozen.has(name);
      world.freeze(name, frozen);
      if (frozen) this.#frozen.add(name);
      else this.#frozen.delete(name);
      return frozen ? `freeze ${name}` : `thaw ${name}`;
    }
    if (dice < 70) {
      const pair = this.#pair(), how = choices.pick(["refused", "silent"] as const);
      world.network.separate(...pair, how);
      return `separate ${pair.join(" and ")}, ${how}`;
    }
    if (dice < 77) {
      world.network.heal();
      return "heal";
    }
    if (dice < 81) {
      const pair = this.#pair();
      world.network.cutStreams(...pair);
      return `cut streams of ${pair.join(" and ")}`;
    }
    if (dice < 85 && this.#options.replacements !== false) return await this.#replace();
    if (dice < 89) {
      const name = choices.pick(world.processes), when = choices.pick(["before", "after"] as const);
      world.endAtWrite(name, when);
      return `${name} ends ${when} its next write`;
    }
    if (dice < 91) {
      const name = choices.pick(world.processes), s = choices.pick([-3600, -30, 30, 3600]);
      world.jump(name, s * 1000);
      return `the wall clock of ${name} jumps by ${s} s`;
    }
    const ms = choices.below(30_000);
    await world.time.advance(ms);
    return `${ms} ms pass`;
  }

  #put(node: SimulatedNode): string {
    const name = `default/pod-${node.name}-${this.#choices.below(ENDPOINTS_PER_NODE)}`;
    const label = `k8s:app=${this.#choices.below(APPS)}`;
    // A process that hangs answers nobody; what is not done by then shows in the end.
    if (!node.process.frozen && !node.process.dead) {
      const endpoint = Endpoint.create({ name, netns: `/run/netns/${name.slice(8)}`, labels: [label] });
      void node.manager.put(name, endpoint).catch(() => {});
    }
    return `put ${name} ${label}`;
  }

  #delete(node: SimulatedNode): string {
    const names = [...node.manager.table.workloads()].map(({ spec }) => spec.name).sort();
    if (names.length === 0) return "delete nothing";
    const name = this.#choices.pick(names);
    if (!node.process.frozen && !node.process.dead) void node.manager.delete(name).catch(() => {});
    return `delete ${name}`;
  }

  #policy(): string {
    const choices = this.#choices, name = `policy-${choices.below(POLICIES)}`;
    const direction = choices.pick(["ingress", "egress"] as const);
    const word = direction === "ingress" ? "from" : "to", isOutside = choices.below(3) === 0;
    const peers = isOutside ? this.#outside(word) : { [`${word}Endpoints`]: [this.#selector()] };
    const ports = choices.pick([{}, { toPorts: [{ ports: [{ port: "80", protocol: "TCP" }] }] }]);
    const section = choices.pick([direction, `${direction}Deny`]);
    const spec: Record<string, unknown> = {
      endpointSelector: this.#selector(),
      [section]: [{ ...peers, ...ports }],
    };
    // A deny alone closes everything; with an allow beside it the deny must win over something.
    if (section.endsWith("Deny")) {
      spec[direction] = [isOutside ? { [`${word}Entities`]: ["all"] } : { [`${word}Endpoints`]: [{}] }];
    }
    const isDeletion = choices.below(4) === 0;
    const manifest = JSON.stringify({
      apiVersion: "cilium.io/v2",
      kind: "CiliumNetworkPolicy",
      metadata: { name },
      spec,
    });
    const client = this.#world.client(this.#world.admin, ENGINE);
    void (isDeletion
      ? client.call("/v1/policies:delete", {
        request: { message: DeleteRequest, value: { manifest } },
        response: ApplyResponse,
      })
      : client.call("/v1/policies:apply", {
        request: { message: ApplyRequest, value: { manifest } },
        response: ApplyResponse,
      })).catch(() => {});
    return `${isDeletion ? "delete" : "apply"} ${isDeletion ? name : manifest}`;
  }

  #outside(word: string): Record<string, unknown> {
    const cidr = this.#choices.pick(PREFIXES), exceptions = this.#exceptionChoices;
    if (exceptions.below(3) > 0) return { [`${word}CIDR`]: [cidr] };
    return { [`${word}CIDRSet`]: [{ cidr, except: [exceptions.pick(EXCEPTIONS[cidr])] }] };
  }

  #service(): string {
    const choices = this.#serviceChoices, name = `service-${choices.below(SERVICES)}`;
    const manifest = JSON.stringify({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "default" },
      spec: { selector: { app: `${choices.below(APPS)}` }, ports: [{ port: 80, protocol: "TCP" }] },
    });
    const isDeletion = choices.below(4) === 0;
    void this.#world.client(this.#world.admin, BALANCER).call(
      `/v1/services:${isDeletion ? "delete" : "apply"}`,
      {
        request: { message: ServicesRequest, value: { manifest } },
        response: ServicesResponse,
      },
    ).catch(() => {});
    return `${isDeletion ? "delete" : "apply"} ${isDeletion ? name : manifest}`;
  }

  #selector(): Record<string, unknown> {
    const app = this.#choices.below(APPS + 1);
    return app === APPS ? {} : { matchLabels: { app: `${app}` } };
  }

  #pair(): [string, string] {
    const nodes = this.#world.nodes.map(({ name }) => name);
    const { replicas } = this.#world;
    const [allocators, engines, balancers] = [replicas[ALLOCATOR], replicas[ENGINE], replicas[BALANCER]];
    const from = this.#choices.pick([...nodes, ...engines, ...balancers, ADMIN]);
    const to = this.#choices.pick(
      engines.includes(from) || balancers.includes(from)
        ? allocators
        : from === ADMIN
        ? [...engines, ...balancers]
        : [...allocators, ...engines, ...balancers],
    );
    return [from, to];
  }

  async #replace(): Promise<string> {
    const how = this.#choices.pick(["copy", "older", "empty"] as const);
    if (how === "copy") {
      await this.#world.copyAllocatorDatabase();
      return "copy the allocator's database";
    }
    for (const name of this.#world.replicas[ALLOCATOR]) this.#frozen.delete(name);
    this.#invariants.replaced();
    await this.#world.replaceAllocatorDatabase(how);
    return `the allocator's database is ${how}`;
  }
}
