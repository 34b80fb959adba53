/** Names, prefixes and policies come and go, whatever restarts: every write to the kernel is judged by an evaluator of its own. */
import assert from "node:assert/strict";
import { IDENTITY_WORLD_IPV4, IpAddress, MapState as Lookup, Prefix } from "@weir/common";
import { compileNamePattern } from "@weir/l7-rules";
import { Endpoint, LearnedNames } from "@weir/proto/endpoint";
import { FqdnSelector, MapState, MapStateEntry } from "@weir/proto/policy";
import { TestNode } from "../testing.ts";

const SUBJECT = 256, ENDPOINT = "default/a";
/** Addresses of these tests, and ports of their policies. */
const ADDRESSES = ["198.51.100.7", "198.51.100.8", "198.51.7.1", "203.0.113.7"], PORTS = [80, 443];
const PREFIXES = ["198.51.0.0/16", "198.51.100.0/24", "198.51.100.7/32"];
const NAMES = ["www.example.com", "api.example.com", "example.org"];
const SELECTORS = ["*.example.com", "www.*.com", "example.org", "*"];

const prefixIdentity = (prefix: string) => 0x100_0001 + PREFIXES.indexOf(prefix);
const selectorOf = (pattern: string) =>
  FqdnSelector.create({
    name: `matchPattern:${pattern}`,
    matchPattern: pattern,
    identity: 0x100_1001 + SELECTORS.indexOf(pattern),
  });

/** A rule of a policy: of a prefix, the world or names, on a port or all. */
interface Rule {
  readonly remote: string;
  readonly port: number;
  readonly deny: boolean;
}
const isNames = ({ remote }: Rule) => SELECTORS.includes(remote);
const identityOf = ({ remote }: Rule) =>
  remote === "world"
    ? IDENTITY_WORLD_IPV4
    : SELECTORS.includes(remote)
    ? selectorOf(remote).identity
    : prefixIdentity(remote);

/** What an engine makes of rules: prefixes inside of one that a rule means are meant too. */
function mapStateOf(rules: readonly Rule[], revision: number): MapState {
  const prefixes = prefixesOf(rules);
  const entries: MapStateEntry[] = [];
  for (const rule of rules) {
    const means = isNames(rule)
      ? [identityOf(rule)]
      : rule.remote === "world"
      ? [IDENTITY_WORLD_IPV4, ...prefixes.map(prefixIdentity)]
      : prefixes.filter((prefix) => Prefix.parse(rule.remote).contains(Prefix.parse(prefix))).map(
        prefixIdentity,
      );
    for (const identity of means) {
      entries.push(MapStateEntry.create({
        direction: "EGRESS",
        identity,
        protocol: rule.port === 0 ? 0 : 6,
        port: rule.port,
        portPrefixLength: rule.port === 0 ? 0 : 16,
        deny: rule.deny,
        precedence: rule.deny ? 2 : 1,
        cookie: 1,
      }));
    }
  }
  return MapState.create({
    identity: SUBJECT,
    policyRevision: revision,
    enforceEgress: true,
    // As the engine gives them: each key once.
    entries: Lookup.of(MapState.create({ enforceEgress: true, entries })).entries as MapStateEntry[],
    selfDescribed: true,
    silent: prefixes.map(prefixIdentity),
    fqdnSelectors: [...new Set(rules.filter(isNames).map(({ remote }) => remote))].map(selectorOf),
  });
}
const prefixesOf = (rules: readonly Rule[]) =>
  PREFIXES.filter((prefix) => rules.some(({ remote }) => remote === prefix));

/** The slow, obvious evaluator: a deny wins, else any rule allows. */
function allows(rules: readonly Rule[], names: readonly string[], address: string, port: number): boolean {
  const meant = rules.filter((rule) => {
    if (rule.port !== 0 && rule.port !== port) return false;
    if (rule.remote === "world") return true;
    if (isNames(rule)) return names.some(compileNamePattern(rule.remote));
    return Prefix.parse(rule.remote).contains(IpAddress.parse(address));
  });
  return meant.length > 0 && !meant.some(({ deny }) => deny);
}

/** Numbers in [0, 1) that a seed reproduces. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Bench implements AsyncDisposable {
  readonly node = new TestNode();
  rules: readonly Rule[] = [];
  /** Rules that may be in force as well: those of before, until everything has come to rest. */
  readonly others: (readonly Rule[])[] = [];
  readonly known = new Map<string, Set<string>>();
  readonly wrong: string[] = [];
  #revision = 1;

  async start(rules: readonly Rule[]): Promise<this> {
    await this.node.start();
    this.publish(rules);
    await this.node.manager.put(
      ENDPOINT,
      Endpoint.create({ name: ENDPOINT, netns: "/run/netns/a", labels: ["k8s:app=a"] }),
    );
    await this.node.settle();
    this.others.length = 0;
    this.node.neighbours.onKernel = () => this.#check();
    return this;
  }

  get id(): number {
    return this.node.manager.table.get(ENDPOINT)!.status.id;
  }

  publish(rules: readonly Rule[], prefixesFirst = true): void {
    this.others.push(this.rules);
    this.rules = rules;
    const { cidrTable, mapStateTable } = this.node.neighbours, prefixes = prefixesOf(rules);
    const tellPrefixes = () => {
      for (const name of [...cidrTable.rows.keys()]) if (!prefixes.includes(name)) cidrTable.delete(name);
      for (const prefix of prefixes) {
        if (!cidrTable.rows.has(prefix)) {
          cidrTable.put(prefix, { prefix, identity: prefixIdentity(prefix), labels: [] });
        }
      }
      cidrTable.beat();
    };
    if (prefixesFirst) tellPrefixes();
    mapStateTable.put(`${SUBJECT}`, mapStateOf(rules, ++this.#revision));
    mapStateTable.beat();
    if (!prefixesFirst) tellPrefixes();
  }

  async learn(name: string, addresses: readonly string[], ttlS = 600): Promise<void> {
    for (const address of addresses) {
      if (!this.known.has(address)) this.known.set(address, new Set());
      this.known.get(address)!.add(name);
    }
    const learned = LearnedNames.create({
      names: [{ endpoint: this.id, name, addresses: [...addresses], ttlS }],
    });
    await this.node.manager.names.learn(learned);
  }

  passes(address: string, port: number): boolean {
    const { kernel, kernelPolicies, kernelIpcache } = this.node.neighbours;
    let identity = IDENTITY_WORLD_IPV4, longest = -1;
    for (const [text, of] of kernelIpcache) {
      const prefix = Prefix.parse(text);
      if (prefix.length > longest && prefix.contains(IpAddress.parse(address))) {
        [identity, longest] = [of, prefix.length];
      }
    }
    const policy = kernelPolicies.get(kernel.get(ENDPOINT)!.policy)!;
    return Lookup.of(MapState.create(policy)).lookup(identity, "EGRESS", 6, port).allowed;
  }

  /** Now that all has come to rest: exactly what the rules say. */
  assertSettled(what: string): void {
    for (const address of ADDRESSES) {
      for (const port of PORTS) {
        const names = [...this.known.get(address) ?? []];
        assert.equal(
          this.passes(address, port),
          allows(this.rules, names, address, port),
          `${what}: ${address}:${port}`,
        );
      }
    }
    assert.deepEqual(this.wrong, [], what);
    this.others.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
  }

  /** At a write of the kernel: what all rules that may be in force deny is closed, what they all allow with no name is open. */
  #check(): void {
    for (const address of ADDRESSES) {
      for (const port of PORTS) {
        const names = [...this.known.get(address) ?? []], sets = [this.rules, ...this.others];
        const passes = this.passes(address, port);
        if (passes && !sets.some((rules) => allows(rules, names, address, port))) {
          this.wrong.push(`${address}:${port} passes`);
        }
        if (
          !passes &&
          sets.every((rules) => allows(rules, [], address, port) && allows(rules, names, address, port))
        ) {
          this.wrong.push(`${address}:${port} does not pass`);
        }
      }
    }
  }
}

const RESTARTS: Record<string, (bench: Bench) => Promise<void>> = {
  "nothing": async () => {},
  "the endpoint manager": async ({ node }) => void await node.restart(),
  "the datapath": async ({ node }) => {
    node.neighbours.restartDatapath();
    node.neighbours.forgetPolicies();
    node.neighbours.reconnect();
    await node.settle();
  },
  "both": async ({ node }) => {
    node.neighbours.restartDatapath();
    node.neighbours.forgetPolicies();
    node.neighbours.datapathTable.epoch = node.neighbours.datapathEpoch;
    await node.restart();
  },
};

const seed0 = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 1);
/** In each run: 398353382 has an address that hides a prefix of its own when the manager ends. */
const SEEDS = new Set([...Array.from({ length: 12 }, (_, at) => seed0 + at), 398353382]);

for (const [what, restart] of Object.entries(RESTARTS)) {
  Deno.test(`names, prefixes and policies at random, ${what} restarts: each write is between what was and what is to be`, async () => {
    for (const seed of SEEDS) {
      const next = random(seed), pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)];
      const rules = () =>
        Array.from({ length: 1 + Math.floor(next() * 5) }, (): Rule => {
          const remote = pick(["world", ...PREFIXES, ...SELECTORS, ...SELECTORS]);
          return { remote, port: pick([0, ...PORTS]), deny: !SELECTORS.includes(remote) && next() < 0.4 };
        });
      await using bench = await new Bench().start(rules());
      bench.assertSettled(`seed ${seed} at the start`);
      for (let step = 0; step < 6; step++) {
        const name = pick(NAMES), addresses = ADDRESSES.filter(() => next() < 0.5);
        // Whoever asks a process that ends meanwhile asks the next one.
        void bench.learn(name, addresses).catch(() => {});
        if (next() < 0.6) bench.publish(rules(), next() < 0.5);
        if (next() < 0.4) await restart(bench);
        await bench.node.settle();
        void bench.learn(name, addresses).catch(() => {});
        await bench.node.settle();
        await bench.node.pass(20_000);
        bench.assertSettled(`seed ${seed}, step ${step}, rules ${JSON.stringify(bench.rules)}`);
      }
    }
  });
}
