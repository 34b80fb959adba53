/**
 * From the uses of peers to the entries of one remote identity. The only place where rules become entries: resolution,
 * explanation and replay all go through it.
 * @module
 */
import {
  passPrecedence,
  type PortPrefix,
  portPrefixContains,
  portPrefixes,
  precedence,
  PRECEDENCE_ALLOW_ALL,
  PRECEDENCE_AUDIT_DEFAULT,
  PRECEDENCE_REDIRECT,
  PRIORITY_ORDINARY,
  thinEntries,
} from "@weir/common";
import type { MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import type { CookieRegistry, SourceRef } from "./cookie_registry.ts";
import type { NamedPortTable } from "./named_ports.ts";
import type { Direction, PolicyKind, PortMatch } from "./policy.ts";
import { internRules, type UsedRules } from "./port_rules.ts";
import { RULE_SET_CONFLICT, type RuleSetRegistry } from "./rule_set_registry.ts";

/** What resolution needs beside rules. */
export interface ResolverTables {
  readonly cookies: CookieRegistry;
  readonly namedPorts: NamedPortTable;
  readonly ruleSets: RuleSetRegistry;
}

interface Pending {
  readonly direction: Direction;
  /** Of the rules: what those of another one say is another entry. */
  readonly priority: number;
  readonly protocol: number;
  readonly prefix: PortPrefix;
  readonly portName: string;
  /** Only for these destinations. */
  readonly addresses: readonly string[] | undefined;
  allow: SourceRef[];
  deny: SourceRef[];
  pass: SourceRef[];
  /** L7 rules of those that allow; empty: there are none, or they are hidden by a shorter prefix's. */
  used: UsedRules[];
  /** Those that allow everything. */
  plain: SourceRef[];
}

/**
 * The entries for one remote identity (0: whatever identity) of all uses that mean it, distilled but for passes and what is behind
 * them. Those of policies in audit mode stand
 * beside the others', which they change nothing of.
 */
export function resolveEntries(
  identity: number,
  uses: Iterable<PeerUse>,
  tables: ResolverTables,
): MapStateEntry[] {
  const enforced: PeerUse[] = [], audited: PeerUse[] = [];
  for (const use of uses) (use.rule.policy.audit ? audited : enforced).push(use);
  const entries = resolveUses(identity, enforced, tables);
  if (audited.length === 0) return entries;
  for (const entry of resolveUses(identity, audited, tables)) entries.push({ ...entry, audit: true });
  return thinEntries(entries);
}

/** Of one key and priority, a deny wins over an allow, and that over a pass; the cookie names every rule that says the same. */
function resolveUses(identity: number, uses: readonly PeerUse[], tables: ResolverTables): MapStateEntry[] {
  const pending = new Map<string, Pending>();
  for (const use of uses) {
    const { ports, priority = PRIORITY_ORDINARY } = use.section;
    for (const port of ports) {
      for (const { prefix, portName, addresses } of placesOf(identity, use, port, tables.namedPorts)) {
        const key =
          `${use.direction}/${priority}/${port.protocol}/${prefix.port}/${prefix.bits}/${portName}/${
            addresses ?? ""
          }`;
        let found = pending.get(key);
        if (!found) {
          found = {
            direction: use.direction,
            priority,
            protocol: port.protocol,
            prefix,
            portName,
            addresses,
            allow: [],
            deny: [],
            pass: [],
            used: [],
            plain: [],
          };
          pending.set(key, found);
        }
        note(found, use, port);
      }
    }
  }
  const split = splitByAddress([...pending.values()]);
  const redirects = split.filter(({ used, deny }) => used.length > 0 && deny.length === 0);
  if (redirects.length > 0) { for (const found of split) redirectWithin(found, redirects); }
  return thinEntries(split.flatMap((found) => entriesOf(identity, found, tables)));
}

function note(found: Pending, use: PeerUse, { rules }: PortMatch): void {
  if (use.section.deny) {
    found.deny.push(use.source);
    return;
  }
  if (use.section.pass) {
    found.pass.push(use.source);
    return;
  }
  found.allow.push(use.source);
  if (rules) found.used.push({ rules, source: use.source });
  // What leaves the rest open does not close a port either.
  if (!rules || !use.rule.rule.directions[use.direction].defaultDeny) found.plain.push(use.source);
}

/** A plain allow inside a redirect is one, too: the redirect would win, and everything passes all the same. */
function redirectWithin(found: Pending, redirects: readonly Pending[]): void {
  if (found.used.length > 0 || found.allow.length === 0 || found.portName !== "") return;
  const around = redirects.filter((one) =>
    one.direction === found.direction && one.priority === found.priority &&
    one.protocol === found.protocol && one.portName === "" && one.addresses === undefined &&
    one.prefix.bits < found.prefix.bits &&
    portPrefixContains(one.prefix, found.prefix.port)
  ).sort((a, b) => b.prefix.bits - a.prefix.bits);
  if (around.length > 0) found.used = around[0].used;
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
    const everyone = Map.groupBy(
      whole.filter((each) =>
        each.direction === direction && each.protocol === protocol && each.portName === "" &&
        each.prefix.port === prefix.port && each.prefix.bits === prefix.bits
      ),
      ({ priority }) => priority,
    );
    const members = (address: string) => overlapping.filter(({ addresses }) => addresses!.includes(address));
    const addresses = new Set(overlapping.flatMap(({ addresses }) => addresses!));
    const sets = Map.groupBy(
      addresses,
      (address) => members(address).map((each) => overlapping.indexOf(each)).join(),
    );
    for (const set of sets.values()) {
      for (const [priority, own] of Map.groupBy(members(set[0]), ({ priority }) => priority)) {
        const said = [...own, ...everyone.get(priority) ?? []];
        found.push({
          ...own[0],
          addresses: set.sort(),
          allow: said.flatMap(({ allow }) => allow),
          deny: said.flatMap(({ deny }) => deny),
          pass: said.flatMap(({ pass }) => pass),
          used: said.flatMap(({ used }) => used),
          plain: said.flatMap(({ plain }) => plain),
        });
      }
    }
  }
  return found;
}

function entriesOf(identity: number, found: Pending, tables: ResolverTables): MapStateEntry[] {
  const { direction, priority, used, plain } = found;
  const ruleSet = found.deny.length > 0 || used.length === 0
    ? 0
    : internRules(direction, used, plain, tables);
  // Nothing is put in force with a conflict; should it be, nothing passes.
  const isDenied = found.deny.length > 0 || ruleSet === RULE_SET_CONFLICT;
  const pass = !isDenied && found.allow.length === 0;
  const sources = found.deny.length > 0 ? found.deny : pass ? found.pass : found.allow;
  return [{
    direction,
    identity,
    protocol: found.protocol,
    port: found.prefix.port,
    portPrefixLength: found.prefix.bits,
    deny: isDenied || pass,
    pass,
    precedence: pass
      ? passPrecedence(priority)
      : ruleSet !== 0 && !isDenied
      ? PRECEDENCE_REDIRECT
      : precedence(priority, isDenied),
    ruleSet,
    cookie: tables.cookies.intern(direction, false, sources),
    portName: found.portName,
    addresses: [...found.addresses ?? []],
    audit: false,
    passedTo: 0,
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
  if (falls && isCiliums(use.rule.policy.kind)) {
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

function isCiliums(kind: PolicyKind): boolean {
  return kind === "CiliumNetworkPolicy" || kind === "CiliumClusterwideNetworkPolicy";
}

/** What a set of rules does to a direction as a whole. */
export interface DirectionPolicy {
  readonly enforced: boolean;
  /** Cookie of the rules that put the subject into default deny; 0 when none does. */
  readonly defaultCookie: number;
  /** The allow-all behind every rule, when rules apply and none of them closes the direction. */
  readonly allowAll?: MapStateEntry;
  /** The default deny of policies in audit mode. */
  readonly auditDefault?: MapStateEntry;
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
  const audited: SourceRef[] = [];
  for (const { rule, policy, sources } of rules) {
    const { applies, defaultDeny } = rule.directions[direction];
    if (!applies || (policy.audit && !defaultDeny)) continue;
    (policy.audit ? audited : defaultDeny ? closing : open).push(sources[direction]);
  }
  const isOpen = !always && closing.length === 0 && open.length > 0;
  return {
    enforced: always || closing.length + open.length > 0,
    defaultCookie: cookies.intern(direction, true, closing),
    allowAll: isOpen
      ? {
        ...entryForAll(direction),
        precedence: PRECEDENCE_ALLOW_ALL,
        cookie: cookies.intern(direction, false, open),
      }
      : undefined,
    auditDefault: audited.length > 0
      ? {
        ...entryForAll(direction),
        deny: true,
        audit: true,
        precedence: PRECEDENCE_AUDIT_DEFAULT,
        cookie: cookies.intern(direction, true, audited),
      }
      : undefined,
  };
}

/** An entry for everyone and everything. */
function entryForAll(direction: Direction): MapStateEntry {
  return {
    direction,
    identity: 0,
    protocol: 0,
    port: 0,
    portPrefixLength: 0,
    deny: false,
    pass: false,
    precedence: 0,
    ruleSet: 0,
    cookie: 0,
    portName: "",
    addresses: [],
    audit: false,
    passedTo: 0,
  };
}
