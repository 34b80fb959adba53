/**
 * Port names of the whole cluster, by identity: what an egress rule with a port name means at each peer. Endpoints of one
 * identity may give a name different numbers, or none: then a number means those that have it only, by their addresses.
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
  /** Identities whose own numbers changed, or who of them has which. */
  readonly identities: ReadonlySet<number>;
  /** Names whose cluster-wide number changed, by {@link nameKey}. */
  readonly names: ReadonlySet<string>;
}

/** What a name means at an identity. */
export interface NamedNumber {
  readonly port: number;
  /** Who gives the name this number, sorted; undefined when every endpoint of the identity does. */
  readonly addresses: readonly string[] | undefined;
}

interface Known {
  readonly identity: number;
  readonly ports: readonly NamedPort[];
}

/** Which numbers a port name has at which identities. */
export class NamedPortTable {
  /** `protocol/name` -> identity -> port -> endpoints that say so. */
  readonly #byName = new Map<string, Map<number, Map<number, Set<string>>>>();
  /** How many endpoints an identity has, and the names that any of them defines. */
  readonly #byIdentity = new Map<number, { endpoints: number; names: Set<string> }>();
  readonly #endpoints = new Map<string, Known>();

  /**
   * Sets the ports of one endpoint, by its prefix; undefined forgets it. (One without names is known too: a name does not
   * mean it.) Answers what changed by it.
   */
  set(endpoint: string, identity: number, ports: readonly NamedPort[] | undefined): NamedPortChange {
    const identities = new Set<number>(), names = new Set<string>();
    const before = this.#endpoints.get(endpoint);
    const after = ports && { identity, ports };
    if (sameEndpoint(before, after)) return { identities, names };
    const involved = new Set([before, after].flatMap((known) => known === undefined ? [] : known.identity));
    const uniques = new Map<string, number | undefined>();
    for (const key of [...keysOf(before), ...keysOf(after)]) uniques.set(key, this.#unique(key));
    const shapes = new Map([...involved].map((each) => [each, this.#shapeOf(each)]));
    if (before) this.#count(endpoint, before, false);
    if (after) this.#count(endpoint, after, true);
    if (after) this.#endpoints.set(endpoint, after);
    else this.#endpoints.delete(endpoint);
    for (const each of involved) if (this.#shapeOf(each) !== shapes.get(each)) identities.add(each);
    for (const [key, unique] of uniques) if (this.#unique(key) !== unique) names.add(key);
    return { identities, names };
  }

  /** The numbers that the endpoints of an identity give a name, ascending; empty when none defines it. */
  portsOf(identity: number, protocol: number, name: string): number[] {
    return this.numbersOf(identity, protocol, name).map(({ port }) => port);
  }

  /** The same, with who has which. */
  numbersOf(identity: number, protocol: number, name: string): NamedNumber[] {
    const ports = this.#byName.get(nameKey(protocol, name))?.get(identity);
    if (!ports) return [];
    const all = this.#byIdentity.get(identity)!.endpoints;
    return [...ports].sort(([a], [b]) => a - b).map(([port, endpoints]) => ({
      port,
      addresses: endpoints.size === all ? undefined : [...endpoints].sort(),
    }));
  }

  /** Identities that define a name. */
  identitiesWith(protocol: number, name: string): Iterable<number> {
    return this.#byName.get(nameKey(protocol, name))?.keys() ?? [];
  }

  /** The one number that the whole cluster gives a name; undefined when there is none or more than one. */
  uniquePort(protocol: number, name: string): number | undefined {
    return this.#unique(nameKey(protocol, name));
  }

  /** Some endpoint of an identity that has these names, for questions that name no address. */
  endpointLike(identity: number, ports: readonly NamedPort[]): string | undefined {
    const wanted = tableText(ports);
    for (const [endpoint, known] of this.#endpoints) {
      if (known.identity === identity && tableText(known.ports) === wanted) return endpoint;
    }
    return undefined;
  }

  #unique(key: string): number | undefined {
    const found = new Set<number>();
    for (const ports of this.#byName.get(key)?.values() ?? []) {
      for (const port of ports.keys()) found.add(port);
      if (found.size > 1) return undefined;
    }
    return [...found][0];
  }

  /** All that {@link numbersOf} says of an identity, as text; cheap where the endpoints agree. */
  #shapeOf(identity: number): string {
    const known = this.#byIdentity.get(identity);
    if (!known) return "";
    return [...known.names].sort().map((key) => {
      const ports = this.#byName.get(key)!.get(identity)!;
      const numbers = [...ports].sort(([a], [b]) => a - b).map(([port, endpoints]) =>
        endpoints.size === known.endpoints ? `${port}` : `${port}:${[...endpoints].sort()}`
      );
      return `${key}=${numbers.join(";")}`;
    }).join(" ");
  }

  #count(endpoint: string, { identity, ports }: Known, present: boolean): void {
    let known = this.#byIdentity.get(identity);
    if (!known) this.#byIdentity.set(identity, known = { endpoints: 0, names: new Set() });
    known.endpoints += present ? 1 : -1;
    for (const port of ports) {
      const protocol = protocolOf(port);
      if (protocol !== undefined) {
        this.#note(nameKey(protocol, port.name), identity, port.port, endpoint, present);
      }
    }
    if (known.endpoints === 0) this.#byIdentity.delete(identity);
  }

  #note(key: string, identity: number, port: number, endpoint: string, present: boolean): void {
    let identities = this.#byName.get(key);
    if (!identities) this.#byName.set(key, identities = new Map());
    let ports = identities.get(identity);
    if (!ports) identities.set(identity, ports = new Map());
    const endpoints = ports.get(port) ?? new Set();
    if (present) endpoints.add(endpoint);
    else endpoints.delete(endpoint);
    if (endpoints.size > 0) ports.set(port, endpoints);
    else ports.delete(port);
    const names = this.#byIdentity.get(identity)!.names;
    if (ports.size > 0) names.add(key);
    else {
      names.delete(key);
      identities.delete(identity);
    }
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

function keysOf(known: Known | undefined): string[] {
  return (known?.ports ?? []).flatMap((port) => {
    const protocol = protocolOf(port);
    return protocol === undefined ? [] : nameKey(protocol, port.name);
  });
}

function tableText(ports: readonly NamedPort[]): string {
  return ports.map((port) => `${protocolOf(port)}/${port.name.toLowerCase()}=${port.port}`).sort().join();
}

function sameEndpoint(a: Known | undefined, b: Known | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.identity === b.identity && a.ports.length === b.ports.length &&
    a.ports.every((port, i) =>
      port.name === b.ports[i].name && port.port === b.ports[i].port && port.protocol === b.ports[i].protocol
    );
}
