/**
 * Decides what services are to have: ids of ports, cluster IPs, node ports, addresses of pools. What a service has it keeps;
 * the result is stored as its {@link Assignment}, and is in the table at once.
 * @module
 */
import { IpAddress, type IpFamily, ProblemError } from "@weir/common";
import { Assignment } from "@weir/proto/loadbalancer";
import type { PoolTable } from "./address_pool.ts";
import { type AssignmentTable, HEALTH_CHECK_PROTOCOL, SERVICE_PORT_ID_MAX } from "./assignment_table.ts";
import { CidrCursor } from "./cidr_cursor.ts";
import { ignoredReason, portKey, type PortSpec, type ServiceSpec, wantsHealthCheck } from "./model.ts";

/** How a service is given what it is to have. */
export interface AssignOptions {
  /** Its node ports are another's to give (an API server's), whatever our range is. Default false. */
  anyNodePort?: boolean;
}

/** Decides what services are to have. */
export class ServiceAssigner {
  readonly #table: AssignmentTable;
  readonly #pools: PoolTable;
  readonly #cidrs = new Map<IpFamily, CidrCursor>();

  constructor(table: AssignmentTable) {
    this.#table = table;
    this.#pools = table.pools;
    const { serviceCidrV4, serviceCidrV6 } = table.config;
    if (serviceCidrV4) this.#cidrs.set(4, new CidrCursor(serviceCidrV4));
    if (serviceCidrV6) this.#cidrs.set(6, new CidrCursor(serviceCidrV6));
  }

  /**
   * What the service is to have, given what it has now; taken at once.
   * @throws {ProblemError} *_EXHAUSTED, NODE_PORT_TAKEN, NODE_PORT_OUT_OF_RANGE, FAMILY_NOT_CONFIGURED; nothing is taken
   */
  assign(name: string, spec: ServiceSpec, options: AssignOptions = {}): Assignment | undefined {
    const before = this.#table.entry(name);
    try {
      const assignment = this.#assign(name, spec, before?.assignment, options);
      this.#table.set(name, assignment, spec);
      return assignment;
    } catch (error) {
      this.#table.set(name, before?.assignment, before?.spec);
      throw error;
    }
  }

  /** Whether the service lacks an address of a pool that it could have now. Much cheaper than {@link assign}. */
  couldGetMore(name: string, spec: ServiceSpec): boolean {
    const { loadBalancerIps = [], clusterIps = [] } = this.#table.get(name) ?? {};
    if (loadBalancerIps.length >= (spec.requestedIps.length || clusterIps.length)) return false;
    const has = new Set(loadBalancerIps.map((text) => IpAddress.parse(text).family));
    const families = clusterIps.map((text) => IpAddress.parse(text).family).filter((family) =>
      !has.has(family)
    );
    return spec.requestedIps.length > 0 || spec.sharingKey !== "" ||
      families.some((family) =>
        this.#pools.findFree(spec, family, (address) => this.#table.hasPoolIp(address)) !== undefined
      );
  }

  /** Ids for the host ports of a pod. @throws {ProblemError} SERVICE_PORTS_EXHAUSTED */
  assignHostPorts(name: string, keys: readonly string[]): Assignment | undefined {
    const before = this.#table.entry(name);
    if (keys.length === 0) return void this.#table.set(name, undefined);
    const ports: Assignment["ports"] = [];
    try {
      for (const key of keys) {
        const known = before?.assignment.ports.find((port) => port.key === key);
        ports.push(known ?? { key, id: this.#takeId(name), nodePort: 0, tableSize: 0 });
      }
    } catch (error) {
      for (const { id } of ports) this.#table.ids.release(id, name);
      this.#table.set(name, before?.assignment);
      throw error;
    }
    const assignment = Assignment.create({ name, ports });
    this.#table.set(name, assignment);
    return assignment;
  }

  #assign(
    name: string,
    spec: ServiceSpec,
    before: Assignment | undefined,
    options: AssignOptions,
  ): Assignment | undefined {
    if (ignoredReason(spec) !== "") return undefined;
    const clusterIps = this.#assignClusterIps(name, spec, before);
    const families = clusterIps.map((text) => IpAddress.parse(text).family);
    const taken: { id: number; nodePort: number; protocol: string }[] = [];
    const nodePorts = new Set<string>();
    const refuseTwice = (port: Wanted) => {
      const key = `${port.wanted}/${port.protocol}`;
      if (port.wanted !== 0 && nodePorts.has(key)) throw nodePortTaken(name, port, "another port of it");
      nodePorts.add(key);
    };
    try {
      const ports = spec.ports.map((port) => {
        const key = portKey(port);
        const known = before?.ports.find((one) => one.key === key);
        const id = known?.id ?? this.#takeId(name);
        const entry = { id: known ? 0 : id, nodePort: 0, protocol: port.protocol };
        taken.push(entry);
        const wanted = { wanted: port.nodePort, protocol: port.protocol };
        const nodePort = hasNodePort(spec, port)
          ? this.#assignNodePort(name, wanted, known?.nodePort ?? 0, options)
          : 0;
        if (nodePort !== known?.nodePort) entry.nodePort = nodePort;
        refuseTwice({ ...wanted, wanted: nodePort });
        return { key, id, nodePort, tableSize: known?.tableSize ?? 0 };
      });
      const check = { wanted: spec.healthCheckNodePort, protocol: HEALTH_CHECK_PROTOCOL };
      const had = before?.healthCheckNodePort ?? 0;
      const healthCheckNodePort = wantsHealthCheck(spec)
        ? this.#assignNodePort(name, check, had, options)
        : 0;
      if (healthCheckNodePort !== had) {
        taken.push({ id: 0, nodePort: healthCheckNodePort, protocol: check.protocol });
      }
      refuseTwice({ ...check, wanted: healthCheckNodePort });
      return Assignment.create({
        name,
        healthCheckNodePort,
        clusterIps,
        ports,
        loadBalancerIps: this.#assignPoolIps(name, spec, families, before),
      });
    } catch (error) {
      for (const { id, nodePort, protocol } of taken) {
        this.#table.ids.release(id, name);
        this.#table.nodePorts(protocol).release(nodePort, name);
      }
      throw error;
    }
  }

  #takeId(name: string): number {
    const id = this.#table.ids.takeFree(name);
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
      const asked = this.#table.specOf(name)?.clusterIps ?? [];
      const kept = before?.clusterIps.find((text) =>
        cidr.holds(text) && (!asked.includes(text) || this.#table.clusterIpUsers(text) === 1)
      );
      if (kept !== undefined) return kept;
      const free = cidr.next((address) => this.#table.clusterIpUsers(address) > 0);
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

  #assignNodePort(name: string, port: Wanted, known: number, { anyNodePort = false }: AssignOptions): number {
    const { wanted, protocol } = port;
    const pool = this.#table.nodePorts(protocol);
    if (wanted === 0) {
      if (known !== 0) return known;
      const free = pool.takeFree(name);
      if (free !== undefined) return free;
      throw exhausted(
        "NODE_PORTS_EXHAUSTED",
        name,
        "a node port",
        `all of ${pool.min}-${pool.max}/${protocol}`,
        {
          expected: "a free node port",
          action: "Delete services, or set allocateLoadBalancerNodePorts: false where none is needed",
        },
      );
    }
    if (!anyNodePort && (wanted < pool.min || wanted > pool.max)) {
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
    if (
      spec.type !== "LoadBalancer" || !this.#table.config.loadBalancerClasses.includes(spec.loadBalancerClass)
    ) {
      return [];
    }
    const mayHave = (text: string) =>
      this.#table.holderOf(text, name, spec) === undefined && this.#pools.holds(spec, IpAddress.parse(text));
    if (spec.requestedIps.length > 0) return spec.requestedIps.filter(mayHave);
    return families.flatMap((family) => {
      const kept = before?.loadBalancerIps.find((text) =>
        IpAddress.parse(text).family === family && mayHave(text)
      );
      const found = kept ?? this.#sharedIp(name, spec, family) ??
        this.#pools.findFree(spec, family, (address) => this.#table.hasPoolIp(address));
      return found === undefined ? [] : [found];
    });
  }

  /** An address that services with the same sharing key have already. */
  #sharedIp(name: string, spec: ServiceSpec, family: IpFamily): string | undefined {
    if (spec.sharingKey === "") return undefined;
    for (const [address, users] of this.#table.poolIps()) {
      if (![...users.values()].some((other) => other.sharingKey === spec.sharingKey)) continue;
      const parsed = IpAddress.parse(address);
      if (parsed.family !== family || this.#table.holderOf(address, name, spec) !== undefined) continue;
      if (this.#pools.holds(spec, parsed)) return address;
    }
    return undefined;
  }
}

/** A node port that is asked for; 0: any. */
interface Wanted {
  readonly wanted: number;
  readonly protocol: string;
}

function hasNodePort({ type, allocateNodePorts }: ServiceSpec, { nodePort }: PortSpec): boolean {
  return type === "NodePort" || (type === "LoadBalancer" && (allocateNodePorts || nodePort !== 0));
}

function nodePortTaken(name: string, { wanted: nodePort, protocol }: Wanted, owner: string): ProblemError {
  return new ProblemError("NODE_PORT_TAKEN", {
    status: 409,
    detail: `Cannot give ${name} node port ${nodePort}/${protocol}: ${owner} has it`,
    found: owner,
    expected: "a node port that no service has",
    action: "Leave nodePort empty to get a free one",
  });
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
