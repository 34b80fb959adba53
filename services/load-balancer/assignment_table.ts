/**
 * What services have: ids of their ports, cluster IPs, node ports, addresses of pools. Filled from what is stored, and kept
 * in step with it.
 * @module
 */
import type { Assignment } from "@weir/proto/loadbalancer";
import type { PoolTable } from "./address_pool.ts";
import type { LoadBalancerConfig } from "./config.ts";
import { portKey, type ServiceSpec } from "./model.ts";
import { NumberPool } from "./number_pool.ts";

/** Ids of service ports are 1 to this. */
export const SERVICE_PORT_ID_MAX = 65_535;
/** Health check node ports are node ports too: of this protocol. */
export const HEALTH_CHECK_PROTOCOL = "TCP";
/** Kubernetes keeps the first addresses and node ports for those who ask for one by number; so do we. */
const NODE_PORT_STATIC = 86;

/** What services have. */
export class AssignmentTable {
  readonly ids: NumberPool = new NumberPool(1, SERVICE_PORT_ID_MAX);
  readonly #nodePorts = new Map<string, NumberPool>();
  /** Cluster IP -> the services that have it. */
  readonly #clusterIps = new Map<string, Set<string>>();
  /** Address of a pool -> the services that have it. */
  readonly #poolIps = new Map<string, Map<string, ServiceSpec>>();
  readonly #assigned = new Map<string, { assignment: Assignment; spec?: ServiceSpec }>();

  /** @param pools is told of addresses that are given back */
  constructor(readonly config: LoadBalancerConfig, readonly pools: PoolTable) {
    const { nodePortMin, nodePortMax } = config;
    const size = nodePortMax - nodePortMin + 1;
    const dynamic = nodePortMin + (size >= 16 * NODE_PORT_STATIC ? NODE_PORT_STATIC : 0);
    for (const protocol of ["TCP", "UDP", "SCTP"]) {
      this.#nodePorts.set(protocol, new NumberPool(nodePortMin, nodePortMax, dynamic));
    }
  }

  /** Node ports of a protocol: TCP, UDP or SCTP. */
  nodePorts(protocol: string): NumberPool {
    return this.#nodePorts.get(protocol)!;
  }

  /** How many services have a cluster IP. */
  clusterIpUsers(address: string): number {
    return this.#clusterIps.get(address)?.size ?? 0;
  }

  /** Whether some service has this address of a pool. */
  hasPoolIp(address: string): boolean {
    return this.#poolIps.has(address);
  }

  /** Addresses of pools with the services that have them. */
  poolIps(): Iterable<[string, ReadonlyMap<string, ServiceSpec>]> {
    return this.#poolIps;
  }

  /** What the service has. */
  get(name: string): Assignment | undefined {
    return this.#assigned.get(name)?.assignment;
  }

  /** What it has, with the service for which it was given. */
  entry(name: string): { assignment: Assignment; spec?: ServiceSpec } | undefined {
    return this.#assigned.get(name);
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
    if (assignment.healthCheckNodePort !== 0) {
      this.nodePorts(HEALTH_CHECK_PROTOCOL).take(assignment.healthCheckNodePort, name);
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

  #release(name: string, assignment: Assignment): void {
    for (const { id, key, nodePort } of assignment.ports) {
      this.ids.release(id, name);
      if (nodePort !== 0) this.#nodePorts.get(protocolOf(key))?.release(nodePort, name);
    }
    this.nodePorts(HEALTH_CHECK_PROTOCOL).release(assignment.healthCheckNodePort, name);
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

function protocolOf(key: string): string {
  return key.slice(key.indexOf("/") + 1);
}
