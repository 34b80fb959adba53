/** What must hold in the simulated cluster: at any moment, and when it was left alone for a while. @module */
import { IpAddress } from "@weir/common";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import type { Identity } from "@weir/proto/identity";
import { type Manifest, oracleAllows } from "../conformance/oracle.ts";
import type { SimulatedNode, World } from "./world.ts";

/** Addresses outside the cluster that are tried. */
const OUTSIDE = ["198.51.100.7", "198.51.100.200", "203.0.113.9"].map((text) => IpAddress.parse(text));
/** Ports that are tried. */
const PORTS = [80, 443];
const DIRECTIONS = ["INGRESS", "EGRESS"] as const;
/** Identities of pods; below are fixed ones, above prefixes of policies. */
const POD_IDENTITY_MIN = 256, POD_IDENTITY_MAX = 2 ** 24 - 1;

/** Watches a world; remembers what its history says. */
export class Invariants {
  /** What does not hold, in the order found. */
  readonly violations: string[] = [];
  /** How many connections were tried, and how many of them did not pass. */
  tried = 0;
  denied = 0;
  readonly #world: World;
  /** Policies by revision of the policy set. */
  readonly #sets = new Map<number, Manifest[]>();
  /** Revision of the table of policies at which each set was seen last. */
  readonly #seen = new Map<number, number>();
  /** Newest revision that each node said is in force. */
  readonly #acknowledged = new Map<string, number>();
  /** Every label set that a number stood for. */
  readonly #labels = new Map<number, Set<string>>();
  /** The same as it was when numbers were judged. */
  readonly #owners = new Map<number, Set<string>>();
  readonly #numbers = new Map<string, number>();
  /** Identities whose policy the engine has published. */
  readonly #known = new Set<number>();
  /** Revision at which each allocator's table was seen last. */
  readonly #seenNumbers = new WeakMap<object, number>();
  readonly #verdicts = new Map<string, boolean>();
  readonly #told = new Set<string>();
  /** The allocator's database was replaced: numbers may differ until everything has settled. */
  #isReplaced = false;

  constructor(world: World) {
    this.#world = world;
    world.time.onTurn = () => {
      this.#observeSets();
      this.#observeLabels();
    };
  }

  /** Compares after every single change of the node's kernel: what holds only now and then does not hold. */
  watch(node: SimulatedNode): void {
    node.datapath.onWrite = () => {
      if (this.violations.length > 0) return;
      this.#observe();
      for (const endpoint of node.datapath.endpoints.rows.values()) {
        this.#checkEndpoint("a write", node, endpoint);
      }
    };
  }

  /** From now on the allocator may have forgotten. */
  replaced(): void {
    this.#isReplaced = true;
  }

  /** Notes what there is and compares. */
  check(when: string): void {
    this.#observe(when);
    for (const node of this.#world.nodes) {
      for (const endpoint of node.datapath.endpoints.rows.values()) this.#checkEndpoint(when, node, endpoint);
    }
  }

  /** What must hold after a time without faults. */
  checkSettled(when: string): void {
    this.check(when);
    const { nodes, allocators } = this.#world;
    const wanted = new Map<string, number>(),
      labelsOf = new Map<number, string>(),
      numberOf = new Map<string, number>();
    for (const { name, manager, datapath } of nodes) {
      const running = new Map([...manager.table.workloads()].map((w) => [w.spec.name, w]));
      for (const [endpoint, { status, deleting }] of running) {
        if (status.state !== "READY") {
          this.#note(when, `${name}: ${endpoint} is ${deleting ? "being deleted" : status.state}`);
        }
        const labels = [...status.identityLabels].sort().join(), { identity } = status;
        if ((labelsOf.get(identity) ?? labels) !== labels) {
          this.#note(when, `number ${identity} stands for two label sets`);
        }
        if ((numberOf.get(labels) ?? identity) !== identity) this.#note(when, `${labels} has two numbers`);
        labelsOf.set(identity, labels);
        numberOf.set(labels, identity);
        if (status.ipv4) wanted.set(`${status.ipv4}/32`, identity);
        if (status.ipv6) wanted.set(`${status.ipv6}/128`, identity);
        if (datapath.endpoints.rows.get(endpoint)?.identity !== identity) {
          this.#note(when, `${name}: the kernel has another identity of ${endpoint} than ${identity}`);
        }
        for (const [replica, { identities }] of allocators) {
          const given = identities.get(`${identity}`);
          if (!given || [...given.labels].sort().join() !== labels) {
            this.#note(when, `${name}: the ${replica} does not have ${identity} for ${endpoint}`);
          }
        }
      }
      for (const endpoint of datapath.endpoints.rows.keys()) {
        if (!running.has(endpoint)) this.#note(when, `${name}: the kernel still has ${endpoint}`);
      }
    }
    for (const [replica, { ipcache }] of allocators) {
      const told = new Map([...ipcache.list()].map(({ prefix, identity }) => [prefix, identity]));
      this.#same(when, `ipcache of ${replica}`, podsOf(told), wanted);
    }
    for (const { name, datapath } of nodes) {
      this.#same(when, `${name}: the kernel's ipcache`, podsOf(datapath.ipcache), wanted);
    }
    this.#checkServices(when);
    const newest = Math.max(...[...this.#world.engines.values()].map(({ store }) => store.policyRevision));
    for (const [replica, { store, inForce, ready }] of this.#world.engines) {
      if (!ready || store.policyRevision !== newest) {
        this.#note(
          when,
          `${replica} is ${ready ? "" : "not "}ready with policy set ${store.policyRevision} of ${newest}`,
        );
      }
      for (const { node, policyRevision } of inForce.list()) {
        if (policyRevision !== newest) {
          this.#note(
            when,
            `${replica}: ${node} has policy set ${policyRevision} in force, newest is ${newest}`,
          );
        }
      }
    }
  }

  /** Every node serves what every load balancer says, and each service has the pods that its selector means. */
  #checkServices(when: string): void {
    const pods = new Map<string, string[]>();
    for (const { manager } of this.#world.nodes) {
      for (const { spec, status } of manager.table.workloads()) {
        for (const label of spec.labels) pods.set(label, [...(pods.get(label) ?? []), status.ipv4]);
      }
    }
    for (const [replica, { tables }] of this.#world.balancers) {
      const names = new Map<number, string>(), wanted = new Set<string>();
      for (const { name, ports, manifest } of tables.services.list()) {
        const { app } = JSON.parse(manifest).spec.selector;
        for (const { id } of ports) {
          names.set(id, name);
          for (const address of pods.get(`k8s:app=${app}`) ?? []) wanted.add(`${id} ${address} 80`);
        }
      }
      const told = new Set(
        [...tables.backends.list()].map(({ service, address, port }) => `${service} ${address} ${port}`),
      );
      this.#sameKeys(when, replica, told, wanted);
      for (const { name, datapath } of this.#world.nodes) {
        this.#sameKeys(
          when,
          `${name}: the kernel's services`,
          new Set(datapath.services.keys()),
          new Set(names.keys()),
        );
        this.#sameKeys(when, `${name}: the kernel's backends`, datapath.backends, wanted);
      }
    }
  }

  #sameKeys<K>(when: string, what: string, found: ReadonlySet<K>, wanted: ReadonlySet<K>): void {
    for (const key of wanted.difference(found)) this.#note(when, `${what} lacks ${key}`);
    for (const key of found.difference(wanted)) this.#note(when, `${what} still has ${key}`);
  }

  /** Policy sets follow each other faster than anybody looks. */
  #observeSets(): void {
    for (const { store: { policyRevision, policies } } of this.#world.engines.values()) {
      if (this.#seen.get(policyRevision) === policies.revision) continue;
      this.#seen.set(policyRevision, policies.revision);
      this.#sets.set(policyRevision, policies.list().map(({ manifest }) => JSON.parse(manifest)));
    }
  }

  /** So do numbers, where a database is replaced. */
  #observeLabels(): void {
    for (const { identities } of this.#world.allocators.values()) {
      if (this.#seenNumbers.get(identities) === identities.revision) continue;
      this.#seenNumbers.set(identities, identities.revision);
      for (const { number, labels } of identities.list()) {
        if (number < POD_IDENTITY_MIN) continue;
        const key = [...labels].sort().join("\n");
        this.#labels.set(number, (this.#labels.get(number) ?? new Set()).add(key));
      }
    }
  }

  /** @param when what numbers stand for is judged; undefined: it is not */
  #observe(when?: string): void {
    this.#observeSets();
    for (const engine of this.#world.engines.values()) {
      for (const identity of engine.publisher.mapStates.list()) this.#known.add(identity.identity);
      if (!engine.ready) continue;
      for (const { node, policyRevision } of engine.inForce.list()) {
        this.#acknowledged.set(node, Math.max(policyRevision, this.#acknowledged.get(node) ?? 0));
      }
    }
    this.#observeLabels();
    if (when === undefined) return;
    for (const { identities } of this.#world.allocators.values()) {
      this.#observeNumbers(when, identities.list());
    }
  }

  #observeNumbers(when: string, identities: Iterable<Identity>): void {
    const now = new Map<string, number>();
    for (const { number, labels } of identities) {
      if (number < POD_IDENTITY_MIN) continue;
      const key = [...labels].sort().join("\n");
      if (now.has(key)) this.#note(when, `${key} has the numbers ${now.get(key)} and ${number}`);
      now.set(key, number);
      const before = this.#owners.get(number) ?? new Set(), had = this.#numbers.get(key);
      if (!this.#isReplaced && before.size > 0 && !before.has(key)) {
        this.#note(when, `number ${number} is of ${key}, and was of ${[...before]}`);
      }
      if (!this.#isReplaced && had !== undefined && had !== number) {
        this.#note(when, `${key} has number ${number}, and had ${had}`);
      }
      this.#owners.set(number, before.add(key));
      this.#numbers.set(key, number);
    }
  }

  #checkEndpoint(when: string, node: SimulatedNode, endpoint: DatapathEndpoint): void {
    const { datapath, name } = node, { identity } = endpoint;
    const remotes: { remote: number; address?: string }[] = [
      ...[...new Set(podsOf(datapath.ipcache).values())].map((remote) => ({ remote })),
      ...OUTSIDE.map((ip) => ({ remote: datapath.identityOf(ip), address: ip.text })),
    ];
    const isKnown = this.#known.has(identity);
    const since = this.#acknowledged.get(name) ?? 0;
    const sets = [...this.#sets].filter(([revision]) => revision >= since);
    for (const direction of DIRECTIONS) {
      for (const { remote, address } of remotes) {
        for (const port of PORTS) {
          this.tried++;
          if (!datapath.passes(endpoint, remote, direction, port)) {
            this.denied++;
            // Several sets of one turn are seen as the last of them: what the acknowledged one says must be known.
            const isInterrupted = address !== undefined && isKnown && this.#sets.has(since) &&
              !this.#isReplaced &&
              sets.every(([revision]) => this.#allows(revision, identity, address, direction, port));
            if (isInterrupted) {
              this.#note(
                when,
                `${name}: allowed since policy set ${since}, which it has acknowledged, and ${endpoint.name} ` +
                  `(${identity}) does not let ${direction} ${address} ${remote} port ${port} through`,
              );
            }
            continue;
          }
          const text = `${endpoint.name} (${identity}) lets ${direction} ${
            address ?? ""
          } ${remote} port ${port} through`;
          if (!isKnown) this.#note(when, `${name}: no policy is known, and ${text}`);
          else if (
            !sets.some(([revision]) => this.#allows(revision, identity, address ?? remote, direction, port))
          ) {
            this.#note(
              when,
              `${name}: denied by policy set ${since}, which it has acknowledged, and ${text}`,
            );
          }
        }
      }
    }
  }

  /** Whether the policy set allows it for some label sets that the numbers stood for. */
  #allows(
    revision: number,
    subject: number,
    remote: number | string,
    direction: "INGRESS" | "EGRESS",
    port: number,
  ): boolean {
    const own = this.#labels.get(subject) ?? [];
    const other = typeof remote === "string" ? [remote] : this.#labels.get(remote);
    if (!other) return true; // nobody can say who that is
    for (const a of own) {
      for (const b of other) if (this.#verdict(revision, a, b, direction, port)) return true;
    }
    return false;
  }

  #verdict(
    revision: number,
    own: string,
    other: string,
    direction: "INGRESS" | "EGRESS",
    port: number,
  ): boolean {
    const key = [revision, own, other, direction, port].join("|");
    let allowed = this.#verdicts.get(key);
    if (allowed === undefined) {
      const end = (labels: string) => ({
        outside: labels.includes("=") ? undefined : labels,
        labels: Object.fromEntries(
          labels.split("\n").filter((label) => label.includes("=")).map((label) => {
            const at = label.indexOf("=");
            return [label.slice(0, at), label.slice(at + 1)];
          }),
        ),
        namedPorts: [],
      });
      allowed = oracleAllows(this.#sets.get(revision)!, {
        subject: end(own),
        remote: end(other),
        direction: direction === "INGRESS" ? "ingress" : "egress",
        protocol: "TCP",
        port,
        everyone: [],
      });
      this.#verdicts.set(key, allowed);
    }
    return allowed;
  }

  #same(
    when: string,
    what: string,
    found: ReadonlyMap<string, number>,
    wanted: ReadonlyMap<string, number>,
  ): void {
    for (const [prefix, identity] of wanted) {
      if (found.get(prefix) !== identity) {
        this.#note(when, `${what} has ${found.get(prefix) ?? "nothing"} for ${prefix}, expected ${identity}`);
      }
    }
    for (const [prefix, identity] of found) {
      if (!wanted.has(prefix)) this.#note(when, `${what} still has ${prefix} with ${identity}`);
    }
  }

  /** The same thing is said once. */
  #note(when: string, text: string): void {
    if (this.#told.has(text)) return;
    this.#told.add(text);
    this.violations.push(`${when}: ${text}`);
  }
}

function podsOf(entries: ReadonlyMap<string, number>): Map<string, number> {
  return new Map(
    [...entries].filter(([, identity]) => identity >= POD_IDENTITY_MIN && identity <= POD_IDENTITY_MAX),
  );
}
