/**
 * Map state: the policy of one identity as entries, the form that engine, endpoint manager and kernel share.
 *
 * The kernel finds, per remote identity and for "any identity", the entry with the longest (protocol, port) prefix (`entry_prefix.ts`).
 * A longer prefix would hide a shorter one of higher precedence, so {@link distillEntries} takes such entries out before
 * they are written anywhere.
 * @module
 */
import type { MapState as MapStateMessage, MapStateEntry } from "@weir/proto/policy";
import { coveringKeys, entryKey, entryPrefixLength, prefixKey } from "./entry_prefix.ts";
import { resolvePasses } from "./pass_entries.ts";
import { portPrefixContains } from "./port_prefix.ts";
import { PRECEDENCE_AUDIT_DEFAULT, tierOf } from "./precedence.ts";

/** IP protocol numbers by name. */
export const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPV6: 58,
  SCTP: 132,
};

/** Name of an IP protocol number; the number itself where there is none, `ANY` for 0. */
export function protocolName(protocol: number): string {
  if (protocol === 0) return "ANY";
  return Object.entries(PROTOCOL_NUMBERS).find(([, number]) => number === protocol)?.[0] ?? String(protocol);
}

/** True when the entry is for this protocol and port, whatever its identity. */
export function entryCovers(entry: MapStateEntry, protocol: number, port: number): boolean {
  if (entry.portName !== "") return false;
  if (entry.protocol === 0) return true;
  return entry.protocol === protocol &&
    portPrefixContains({ port: entry.port, bits: entry.portPrefixLength }, port);
}

/** Canonical order of entries, so that equal sets have equal lists. */
function compareEntries(a: MapStateEntry, b: MapStateEntry): number {
  return (a.direction < b.direction ? -1 : a.direction > b.direction ? 1 : 0) || a.identity - b.identity ||
    a.protocol - b.protocol || a.port - b.port || a.portPrefixLength - b.portPrefixLength ||
    Number(a.audit) - Number(b.audit) ||
    compareText(a.portName, b.portName) || compareText(a.addresses.join(), b.addresses.join()) ||
    b.precedence - a.precedence ||
    a.cookie - b.cookie || a.ruleSet - b.ruleSet;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The entries that the kernel may be given: no passes, one per key (the highest precedence), none that would hide a shorter
 * prefix of higher precedence of the same identity. Entries with a port name pass untouched, because only the
 * endpoint knows what they cover. Entries for some addresses stand beside those for all: they hide them for these only. The result is in canonical order and does not depend on the order given.
 */
export function distillEntries(entries: Iterable<MapStateEntry>): MapStateEntry[] {
  const all = [...entries], audited = all.filter(({ audit }) => audit);
  if (audited.length === 0) return eachGroup(resolvePasses(all), distillGroup);
  return eachGroup([...resolvePasses(all.filter(({ audit }) => !audit)), ...audited], distillGroup);
}

/** The same as they are written: what a pass leads to that nothing decides about is a deny like others. */
export function kernelEntries(entries: Iterable<MapStateEntry>): MapStateEntry[] {
  return distillEntries(entries).map((entry) => entry.pass ? { ...entry, pass: false } : entry);
}

/**
 * The entries that say the same to whoever adds some of other identities and then distills them: where there are tiers, one entry hides
 * others only within its own, for a pass may lead past it. Without tiers that is what {@link distillEntries} says.
 */
export function thinEntries(entries: Iterable<MapStateEntry>): MapStateEntry[] {
  return eachGroup(entries, (group) => {
    if (!group.some(isTiered)) return distillGroup(group);
    return [...Map.groupBy(group, ({ precedence }) => tierOf(precedence)).values()].flatMap(distillGroup);
  });
}

/** Whether an entry belongs to a tier before or behind that of ordinary policies. */
export function isTiered({ precedence }: Pick<MapStateEntry, "precedence">): boolean {
  const tier = tierOf(precedence);
  return tier === "Admin" || tier === "Baseline";
}

function eachGroup(
  entries: Iterable<MapStateEntry>,
  reduce: (group: MapStateEntry[]) => MapStateEntry[],
): MapStateEntry[] {
  const groups = new Map<string, MapStateEntry[]>();
  const kept: MapStateEntry[] = [];
  for (const entry of entries) {
    const group = `${entry.direction}/${entry.identity}/${entry.audit}`;
    const list = groups.get(group);
    if (list) list.push(entry);
    else groups.set(group, [entry]);
  }
  for (const group of groups.values()) {
    if (group.length === 1) kept.push(group[0]);
    else kept.push(...reduce(group));
  }
  return kept.sort(compareEntries);
}

/** One direction and identity. Shorter prefixes first, so that what covers an entry is known when it comes. */
function distillGroup(entries: MapStateEntry[]): MapStateEntry[] {
  const kept: MapStateEntry[] = [];
  // Highest precedence by prefix, to look up the at most 17 prefixes that cover an entry.
  const highest = new Map<number, number>();
  const sorted = entries.toSorted((a, b) =>
    entryPrefixLength(a) - entryPrefixLength(b) || b.precedence - a.precedence || compareEntries(a, b)
  );
  const named = new Set<string>();
  for (const entry of sorted) {
    if (entry.portName !== "") {
      const key = `${entry.protocol}/${entry.portName}`;
      if (!named.has(key)) kept.push(entry);
      named.add(key);
      continue;
    }
    const partly = entry.addresses.length > 0;
    const key = entryKey(entry), own = highest.get(key);
    if (own !== undefined && (!partly || own > entry.precedence)) continue;
    let hidden = false;
    for (const shorter of coveringKeys(entry)) {
      const covering = highest.get(shorter);
      if (covering !== undefined && covering > entry.precedence) hidden = true;
    }
    if (hidden) continue;
    if (!partly) highest.set(key, entry.precedence);
    kept.push(entry);
  }
  return kept;
}

/**
 * The policy towards an identity that is several ones at a time, as an address is that lies in a prefix and that names mean:
 * the entries of all members, as the identity's own. The kernel is given them distilled, who judges requests as they are, for
 * what one member's entries hide of another's still says what passes.
 */
export function composeEntries<E extends { readonly identity?: number }>(
  entries: Iterable<E>,
  identity: number,
  members: ReadonlySet<number>,
): E[] {
  const composed: E[] = [];
  for (const entry of entries) {
    if (members.has(entry.identity ?? 0)) composed.push({ ...entry, identity });
  }
  return composed;
}

/** One named port of an endpoint, as in `@weir/proto/identity`. */
export interface NamedPortLike {
  readonly name: string;
  readonly port: number;
  /** `TCP` when empty. */
  readonly protocol: string;
}

/**
 * The entries of one endpoint: port names replaced by the numbers of its own table, then distilled. A name that the
 * endpoint does not define for the protocol yields nothing; the direction stays enforced. Names are case-folded.
 */
export function resolvePortNames(
  entries: Iterable<MapStateEntry>,
  namedPorts: readonly NamedPortLike[],
): MapStateEntry[] {
  return kernelEntries(replacePortNames(entries, namedPorts));
}

/** The same without distilling: what a redirect hides from the kernel still says what passes the proxy. */
export function replacePortNames(
  entries: Iterable<MapStateEntry>,
  namedPorts: readonly NamedPortLike[],
): MapStateEntry[] {
  const table = new Map<string, number[]>();
  for (const { name, port, protocol } of namedPorts) {
    const key = `${PROTOCOL_NUMBERS[(protocol || "TCP").toUpperCase()]}/${name.toLowerCase()}`;
    table.set(key, [...(table.get(key) ?? []), port]);
  }
  const resolved: MapStateEntry[] = [];
  for (const entry of entries) {
    if (entry.portName === "") resolved.push(entry);
    else {
      for (const port of table.get(`${entry.protocol}/${entry.portName.toLowerCase()}`) ?? []) {
        resolved.push({ ...entry, port, portPrefixLength: 16, portName: "" });
      }
    }
  }
  return resolved;
}

/** What {@link MapState.lookup} says. */
export interface Verdict {
  readonly allowed: boolean;
  /** `open`: the direction is not enforced; `entry`: an entry decides; `default-deny`: none matches. */
  readonly by: "open" | "entry" | "default-deny";
  /** The deciding entry. */
  readonly entry?: MapStateEntry;
  /** Cookie of the deciding entry, or of the policies that put the subject into default deny; 0 when open. */
  readonly cookie: number;
  /**
   * Rule sets of every allow that covers the connection, the deciding entry's first: a request passes if any of those that are
   * of the first one's kind allows it. Empty: there is no judgement beyond this one.
   */
  readonly ruleSets: readonly number[];
  /** It passes, and policies in audit mode would deny it: the cookie of these, and their entry. */
  readonly audited?: { readonly cookie: number; readonly entry: MapStateEntry };
  /** Beside rule sets, the cookie of an allow without one that covers the connection: every request passes. 0: there is none. */
  readonly plainCookie: number;
}

const UNJUDGED = { ruleSets: [], plainCookie: 0 } as const;

/** The policy of one identity (or, after {@link resolvePortNames}, of one endpoint), ready for lookups. */
export class MapState {
  readonly #byPrefix = new Map<string, Map<number, MapStateEntry>>();
  /** Entries for some addresses, by the same keys. */
  readonly #partly = new Map<string, Map<number, MapStateEntry[]>>();
  /** Allowing entries, those too that others hide, by the same keys; empty without rule sets. */
  readonly #allowing = new Map<string, MapStateEntry[]>();
  /** Without those of policies in audit mode. */
  readonly entries: readonly MapStateEntry[];
  /** What policies in audit mode say; undefined: none does. */
  readonly #audit: MapState | undefined;

  private constructor(readonly message: MapStateMessage, given: readonly MapStateEntry[]) {
    const audit = given.filter(({ audit }) => audit);
    if (audit.length > 0) {
      const enforced = { ...message, enforceIngress: true, enforceEgress: true };
      this.#audit = new MapState(enforced, audit.map((entry) => ({ ...entry, audit: false })));
    }
    const all = audit.length === 0 ? given : given.filter(({ audit }) => !audit);
    const entries = this.entries = distillEntries(all);
    if (all.some(({ ruleSet }) => ruleSet !== 0)) {
      const mayPass = all.some(({ pass }) => pass);
      for (const entry of all) {
        if (entry.deny || entry.portName !== "") continue;
        // What an administrator accepts is not judged; where that was passed over, it says nothing. Without a pass nothing is, and entries
        // that an older engine made have its numbers.
        if (mayPass && isTiered(entry)) continue;
        const key = allowingKey(entry.direction, entry.identity, entryKey(entry));
        const list = this.#allowing.get(key);
        if (list) list.push(entry);
        else this.#allowing.set(key, [entry]);
      }
    }
    for (const entry of entries) {
      if (entry.portName !== "") continue;
      const group = `${entry.direction}/${entry.identity}`;
      if (entry.addresses.length > 0) {
        const key = entryKey(entry);
        const parts = this.#partly.get(group) ?? new Map<number, MapStateEntry[]>();
        this.#partly.set(group, parts);
        parts.set(key, [...parts.get(key) ?? [], entry]);
        continue;
      }
      let table = this.#byPrefix.get(group);
      if (!table) this.#byPrefix.set(group, table = new Map());
      table.set(entryKey(entry), entry);
    }
  }

  /** @param namedPorts the endpoint's own table, for ingress rules that name a port; default none */
  static of(message: MapStateMessage, namedPorts: readonly NamedPortLike[] = []): MapState {
    return new MapState(message, replacePortNames(message.entries, namedPorts));
  }

  /** Whether the direction is closed unless an entry opens it. */
  enforced(direction: "INGRESS" | "EGRESS"): boolean {
    return direction === "INGRESS" ? this.message.enforceIngress : this.message.enforceEgress;
  }

  /**
   * The verdict for a new connection, as the kernel gives it: the longest prefix for the identity and the longest for
   * any identity; the higher precedence of the two; at equal precedence a deny of the identity, else the longer prefix,
   * else the identity's.
   * @param address prefix of the remote end; without one, what is for some addresses of the identity counts
   */
  lookup(
    remoteIdentity: number,
    direction: "INGRESS" | "EGRESS",
    protocol: number,
    port: number,
    address?: string,
  ): Verdict {
    const verdict = this.#lookup(remoteIdentity, direction, protocol, port, address);
    if (this.#audit === undefined || !verdict.allowed) return verdict;
    // Beside the others: a deny counts where it would be above what lets the connection pass.
    const { entry } = this.#audit.#lookup(remoteIdentity, direction, protocol, port, address);
    return entry?.deny && auditCounts(entry, verdict.entry)
      ? { ...verdict, audited: { cookie: entry.cookie, entry } }
      : verdict;
  }

  #lookup(
    remoteIdentity: number,
    direction: "INGRESS" | "EGRESS",
    protocol: number,
    port: number,
    address: string | undefined,
  ): Verdict {
    if (!this.enforced(direction)) return { allowed: true, by: "open", cookie: 0, ...UNJUDGED };
    const own = remoteIdentity === 0
      ? undefined
      : this.#longest(direction, remoteIdentity, protocol, port, address);
    const any = this.#longest(direction, 0, protocol, port, address);
    const entry = choose(own, any);
    // One that was passed on and that nothing decides about.
    if (!entry || entry.pass) {
      const cookie = direction === "INGRESS"
        ? this.message.ingressDefaultCookie
        : this.message.egressDefaultCookie;
      return { allowed: false, by: "default-deny", cookie, ...UNJUDGED };
    }
    const { deny, cookie, ruleSet } = entry;
    const judged = deny || ruleSet === 0
      ? UNJUDGED
      : this.#judgedBy(entry, { remoteIdentity, direction, protocol, port, address });
    return { allowed: !deny, by: "entry", entry, cookie, ...judged };
  }

  /** What else than the deciding entry allows the connection. */
  #judgedBy(
    entry: MapStateEntry,
    { remoteIdentity, direction, protocol, port, address }: {
      remoteIdentity: number;
      direction: string;
      protocol: number;
      port: number;
      address: string | undefined;
    },
  ): Pick<Verdict, "ruleSets" | "plainCookie"> {
    const ruleSets = new Set([entry.ruleSet]);
    let plainCookie = 0;
    for (const identity of remoteIdentity === 0 ? [0] : [remoteIdentity, 0]) {
      for (let length = 24; length >= 0; length = length === 8 ? 0 : length - 1) {
        const key = allowingKey(direction, identity, prefixKey(protocol, port, length));
        for (const { ruleSet, cookie, addresses } of this.#allowing.get(key) ?? []) {
          if (addresses.length > 0 && address !== undefined && !addresses.includes(address)) continue;
          if (ruleSet !== 0) ruleSets.add(ruleSet);
          else plainCookie ||= cookie;
        }
        if (length === 0) break;
      }
    }
    return { ruleSets: [...ruleSets], plainCookie };
  }

  #longest(
    direction: string,
    identity: number,
    protocol: number,
    port: number,
    address: string | undefined,
  ): MapStateEntry | undefined {
    const table = this.#byPrefix.get(`${direction}/${identity}`);
    const partly = this.#partly.get(`${direction}/${identity}`)?.get(prefixKey(protocol, port, 24));
    const part = partly?.find(({ addresses }) => address === undefined || addresses.includes(address));
    if (part) return part;
    if (!table) return undefined;
    for (let length = 24; length >= 8; length--) {
      const entry = table.get(prefixKey(protocol, port, length));
      if (entry) return entry;
    }
    return table.get(0);
  }
}

/**
 * Whether the deny of policies in audit mode would come before what lets a connection pass; undefined: nothing needs to. Administrators'
 * rules come before any of theirs, and their default deny before what is asked, or open, behind ordinary policies.
 */
function auditCounts({ precedence }: MapStateEntry, passes: MapStateEntry | undefined): boolean {
  const tier = passes === undefined ? "Open" : tierOf(passes.passedTo || passes.precedence);
  return tier !== "Admin" && (tier !== "Ordinary" || precedence !== PRECEDENCE_AUDIT_DEFAULT);
}

function allowingKey(direction: string, identity: number, prefix: number): string {
  return `${direction}/${identity}/${prefix}`;
}

function choose(own: MapStateEntry | undefined, any: MapStateEntry | undefined): MapStateEntry | undefined {
  if (!own || !any) return own ?? any;
  if (own.precedence !== any.precedence) return own.precedence > any.precedence ? own : any;
  if (own.deny) return own;
  return entryPrefixLength(any) > entryPrefixLength(own) ? any : own;
}
