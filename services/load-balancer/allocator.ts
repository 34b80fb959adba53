/**
 * Gives services their numbers and addresses: ids of ports, cluster IPs, node ports, addresses of pools. What a service
 * has it keeps; the result is stored as its {@link Assignment}, from which this table is filled again after a start.
 * @module
 */
import { IpAddress, type IpFamily, ProblemError } from "@weir/common";
import { Assignment } from "@weir/proto/loadbalancer";
import type { PoolTable } from "./address_pool.ts";
import { CidrCursor } from "./cidr_cursor.ts";
import type { LoadBalancerConfig } from "./config.ts";
import { ignoredReason, portKey, type PortSpec, type ServiceSpec } from "./model.ts";
import { NumberPool } from "./number_pool.ts";

/** Ids of service ports are 1 to this. */
export const SERVICE_PORT_ID_MAX = 65_535;
/** Kubernetes keeps the first addresses and node ports for those who ask for one by number; so do we. */
const NODE_PORT_STATIC = 86;

/** See the module comment. */
export class Allocator {
  readonly ids: NumberPool = new NumberPool(1, SERVICE_PORT_ID_MAX);
  readonly #nodePorts = new Map<string, NumberPool>();
  readonly #clusterIps = new Map<string, Set<string>>();
  readonly #cidrs = new Map<IpFamily, CidrCursor>();
  /** Address of a pool -> the services that have it. */
  readonly #poolIps = new Map<string, Map<string, ServiceSpec>>();
  readonly #assigned = new Map<string, { assignment: Assignment; spec?: ServiceSpec }>();

  constructor(readonly config: LoadBalancerConfig, readonly pools: PoolTable) {
    const { serviceCidrV4, serviceCidrV6, nodePortMin, nodePortMax } = config;
    if (serviceCidrV4) this.#cidrs.set(4, new CidrCursor(serviceCidrV4));
    if (serviceCidrV6) this.#cidrs.set(6, new CidrCursor(serviceCidrV6));
    const size = nodePortMax - nodePortMin + 1;
    const dynamic = nodePortMin + (size >= 16 * NODE_PORT_STATIC ? NODE_PORT_STATIC : 0);
    for (const protocol of ["TCP", "UDP", "SCTP"]) {
      this.#nodePorts.set(protocol, new NumberPool(nodePortMin, nodePortMax, dynamic));
    }
  }

  /** What the service has. */
  get(name: string): Assignment | undefined {
    return this.#assigned.get(name)?.assignment;
  }

  /** The service for which it was given. */
  specOf(name: string): ServiceSpec | undefined {
    return this.#assigned.get(name)?.spec;
  }

  /** Addresses of pools that are in use. */
  usedPoolIps(): Iterable<string> {
    return this.#poolIps.keys();
  }

  /** Another service that has this address of a pool and does not share it; undefined when it may be had. */
  holderOf(address: string, name: string, spec: ServiceSpec): string | undefined {
    for (const [other, { sharingKey, ports }] of this.#poolIps.get(address) ?? []) {
      if (other === name) continue;
      if (sharingKey === "" || sharingKey !== spec.sharingKey) return other;
      const keys = new Set(ports.map(portKey));
      if (spec.ports.some((port) => keys.has(portKey(port)))) return other;
    }
    return undefined;
  }

  /** Makes `assignment` what the service has; undefined: nothing. Repeatable. */
  set(name: string, assignment: Assignment | undefined, spec?: ServiceSpec): void {
    const before = this.#assigned.get(name);
    if (before !== undefined) this.#release(name, before.assignment);
    if (assignment === undefined) return void this.#assigned.delete(name);
    this.#assigned.set(name, { assignment, spec });
    for (const { id, key, nodePort } of assignment.ports) {
      this.ids.take(id, name);
      if (nodePort !== 0) this.#nodePorts.get(protocolOf(key))?.take(nodePort, name);
    }
    for (const address of assignment.clusterIps) {
      const users = this.#clusterIps.get(address);
      if (users) users.add(name);
      else this.#clusterIps.set(address, new Set([name]));
    }
    for (const address of assignment.loadBalancerIps) {
      const users = this.#poolIps.get(address) ?? new Map();
      this.#poolIps.set(address, users);
      if (spec) users.set(name, spec);
    }
  }

  /** After everything stored was put in. */
  loaded(): void {
    this.ids.continueAfterHighest();
  }

  /**
   * What the service is to have, given what it has now; taken at once.
   * @throws {ProblemError} *_EXHAUSTED, NODE_PORT_TAKEN, NODE_PORT_OUT_OF_RANGE, FAMILY_NOT_CONFIGURED; nothing is taken
   */
  assign(name: string, spec: ServiceSpec): Assignment | undefined {
    const before = this.#assigned.get(name);
    try {
      const assignment = this.#assign(name, spec, before?.assignment);
      this.set(name, assignment, spec);
      return assignment;
    } catch (error) {
      this.set(name, before?.assignment, before?.spec);
      throw error;
    }
  }

  /** Whether the service lacks an address of a pool that it could have now. Much cheaper than {@link assign}. */
  couldGetMore(name: string, spec: ServiceSpec): boolean {
    const { loadBalancerIps = [], clusterIps = [] } = this.get(name) ?? {};
    if (loadBalancerIps.length >= (spec.requestedIps.length || clusterIps.length)) return false;
    const has = new Set(loadBalancerIps.map((text) => IpAddress.parse(text).family));
    const families = clusterIps.map((text) => IpAddress.parse(text).family).filter((family) =>
      !has.has(family)
    );
    return spec.requestedIps.length > 0 || spec.sharingKey !== "" ||
      families.some((family) =>
        this.pools.findFree(spec, family, (address) => this.#poolIps.has(address)) !== undefined
      );
  }

  /** Ids for the host ports of a pod. @throws {ProblemError} SERVICE_PORTS_EXHAUSTED */
  assignHostPorts(name: string, keys: readonly string[]): Assignment | undefined {
    const before = this.#assigned.get(name);
    if (keys.length === 0) return void this.set(name, undefined);
    const ports: Assignment["ports"] = [];
    try {
      for (const key of keys) {
        const known = before?.assignment.ports.find((port) => port.key === key);
        ports.push(known ?? { key, id: this.#takeId(name), nodePort: 0, tableSize: 0 });
      }
    } catch (error) {
      for (const { id } of ports) this.ids.release(id, name);
      this.set(name, before?.assignment);
      throw error;
    }
    const assignment = Assignment.create({ name, ports });
    this.set(name, assignment);
    return assignment;
  }

  #assign(name: string, spec: ServiceSpec, before: Assignment | undefined): Assignment | undefined {
    if (ignoredReason(spec) !== "") return undefined;
    const clusterIps = this.#assignClusterIps(name, spec, before);
    const families = clusterIps.map((text) => IpAddress.parse(text).family);
    const taken: { id: number; nodePort: number; protocol: string }[] = [];
    const nodePorts = new Set<string>();
    try {
      const ports = spec.ports.map((port) => {
        const key = portKey(port);
        const known = before?.ports.find((one) => one.key === key);
        const id = known?.id ?? this.#takeId(name);
        const entry = { id: known ? 0 : id, nodePort: 0, protocol: port.protocol };
        taken.push(entry);
        const nodePort = this.#assignNodePort(name, spec, port, known?.nodePort ?? 0);
        if (nodePort !== known?.nodePort) entry.nodePort = nodePort;
        const twice = nodePort !== 0 && nodePorts.has(`${nodePort}/${port.protocol}`);
        if (twice) throw nodePortTaken(name, { ...port, nodePort }, "another port of it");
        nodePorts.add(`${nodePort}/${port.protocol}`);
        return { key, id, nodePort, tableSize: known?.tableSize ?? 0 };
      });
      return Assignment.create({
        name,
        clusterIps,
        ports,
        loadBalancerIps: this.#assignPoolIps(name, spec, families, before),
      });
    } catch (error) {
      for (const { id, nodePort, protocol } of taken) {
        this.ids.release(id, name);
        this.#nodePorts.get(protocol)!.release(nodePort, name);
      }
      throw error;
    }
  }

  #takeId(name: string): number {
    const id = this.ids.takeFree(name);
    if (id !== undefined) return id;
    throw exhausted("SERVICE_PORTS_EXHAUSTED", name, "an id of its port", `all ${SERVICE_PORT_ID_MAX}`, {
      expected: `at most ${SERVICE_PORT_ID_MAX} ports of services in the cluster`,
      action: "Delete services that are no longer needed",
    });
  }

  #assignClusterIps(name: string, spec: ServiceSpec, before: Assignment | undefined): string[] {
    const families = this.#familiesOf(name, spec);
    return families.map((family) => {
      const given = spec.clusterIps?.find((text) => IpAddress.parse(text).family === family);
      if (given !== undefined) return given;
      const cidr = this.#cidrs.get(family)!;
      // What it was given it keeps. What it asked for by number, and now leaves to us, only if no other asks for it.
      const asked = this.specOf(name)?.clusterIps ?? [];
      const kept = before?.clusterIps.find((text) =>
        cidr.holds(text) && (!asked.includes(text) || this.#clusterIps.get(text)?.size === 1)
      );
      if (kept !== undefined) return kept;
      const free = cidr.next((address) => this.#clusterIps.has(address));
      if (free !== undefined) return free;
      throw exhausted(
        "CLUSTER_IPS_EXHAUSTED",
        name,
        `an IPv${family} cluster IP`,
        `all of ${cidr.cidr.text}`,
        {
          expected: `a free address in ${cidr.cidr.text}`,
          action: "Delete services, or give the load balancer a larger --service-cidr",
        },
      );
    });
  }

  /** The families that the service is to have, its first one first. */
  #familiesOf(name: string, spec: ServiceSpec): IpFamily[] {
    const given = (spec.clusterIps ?? []).map((text) => IpAddress.parse(text).family);
    const wanted: IpFamily[] = [...new Set([...given, ...spec.ipFamilies])];
    const configured: IpFamily[] = [...this.#cidrs.keys()];
    if (wanted.length === 0 && configured.length > 0) wanted.push(configured[0]);
    if (spec.ipFamilyPolicy !== "SingleStack") {
      for (const family of [4, 6] as const) {
        if (wanted.includes(family)) continue;
        if (configured.includes(family) || spec.ipFamilyPolicy === "RequireDualStack") wanted.push(family);
      }
    }
    for (const family of wanted) {
      if (given.includes(family) || configured.includes(family)) continue;
      throw new ProblemError("FAMILY_NOT_CONFIGURED", {
        status: 422,
        detail: `Cannot give ${name} an IPv${family} cluster IP: there is no --service-cidr-v${family}`,
        found: `IPv${family}`,
        expected: configured.map((one) => `IPv${one}`).join(", ") || "no family",
        action: `Configure --service-cidr-v${family}, or name the address in clusterIPs`,
      });
    }
    return wanted;
  }

  #assignNodePort(name: string, spec: ServiceSpec, port: PortSpec, known: number): number {
    const wants = spec.type === "NodePort" || (spec.type === "LoadBalancer" && spec.allocateNodePorts) ||
      (spec.type === "LoadBalancer" && port.nodePort !== 0);
    if (!wants) return 0;
    const pool = this.#nodePorts.get(port.protocol)!;
    const wanted = port.nodePort;
    if (wanted === 0) {
      if (known !== 0) return known;
      const free = pool.takeFree(name);
      if (free !== undefined) return free;
      throw exhausted(
        "NODE_PORTS_EXHAUSTED",
        name,
        "a node port",
        `all of ${pool.min}-${pool.max}/${port.protocol}`,
        {
          expected: "a free node port",
          action: "Delete services, or set allocateLoadBalancerNodePorts: false where none is needed",
        },
      );
    }
    if (wanted < pool.min || wanted > pool.max) {
      throw new ProblemError("NODE_PORT_OUT_OF_RANGE", {
        status: 422,
        detail: `Cannot give ${name} node port ${wanted}: the range is ${pool.min}-${pool.max}`,
        found: wanted,
        expected: `${pool.min} to ${pool.max}`,
      });
    }
    const owner = pool.ownerOf(wanted);
    if (owner !== undefined && owner !== name) throw nodePortTaken(name, port, owner);
    pool.take(wanted, name);
    return wanted;
  }

  #assignPoolIps(
    name: string,
    spec: ServiceSpec,
    families: readonly IpFamily[],
    before: Assignment | undefined,
  ): string[] {
    if (spec.type !== "LoadBalancer" || !this.config.loadBalancerClasses.includes(spec.loadBalancerClass)) {
      return [];
    }
    const mayHave = (text: string) =>
      this.holderOf(text, name, spec) === undefined && this.pools.holds(spec, IpAddress.parse(text));
    if (spec.requestedIps.length > 0) return spec.requestedIps.filter(mayHave);
    return families.flatMap((family) => {
      const kept = before?.loadBalancerIps.find((text) =>
        IpAddress.parse(text).family === family && mayHave(text)
      );
      const found = kept ?? this.#sharedIp(name, spec, family) ??
        this.pools.findFree(spec, family, (address) => this.#poolIps.has(address));
      return found === undefined ? [] : [found];
    });
  }

  /** An address that services with the same sharing key have already. */
  #sharedIp(name: string, spec: ServiceSpec, family: IpFamily): string | undefined {
    if (spec.sharingKey === "") return undefined;
    for (const [address, users] of this.#poolIps) {
      if (![...users.values()].some((other) => other.sharingKey === spec.sharingKey)) continue;
      const parsed = IpAddress.parse(address);
      if (parsed.family !== family || this.holderOf(address, name, spec) !== undefined) continue;
      if (this.pools.holds(spec, parsed)) return address;
    }
    return undefined;
  }

  #release(name: string, assignment: Assignment): void {
    for (const { id, key, nodePort } of assignment.ports) {
      this.ids.release(id, name);
      if (nodePort !== 0) this.#nodePorts.get(protocolOf(key))?.release(nodePort, name);
    }
    for (const address of assignment.clusterIps) {
      const users = this.#clusterIps.get(address);
      if (users?.delete(name) && users.size === 0) this.#clusterIps.delete(address);
    }
    for (const address of assignment.loadBalancerIps) {
      const users = this.#poolIps.get(address);
      users?.delete(name);
      if (users?.size !== 0) continue;
      this.#poolIps.delete(address);
      this.pools.released(address);
    }
  }
}

function nodePortTaken(name: string, { nodePort, protocol }: PortSpec, owner: string): ProblemError {
  return new ProblemError("NODE_PORT_TAKEN", {
    status: 409,
    detail: `Cannot give ${name} node port ${nodePort}/${protocol}: ${owner} has it`,
    found: owner,
    expected: "a node port that no service has",
    action: "Leave nodePort empty to get a free one",
  });
}

function protocolOf(key: string): string {
  return key.slice(key.indexOf("/") + 1);
}

function exhausted(
  code: string,
  name: string,
  what: string,
  taken: string,
  more: { expected: string; action: string },
): ProblemError {
  return new ProblemError(code, {
    status: 507,
    detail: `Cannot give ${name} ${what}: ${taken} are taken`,
    found: taken,
    ...more,
  });
}
