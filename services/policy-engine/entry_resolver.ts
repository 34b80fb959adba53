/**
 * From the uses of peers to the entries of one remote identity. The only place where rules become entries: resolution,
 * explanation and replay all go through it.
 * @module
 */
import {
  distillEntries,
  type PortPrefix,
  portPrefixes,
  PRECEDENCE_ALLOW,
  PRECEDENCE_ALLOW_ALL,
  PRECEDENCE_DENY,
} from "@weir/common";
import type { MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import type { CookieRegistry, SourceRef } from "./cookie_registry.ts";
import type { NamedPortTable } from "./named_ports.ts";
import type { Direction, PortMatch } from "./policy.ts";

/** What resolution needs beside rules. */
export interface ResolverTables {
  readonly cookies: CookieRegistry;
  readonly namedPorts: NamedPortTable;
}

interface Pending {
  readonly direction: Direction;
  readonly protocol: number;
  readonly prefix: PortPrefix;
  readonly portName: string;
  /** Only for these destinations. */
  readonly addresses: readonly string[] | undefined;
  allow: SourceRef[];
  deny: SourceRef[];
}

/**
 * The distilled entries for one remote identity (0: whatever identity) of all uses that mean it. Of one key, a deny wins
 * over an allow, and the cookie names every rule that says the same.
 */
export function resolveEntries(
  identity: number,
  uses: Iterable<PeerUse>,
  tables: ResolverTables,
): MapStateEntry[] {
  const pending = new Map<string, Pending>();
  for (const use of uses) {
    for (const port of use.section.ports) {
      for (const { prefix, portName, addresses } of placesOf(identity, use, port, tables.namedPorts)) {
        const key = `${use.direction}/${port.protocol}/${prefix.port}/${prefix.bits}/${portName}/${
          addresses ?? ""
        }`;
        let found = pending.get(key);
        if (!found) {
          found = {
            direction: use.direction,
            protocol: port.protocol,
            prefix,
            portName,
            addresses,
            allow: [],
            deny: [],
          };
          pending.set(key, found);
        }
        (use.section.deny ? found.deny : found.allow).push(use.source);
      }
    }
  }
  const entries = splitByAddress([...pending.values()])
    .flatMap((found) => entriesOf(identity, found, tables.cookies));
  return distillEntries(entries);
}

/**
 * Where some destinations only have a port, each set of them gets all that is said of it there: what is for everyone at
 * the same port, and what is for sets that overlap. So one lookup by address finds the whole answer.
 */
function splitByAddress(pending: readonly Pending[]): Pending[] {
  const whole = pending.filter(({ addresses }) => addresses === undefined), found = [...whole];
  const parts = Map.groupBy(
    pending.filter(({ addresses }) => addresses !== undefined),
    ({ direction, protocol, prefix }) => `${direction}/${protocol}/${prefix.port}`,
  );
  for (const overlapping of parts.values()) {
    const [{ direction, protocol, prefix }] = overlapping;
    const everyone = whole.filter((each) =>
      each.direction === direction && each.protocol === protocol && each.portName === "" &&
      each.prefix.port === prefix.port && each.prefix.bits === prefix.bits
    );
    const members = (address: string) => overlapping.filter(({ addresses }) => addresses!.includes(address));
    const addresses = new Set(overlapping.flatMap(({ addresses }) => addresses!));
    const sets = Map.groupBy(
      addresses,
      (address) => members(address).map((each) => overlapping.indexOf(each)).join(),
    );
    for (const set of sets.values()) {
      const said = [...members(set[0]), ...everyone];
      found.push({
        ...overlapping[0],
        addresses: set.sort(),
        allow: said.flatMap(({ allow }) => allow),
        deny: said.flatMap(({ deny }) => deny),
      });
    }
  }
  return found;
}

function entriesOf(identity: number, found: Pending, cookies: CookieRegistry): MapStateEntry[] {
  const deny = found.deny.length > 0;
  return [{
    direction: found.direction,
    identity,
    protocol: found.protocol,
    port: found.prefix.port,
    portPrefixLength: found.prefix.bits,
    deny,
    precedence: deny ? PRECEDENCE_DENY : PRECEDENCE_ALLOW,
    proxyPort: 0,
    cookie: cookies.intern(found.direction, false, deny ? found.deny : found.allow),
    portName: found.portName,
    addresses: [...found.addresses ?? []],
  }];
}

/** Where a port match lies: as numbers, or for ingress names as the name that the endpoint itself resolves. */
function placesOf(
  identity: number,
  use: PeerUse,
  port: PortMatch,
  namedPorts: NamedPortTable,
): { prefix: PortPrefix; portName: string; addresses: readonly string[] | undefined }[] {
  const addresses = undefined;
  if (port.name === "") {
    return portPrefixes(port.first, port.last).map((prefix) => ({ prefix, portName: "", addresses }));
  }
  if (use.direction === "INGRESS") return [{ prefix: { port: 0, bits: 0 }, portName: port.name, addresses }];
  const numbers = identity === 0 ? [] : namedPorts.numbersOf(identity, port.protocol, port.name);
  const falls = identity === 0 || use.selector.selector.type !== "any";
  if (falls && use.rule.policy.kind !== "NetworkPolicy") {
    // Cilium's policies read a name that the peer does not define by the whole cluster's table, if that is of one mind.
    const unique = namedPorts.uniquePort(port.protocol, port.name);
    if (unique !== undefined) return [{ prefix: { port: unique, bits: 16 }, portName: "", addresses }];
  }
  return numbers.map(({ port: number, addresses }) => ({
    prefix: { port: number, bits: 16 },
    portName: "",
    addresses,
  }));
}

/** What a set of rules does to a direction as a whole. */
export interface DirectionPolicy {
  readonly enforced: boolean;
  /** Cookie of the rules that put the subject into default deny; 0 when none does. */
  readonly defaultCookie: number;
  /** The allow-all behind every rule, when rules apply and none of them closes the direction. */
  readonly allowAll?: MapStateEntry;
}

/** @param always the subject is enforced without any rule, as an endpoint whose labels are not known yet */
export function resolveDirection(
  direction: Direction,
  rules: Iterable<CompiledRule>,
  cookies: CookieRegistry,
  always = false,
): DirectionPolicy {
  const closing: SourceRef[] = [];
  const open: SourceRef[] = [];
  for (const { rule, sources } of rules) {
    if (!rule.directions[direction].applies) continue;
    (rule.directions[direction].defaultDeny ? closing : open).push(sources[direction]);
  }
  const enforced = always || closing.length + open.length > 0;
  const defaultCookie = cookies.intern(direction, true, closing);
  if (always || closing.length > 0 || open.length === 0) return { enforced, defaultCookie };
  const allowAll: MapStateEntry = {
    direction,
    identity: 0,
    protocol: 0,
    port: 0,
    portPrefixLength: 0,
    deny: false,
    precedence: PRECEDENCE_ALLOW_ALL,
    proxyPort: 0,
    cookie: cookies.intern(direction, false, open),
    portName: "",
    addresses: [],
  };
  return { enforced, defaultCookie, allowAll };
}
