/**
 * Port names of the whole cluster, by identity: what an egress rule with a port name means at each peer.
 * @module
 */
import { PROTOCOL_NUMBERS } from "@weir/common";

/** One named port of an endpoint. */
export interface NamedPort {
  readonly name: string;
  readonly port: number;
  /** TCP when empty. */
  readonly protocol: string;
}

/** What a change of one endpoint's ports touches. */
export interface NamedPortChange {
  /** Identities whose own numbers changed. */
  readonly identities: ReadonlySet<number>;
  /** Names whose cluster-wide number changed, by {@link nameKey}. */
  readonly names: ReadonlySet<string>;
}

/** Counts, per identity and name, how many endpoints define each number. */
export class NamedPortTable {
  /** `protocol/name` -> identity -> port -> how many endpoints say so. */
  readonly #byName = new Map<string, Map<number, Map<number, number>>>();
  /** Names by identity, so that an identity's change finds them. */
  readonly #endpoints = new Map<string, { identity: number; ports: readonly NamedPort[] }>();

  /**
   * Sets the ports of one endpoint (any stable name, such as its prefix); an empty list forgets it. Answers what
   * changed by it.
   */
  set(endpoint: string, identity: number, ports: readonly NamedPort[]): NamedPortChange {
    const identities = new Set<number>();
    const before = this.#endpoints.get(endpoint);
    if (!before && ports.length === 0) return { identities, names: new Set() };
    if (before && before.identity === identity && sameTable(before.ports, ports)) {
      return { identities, names: new Set() };
    }
    const touched = new Map<string, number | undefined>();
    for (const port of [...before?.ports ?? [], ...ports]) {
      const protocol = protocolOf(port);
      if (protocol !== undefined) {
        touched.set(nameKey(protocol, port.name), this.uniquePort(protocol, port.name));
      }
    }
    for (const port of before?.ports ?? []) this.#count(port, before!.identity, -1, identities);
    for (const port of ports) this.#count(port, identity, 1, identities);
    if (ports.length === 0) this.#endpoints.delete(endpoint);
    else this.#endpoints.set(endpoint, { identity, ports });
    const names = new Set<string>();
    for (const [key, unique] of touched) if (this.#unique(key) !== unique) names.add(key);
    return { identities, names };
  }

  /** The numbers that the endpoints of an identity give a name, ascending; empty when none defines it. */
  portsOf(identity: number, protocol: number, name: string): number[] {
    const ports = this.#byName.get(nameKey(protocol, name))?.get(identity);
    return ports ? [...ports.keys()].sort((a, b) => a - b) : [];
  }

  /** Identities that define a name. */
  identitiesWith(protocol: number, name: string): Iterable<number> {
    return this.#byName.get(nameKey(protocol, name))?.keys() ?? [];
  }

  /** The one number that the whole cluster gives a name; undefined when there is none or more than one. */
  uniquePort(protocol: number, name: string): number | undefined {
    return this.#unique(nameKey(protocol, name));
  }

  #unique(key: string): number | undefined {
    const found = new Set<number>();
    for (const ports of this.#byName.get(key)?.values() ?? []) {
      for (const port of ports.keys()) found.add(port);
      if (found.size > 1) return undefined;
    }
    return [...found][0];
  }

  #count(port: NamedPort, identity: number, delta: number, changed: Set<number>): void {
    const protocol = protocolOf(port);
    if (protocol === undefined) return;
    const key = nameKey(protocol, port.name);
    let identities = this.#byName.get(key);
    if (!identities) this.#byName.set(key, identities = new Map());
    let ports = identities.get(identity);
    if (!ports) identities.set(identity, ports = new Map());
    const count = (ports.get(port.port) ?? 0) + delta;
    if (count > 0) ports.set(port.port, count);
    else ports.delete(port.port);
    if ((count === 1 && delta === 1) || count === 0) changed.add(identity);
    if (ports.size === 0) identities.delete(identity);
    if (identities.size === 0) this.#byName.delete(key);
  }
}

function protocolOf(port: NamedPort): number | undefined {
  return PROTOCOL_NUMBERS[(port.protocol || "TCP").toUpperCase()];
}

/** Key of a name under a protocol, as in {@link NamedPortChange}. */
export function nameKey(protocol: number, name: string): string {
  return `${protocol}/${name.toLowerCase()}`;
}

function sameTable(a: readonly NamedPort[], b: readonly NamedPort[]): boolean {
  return a.length === b.length &&
    a.every((port, i) =>
      port.name === b[i].name && port.port === b[i].port && port.protocol === b[i].protocol
    );
}
