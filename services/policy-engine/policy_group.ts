/**
 * The shared policy of every identity that the same rules select. Entries are kept per remote identity, so a change of
 * one identity recomputes that identity's entries and nothing else.
 * @module
 */
import { distillEntries } from "@weir/common";
import type { MapState, MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import {
  type DirectionPolicy,
  resolveDirection,
  resolveEntries,
  type ResolverTables,
} from "./entry_resolver.ts";
import type { Direction } from "./policy.ts";
import type { SelectorCache } from "./selector_cache.ts";

/** What resolution has done, so that tests can count work instead of time. */
export interface ResolutionWork {
  /** Remote identities whose entries were computed, summed over groups. */
  identitiesResolved: number;
  /** Groups that were resolved from scratch. */
  groupsResolved: number;
}

/** Most entries that one map state may have; the kernel's policy map holds fewer, so more can only be a mistake. */
export const ENTRIES_MAX = 262_144;

/** See the module comment. */
export class PolicyGroup {
  readonly subjects: Set<number> = new Set();
  readonly rules: readonly CompiledRule[];
  readonly directions: Readonly<Record<Direction, DirectionPolicy>>;
  /** Uses of peers by selector. */
  readonly #usesBySelector = new Map<string, PeerUse[]>();
  /** Uses with an egress port name and every peer: they mean each identity that defines the name. */
  readonly #wildNamedUses: PeerUse[] = [];
  readonly #entries = new Map<number, MapStateEntry[]>();
  #flat: MapStateEntry[] | undefined;

  constructor(
    readonly key: string,
    rules: readonly CompiledRule[],
    private readonly cache: SelectorCache,
    private readonly tables: ResolverTables,
    private readonly work: ResolutionWork,
    always: boolean,
  ) {
    this.rules = rules;
    this.egressNames = new Set(rules.flatMap((rule) => [...rule.egressNames]));
    this.directions = {
      INGRESS: resolveDirection("INGRESS", rules, tables.cookies, always),
      EGRESS: resolveDirection("EGRESS", rules, tables.cookies, always),
    };
    for (const rule of rules) {
      for (const use of rule.uses) {
        const uses = this.#usesBySelector.get(use.selector.key);
        if (uses) uses.push(use);
        else this.#usesBySelector.set(use.selector.key, [use]);
        const named = use.direction === "EGRESS" && use.selector.selector.type === "any" &&
          use.section.ports.some((port) => port.name !== "");
        if (named) this.#wildNamedUses.push(use);
      }
    }
    this.resolveAll();
  }

  /** Port names of egress rules, by `nameKey`. */
  readonly egressNames: ReadonlySet<string>;

  /** Keys of the peer selectors that the group uses. */
  selectorKeys(): Iterable<string> {
    return this.#usesBySelector.keys();
  }

  /** Computes the entries of one remote identity anew (0: of the wildcard). */
  resolveIdentity(identity: number): void {
    this.work.identitiesResolved++;
    const entries = resolveEntries(identity, this.#usesOf(identity), this.tables);
    if (entries.length > 0) this.#entries.set(identity, entries);
    else this.#entries.delete(identity);
    this.#flat = undefined;
  }

  /** Forgets the entries of an identity that is gone. */
  removeIdentity(identity: number): void {
    this.#entries.delete(identity);
    this.#flat = undefined;
  }

  /** All entries in canonical order; the list is shared and never changed. */
  entries(): MapStateEntry[] {
    if (this.#flat) return this.#flat;
    const wild = [...this.#entries.get(0) ?? []];
    for (const direction of ["INGRESS", "EGRESS"] as const) {
      const { allowAll } = this.directions[direction];
      if (allowAll) wild.push(allowAll);
    }
    const flat = distillEntries(wild);
    const identities = [...this.#entries.keys()].filter((identity) => identity !== 0).sort((a, b) => a - b);
    for (const identity of identities) {
      const entries = this.#entries.get(identity)!;
      for (const entry of entries) flat.push(entry);
    }
    return this.#flat = flat;
  }

  /** Entries of the wildcard and of one identity: all that a lookup for it can meet. */
  entriesFor(identity: number): MapStateEntry[] {
    return this.entries().filter((entry) => entry.identity === 0 || entry.identity === identity);
  }

  /** The message for one subject. */
  mapState(subject: number, policyRevision: number): MapState {
    const entries = this.entries();
    const tooMany = entries.length > ENTRIES_MAX;
    return {
      identity: subject,
      policyRevision,
      enforceIngress: this.directions.INGRESS.enforced,
      enforceEgress: this.directions.EGRESS.enforced,
      ingressDefaultCookie: this.directions.INGRESS.defaultCookie,
      egressDefaultCookie: this.directions.EGRESS.defaultCookie,
      entries: tooMany ? [] : entries,
      error: tooMany
        ? `Cannot resolve policy of identity ${subject}: ${entries.length} entries, want at most ${ENTRIES_MAX}`
        : "",
    };
  }

  /** Cookies that the group's entries and defaults name. */
  *cookies(): Generator<number> {
    for (const entry of this.entries()) yield entry.cookie;
    yield this.directions.INGRESS.defaultCookie;
    yield this.directions.EGRESS.defaultCookie;
  }

  *#usesOf(identity: number): Generator<PeerUse> {
    if (identity === 0) {
      yield* this.#usesBySelector.get("any") ?? [];
      return;
    }
    for (const selector of this.cache.selectorsOf(identity)) {
      yield* this.#usesBySelector.get(selector.key) ?? [];
    }
    if (this.#wildNamedUses.length > 0) yield* this.#wildNamedUses.map(onlyNamedPorts);
  }

  /** Computes every entry anew. */
  resolveAll(): void {
    this.work.groupsResolved++;
    this.#entries.clear();
    const identities = new Set<number>([0]);
    for (const key of this.#usesBySelector.keys()) {
      const use = this.#usesBySelector.get(key)![0];
      for (const number of use.selector.matches) identities.add(number);
    }
    for (const use of this.#wildNamedUses) {
      for (const port of use.section.ports) {
        if (port.name === "") continue;
        for (const number of this.tables.namedPorts.identitiesWith(port.protocol, port.name)) {
          identities.add(number);
        }
      }
    }
    for (const identity of identities) this.resolveIdentity(identity);
  }
}

/** The numbered ports of a use for everyone are the wildcard's business; per identity only the names are left. */
function onlyNamedPorts(use: PeerUse): PeerUse {
  return { ...use, section: { ...use.section, ports: use.section.ports.filter((port) => port.name !== "") } };
}
