/**
 * The entries towards remote identities of a set of rules. Sets share what they have in common: rules for everyone are
 * the lowest layer, rules for a namespace lie on it, rules for single workloads on top. A layer holds only identities
 * that its own rules name; all others are its parent's. So a clusterwide rule is resolved and kept once, not once per
 * set of rules that it is part of.
 * @module
 */
import { LABEL_CLUSTER, LABEL_NAMESPACE, LABEL_NAMESPACE_META_PREFIX } from "@weir/common";
import type { MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule, PeerUse } from "./compiled_rule.ts";
import { EntryPage, type EntryRun, ONE_PAGE, ONE_PAGE_ROWS_MAX, overlay, pageOf } from "./entry_page.ts";
import { resolveEntries, type ResolverTables } from "./entry_resolver.ts";
import type { RuleSetRegistry } from "./rule_set_registry.ts";
import type { SelectorCache } from "./selector_cache.ts";

/** What resolution has done, so that tests can count work instead of time. */
export interface ResolutionWork {
  /** Remote identities whose entries were computed, summed over groups and layers. */
  identitiesResolved: number;
  /** Groups that were resolved from scratch. */
  groupsResolved: number;
}

/** What every layer resolves with. */
export interface LayerTools {
  readonly cache: SelectorCache;
  readonly tables: ResolverTables;
  readonly work: ResolutionWork;
}

/** How many ranks {@link rankOf} knows. */
export const LAYER_RANKS = 3;

/** 0: the rule is for the whole cluster, 1: for namespaces, 2: for workloads. Depends on the rule's text alone. */
export function rankOf(rule: CompiledRule): number {
  let rank = 0;
  for (const { key, operator } of rule.rule.subject.requirements) {
    // To be in some namespace is what every pod is.
    if (key === LABEL_CLUSTER || key === LABEL_NAMESPACE && operator === "Exists") continue;
    if (key !== LABEL_NAMESPACE && !key.startsWith(LABEL_NAMESPACE_META_PREFIX)) return 2;
    rank = 1;
  }
  return rank;
}

/** Entries by remote identity (not the wildcard's) at one moment; never changes. */
export class LayerEntries {
  readonly #pages: ReadonlyMap<number, EntryPage>;
  readonly #parent: LayerEntries | undefined;
  #runs: readonly EntryRun[] | undefined;

  constructor(pages: ReadonlyMap<number, EntryPage>, parent: LayerEntries | undefined) {
    this.#pages = pages;
    this.#parent = parent;
  }

  /** True when it was made of these. */
  isOf(pages: ReadonlyMap<number, EntryPage>, parent: LayerEntries | undefined): boolean {
    return this.#pages === pages && this.#parent === parent;
  }

  /** Number of entries. */
  get count(): number {
    let count = this.#parent?.count ?? 0;
    for (const page of this.#pages.values()) {
      for (const [identity, entries] of page.rows) {
        count += entries.length - (this.#parent?.of(identity).length ?? 0);
      }
    }
    return count;
  }

  /** Entries of one identity. */
  of(identity: number): readonly MapStateEntry[] {
    const page = this.#pages.get(ONE_PAGE) ?? this.#pages.get(pageOf(identity));
    return page?.rows.get(identity) ?? this.#parent?.of(identity) ?? [];
  }

  /** All entries in order of identities, as runs of pages that other layers and moments have too. */
  runs(): readonly EntryRun[] {
    if (this.#runs) return this.#runs;
    const below = this.#parent?.runs() ?? [];
    if (this.#pages.size === 0) return this.#runs = below;
    const numbers = [...this.#pages.keys()].sort((a, b) => a - b);
    return this.#runs = overlay(below, numbers.map((number) => this.#pages.get(number)!));
  }
}

/** Resolves one layer and keeps it up to date. */
export class EntryLayer {
  readonly key: string;
  readonly rank: number;
  readonly rules: ReadonlySet<CompiledRule>;
  readonly parent: EntryLayer | undefined;
  /** Layers and groups that lie on this one. */
  users = 0;
  /** Port names of egress rules of this layer and those below, by `nameKey`. */
  readonly egressNames: ReadonlySet<string>;
  readonly #tools: LayerTools;
  /** Uses of peers of the layer's own rules by selector. */
  readonly #usesBySelector = new Map<string, PeerUse[]>();
  /** Uses with an egress port name and every peer: they mean each identity that defines the name. */
  readonly #wildNamedUses: PeerUse[] = [];
  /** Its own entries, by page and identity. A page that is not among the changed ones was given away. */
  #own = new Map<number, Map<number, MapStateEntry[]>>();
  /** The same as it is given away, and the numbers of the pages that have changed since. */
  #pages: ReadonlyMap<number, EntryPage> = new Map();
  readonly #changedPages = new Set<number>();
  #count = 0;
  #isPaged = false;
  #entries: LayerEntries | undefined;
  #shownPages: ReadonlyMap<number, EntryPage> = this.#pages;
  #shown: LayerEntries | undefined;

  /** @param like one of the same rank with almost the same rules: only what differs is resolved */
  constructor(
    key: string,
    rank: number,
    rules: readonly CompiledRule[],
    parent: EntryLayer | undefined,
    tools: LayerTools,
    like?: EntryLayer,
  ) {
    this.key = key;
    this.rank = rank;
    this.rules = new Set(rules);
    this.parent = parent;
    this.#tools = tools;
    this.egressNames = new Set([
      ...parent?.egressNames ?? [],
      ...rules.flatMap((rule) => [...rule.egressNames]),
    ]);
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
    if (like === undefined || like.egressNames.size + this.egressNames.size > 0) this.resolveAll();
    else this.#resolveLike(like);
  }

  /** Takes the entries of another layer but for identities that rules mean which only one of the two lies on. */
  #resolveLike(like: EntryLayer): void {
    this.#pages = like.#freeze();
    this.#own = new Map(like.#own);
    this.#isPaged = like.#isPaged;
    this.#count = like.#count;
    const identities = new Set<number>();
    for (const rule of this.rules.symmetricDifference(like.rules)) {
      for (const { selector } of rule.uses) for (const identity of selector.matches) identities.add(identity);
    }
    const below = this.#rulesBelow().symmetricDifference(like.#rulesBelow());
    const selectors = new Set([...below].flatMap(({ uses }) => uses.map(({ selector }) => selector)));
    if (selectors.size > 0) {
      for (const rows of this.#own.values()) {
        for (const identity of rows.keys()) {
          for (const { matches } of selectors) if (matches.has(identity)) identities.add(identity);
        }
      }
    }
    const known = new Map<string, MapStateEntry[]>();
    for (const identity of identities) this.resolveIdentity(identity, known);
  }

  /** Whether one of these layers is below this one. */
  liesOn(layers: ReadonlySet<EntryLayer>): boolean {
    for (let layer = this.parent; layer !== undefined; layer = layer.parent) {
      if (layers.has(layer)) return true;
    }
    return false;
  }

  #rulesBelow(): Set<CompiledRule> {
    const rules = new Set<CompiledRule>();
    for (let layer = this.parent; layer !== undefined; layer = layer.parent) {
      for (const rule of layer.rules) rules.add(rule);
    }
    return rules;
  }

  /** Whether a rule of its own means, by port name, identities that no selector of it names. */
  get namesEveryone(): boolean {
    return this.#wildNamedUses.length > 0;
  }

  /** Keys of the peer selectors of the layer's own rules. */
  selectorKeys(): Iterable<string> {
    return this.#usesBySelector.keys();
  }

  /**
   * Computes the entries of one remote identity anew. @param known entries of identities that were resolved at the same
   * time, by the uses that mean them: the same uses make the same entries, unless a port name is among them
   */
  resolveIdentity(identity: number, known?: Map<string, MapStateEntry[]>): void {
    this.#set(identity, this.#resolve(identity, known));
  }

  #resolve(identity: number, known?: Map<string, MapStateEntry[]>): MapStateEntry[] {
    const { work, tables } = this.#tools;
    const isLikeOthers = known !== undefined && this.egressNames.size === 0;
    let key = "";
    if (isLikeOthers) {
      key = this.#meaning(identity);
      if (key === "") return [];
      for (let below = this.parent; below !== undefined; below = below.parent) {
        key += `/${below.#meaning(identity)}`;
      }
      const like = known.get(key);
      if (like) {
        work.identitiesResolved++;
        return like.map((entry) => ({ ...entry, identity }));
      }
    }
    const uses = [...this.#ownUsesOf(identity)];
    if (uses.length === 0) return [];
    work.identitiesResolved++;
    for (let below = this.parent; below !== undefined; below = below.parent) {
      for (const use of below.#ownUsesOf(identity)) uses.push(use);
    }
    const entries = resolveEntries(identity, uses, tables);
    if (isLikeOthers) known.set(key, entries);
    return entries;
  }

  /** Which of the layer's own selectors mean the identity: the places of these in their order; "" for none. */
  #meaning(identity: number): string {
    let meaning = "", place = 0;
    for (const [{ selector }] of this.#usesBySelector.values()) {
      if (selector.matches.has(identity)) meaning += `${place},`;
      place++;
    }
    return meaning;
  }

  #set(identity: number, entries: MapStateEntry[]): void {
    const number = this.#isPaged ? pageOf(identity) : ONE_PAGE, before = this.#own.get(number);
    if (entries.length === 0 && !before?.has(identity)) return;
    // What was given away does not change.
    const isOurs = before !== undefined && this.#changedPages.has(number);
    const rows = isOurs ? before : new Map(before);
    this.#count += entries.length - (before?.get(identity)?.length ?? 0);
    if (entries.length > 0) rows.set(identity, entries);
    else rows.delete(identity);
    if (!isOurs) this.#own.set(number, rows);
    this.#changedPages.add(number);
    if (!this.#isPaged && rows.size > ONE_PAGE_ROWS_MAX) this.#split(rows);
  }

  #split(rows: Map<number, MapStateEntry[]>): void {
    this.#isPaged = true;
    this.#own.delete(ONE_PAGE);
    for (const [number, page] of Map.groupBy(rows, ([identity]) => pageOf(identity))) {
      this.#own.set(number, new Map(page));
      this.#changedPages.add(number);
    }
  }

  /** Forgets the entries of an identity that is gone. */
  removeIdentity(identity: number): void {
    this.#set(identity, []);
  }

  /** The entries as they are now, those of the layers below included. */
  entries(): LayerEntries {
    const pages = this.#freeze(), parent = this.parent?.entries();
    return this.#entries?.isOf(pages, parent)
      ? this.#entries
      : this.#entries = new LayerEntries(pages, parent);
  }

  /** Makes the entries, and those of the layers below, what readers see. */
  show(): void {
    this.#shownPages = this.#freeze();
    this.parent?.show();
  }

  /** The entries as they were at the last {@link show}. */
  shown(): LayerEntries {
    const pages = this.#shownPages, parent = this.parent?.shown();
    return this.#shown?.isOf(pages, parent) ? this.#shown : this.#shown = new LayerEntries(pages, parent);
  }

  /** No fewer entries than there are now: those that hide others below are counted with them. */
  get countMax(): number {
    return this.#count + (this.parent?.countMax ?? 0);
  }

  #freeze(): ReadonlyMap<number, EntryPage> {
    if (this.#changedPages.size === 0) return this.#pages;
    const pages = new Map(this.#pages);
    for (const number of this.#changedPages) {
      const rows = this.#own.get(number);
      if (rows !== undefined && rows.size > 0) pages.set(number, new EntryPage(rows));
      else {
        pages.delete(number);
        this.#own.delete(number);
      }
    }
    this.#changedPages.clear();
    return this.#pages = pages;
  }

  /** Cookies that the layer's own entries name. */
  *cookies(): Generator<number> {
    const { ruleSets } = this.#tools.tables;
    for (const page of this.#own.values()) {
      for (const entries of page.values()) for (const entry of entries) yield* cookiesOf(entry, ruleSets);
    }
  }

  /** Rule sets that the layer's own entries name. */
  *ruleSets(): Generator<number> {
    for (const page of this.#own.values()) {
      for (const entries of page.values()) {
        for (const { ruleSet } of entries) if (ruleSet !== 0) yield ruleSet;
      }
    }
  }

  /** Computes every entry anew. */
  resolveAll(): void {
    for (const number of this.#own.keys()) this.#changedPages.add(number);
    this.#own.clear();
    this.#isPaged = false;
    this.#count = 0;
    const identities = new Set<number>();
    for (const [use] of this.#usesBySelector.values()) {
      for (const number of use.selector.matches) identities.add(number);
    }
    for (const use of this.#wildNamedUses) {
      for (const port of use.section.ports) {
        if (port.name === "") continue;
        for (const number of this.#tools.tables.namedPorts.identitiesWith(port.protocol, port.name)) {
          identities.add(number);
        }
      }
    }
    const known = new Map<string, MapStateEntry[]>();
    for (const identity of identities) this.resolveIdentity(identity, known);
  }

  *#ownUsesOf(identity: number): Generator<PeerUse> {
    const selectors = this.#tools.cache.selectorsOf(identity);
    if (selectors.size <= this.#usesBySelector.size) {
      for (const selector of selectors) yield* this.#usesBySelector.get(selector.key) ?? [];
    } else {
      for (const uses of this.#usesBySelector.values()) {
        if (uses[0].selector.matches.has(identity)) yield* uses;
      }
    }
    if (this.#wildNamedUses.length > 0) yield* this.#wildNamedUses.map(onlyNamedPorts);
  }
}

/** The cookie of an entry, and those of the rules in its rule set. */
export function* cookiesOf({ cookie, ruleSet }: MapStateEntry, ruleSets: RuleSetRegistry): Generator<number> {
  yield cookie;
  if (ruleSet !== 0) yield* ruleSets.cookiesOf(ruleSet);
}

/** The numbered ports of a use for everyone are the wildcard's business; per identity only the names are left. */
function onlyNamedPorts(use: PeerUse): PeerUse {
  return { ...use, section: { ...use.section, ports: use.section.ports.filter((port) => port.name !== "") } };
}
