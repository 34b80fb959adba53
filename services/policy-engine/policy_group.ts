/**
 * The shared policy of every identity that the same rules select: the wildcard's entries, the default of each direction,
 * and the layers that hold the entries per remote identity.
 * @module
 */
import { concatBytes, encodeVarint, type PartedObject, protocolName, thinEntries } from "@weir/common";
import type { Message } from "@weir/proto";
import type { RuleSet } from "@weir/proto/l7";
import { type FqdnSelector, MapState, type MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule } from "./compiled_rule.ts";
import { cookiesOf, type EntryLayer, type LayerEntries, type LayerTools } from "./entry_layer.ts";
import { encodeEntries } from "./entry_page.ts";
import { type DirectionPolicy, resolveDirection, resolveEntries } from "./entry_resolver.ts";
import { formatSource, listOf } from "./explain_words.ts";
import { fqdnSelectorOf } from "./fqdn_selector.ts";
import type { Direction } from "./policy.ts";
import { RULE_SET_CONFLICT } from "./rule_set_registry.ts";
import type { CachedSelector } from "./cached_selector.ts";

/** Most entries that one map state may have; the kernel's policy map holds fewer, so more can only be a mistake. */
export const ENTRIES_MAX = 262_144;

/** Entries of so many bytes are kept as one piece for all subjects of a group. */
const SMALL_BYTES_MAX = 8192;
const IDENTITY_TAG = Uint8Array.of(1 << 3), REVISION_TAG = Uint8Array.of(2 << 3);

/** Whom the rules of a group name beside their entries. */
interface Mentions {
  /** Identities of prefixes that are exceptions of a rule, sorted. */
  readonly silent: readonly number[];
  readonly fqdnSelectors: readonly FqdnSelector[];
}

/** What all subjects of a group get, at one moment; never changes. */
export class GroupState {
  readonly directions: Readonly<Record<Direction, DirectionPolicy>>;
  readonly wild: readonly MapStateEntry[];
  readonly layer: LayerEntries;
  /** Identities of prefixes that are exceptions of a rule, sorted. */
  readonly silent: readonly number[];
  /** Selectors of names of its rules, sorted. */
  readonly fqdnSelectors: readonly FqdnSelector[];
  #flat: WeakRef<MapStateEntry[]> | undefined;
  #encodedHead: Uint8Array | undefined;
  #encodedWild: Uint8Array | undefined;
  #encodedSmall: Uint8Array | undefined;
  /** Nothing of it is worth a reference; found out when it is asked for. */
  #isWhole = false;
  readonly #tables: LayerTools["tables"] | undefined;
  #ruleSets: RuleSet[] | undefined;
  #conflict: MapStateEntry | undefined;

  /** @param tables of rule sets and cookies; undefined where no rule of the group has L7 rules */
  constructor(
    directions: Readonly<Record<Direction, DirectionPolicy>>,
    wild: readonly MapStateEntry[],
    layer: LayerEntries,
    { silent, fqdnSelectors }: Mentions,
    tables: LayerTools["tables"] | undefined,
  ) {
    this.directions = directions;
    this.wild = wild;
    this.layer = layer;
    this.silent = silent;
    this.fqdnSelectors = fqdnSelectors;
    this.#tables = tables;
    // Now, while the rule sets are those of the entries.
    if (tables !== undefined) this.#findRuleSets(tables);
  }

  /** Contents of all rule sets that the entries name, by number. */
  get ruleSets(): RuleSet[] {
    return this.#ruleSets ?? NO_RULE_SETS;
  }

  #findRuleSets({ ruleSets }: LayerTools["tables"]): void {
    const numbers = new Set<number>();
    for (const entry of this.entries()) {
      if (entry.ruleSet === RULE_SET_CONFLICT) this.#conflict ??= entry;
      else if (entry.ruleSet !== 0) numbers.add(entry.ruleSet);
    }
    this.#ruleSets = [...numbers].sort((a, b) => a - b).flatMap((id) => ruleSets.get(id) ?? []);
  }

  get count(): number {
    return this.wild.length + this.layer.count;
  }

  /** Why a subject's map state has no entries: there are too many, or rules of several protocols meet; "": it has them. */
  errorOf(subject: number): string {
    if (!this.isFaulty) return "";
    const what = `Cannot resolve policy of identity ${subject}:`;
    if (this.#conflict === undefined) return `${what} ${this.count} entries, want at most ${ENTRIES_MAX}`;
    const { protocol, port, identity, cookie } = this.#conflict;
    const sources = this.#tables?.cookies.get(cookie)?.sources ?? [];
    return `${what} rules of several protocols for port ${port}/${protocolName(protocol)} of ${
      identity === 0 ? "everyone" : `identity ${identity}`
    }, want one: ${listOf(sources.map(formatSource))}`;
  }

  /** Its entries are not to be put in force. */
  get isFaulty(): boolean {
    return this.#conflict !== undefined || this.count > ENTRIES_MAX;
  }

  /** The one list of all subjects; made when it is read, and again when it was collected. Never changed. */
  entries(): MapStateEntry[] {
    const kept = this.#flat?.deref();
    if (kept) return kept;
    const flat = [...this.wild];
    for (const { page, from, to } of this.layer.runs()) {
      for (let at = from; at < to; at++) {
        for (const entry of page.rows.get(page.identities[at])!) flat.push(entry);
      }
    }
    this.#flat = new WeakRef(flat);
    return flat;
  }

  /** All entries as they stand in a MapState message, in pieces. Few bytes are kept as one piece. */
  encodedEntries(): Uint8Array[] {
    if (this.#encodedSmall !== undefined) return [this.#encodedSmall];
    const pieces = [
      this.#wildBytes(),
      ...this.layer.runs().map(({ page, from, to }) => page.encoded(from, to)),
    ];
    if (pieces.reduce((sum, { length }) => sum + length, 0) > SMALL_BYTES_MAX) return pieces;
    return [this.#encodedSmall = concatBytes(pieces)];
  }

  /** The same, as far as others have it too as ranges of parts. */
  partedEntries(): { own: Uint8Array[]; ranges: PartedObject["ranges"][number][] } {
    if (this.#encodedSmall !== undefined && this.#isWhole) return { own: [this.#encodedSmall], ranges: [] };
    const own = [this.#wildBytes()], ranges: PartedObject["ranges"][number][] = [];
    for (const { page, from, to } of this.layer.runs()) {
      const range = page.shared(from, to);
      if (range) ranges.push(range);
      else own.push(page.encoded(from, to));
    }
    this.#isWhole = ranges.length === 0;
    return { own, ranges };
  }

  #wildBytes(): Uint8Array {
    return this.#encodedWild ??= encodeEntries(this.wild);
  }

  /** The message for one subject without its entries. @param error why this is not its newest state */
  head(subject: number, policyRevision: number, error?: string): Omit<MapState, "entries"> {
    const { INGRESS, EGRESS } = this.directions;
    return {
      identity: subject,
      policyRevision,
      enforceIngress: INGRESS.enforced,
      enforceEgress: EGRESS.enforced,
      ingressDefaultCookie: INGRESS.defaultCookie,
      egressDefaultCookie: EGRESS.defaultCookie,
      error: error ?? this.errorOf(subject),
      selfDescribed: true,
      silent: [...this.silent],
      knownIdentities: NO_IDENTITIES,
      ruleSets: this.ruleSets,
      fqdnSelectors: [...this.fqdnSelectors],
    };
  }

  /** A head as it stands in a MapState message: what is the subject's own, then what all subjects have. */
  encodedHead(head: Omit<MapState, "entries">): Uint8Array[] {
    const common = { ...head, identity: 0, policyRevision: 0 };
    const rest = head.error === "" ? this.#encodedHead ??= MapState.encode(common) : MapState.encode(common);
    // Tags of the fields 1 and 2, both varints.
    return [IDENTITY_TAG, encodeVarint(head.identity), REVISION_TAG, encodeVarint(head.policyRevision), rest];
  }

  /** The message for one subject. Its list is made when it is read. */
  mapState(subject: number, policyRevision: number, error?: string): MapState {
    const head = this.head(subject, policyRevision, error);
    const entries = () => this.isFaulty ? [] : this.entries();
    const state = {
      ...head,
      get entries() {
        return entries();
      },
    };
    if (!this.isFaulty) origins.set(state, { head, group: this });
    return state;
  }

  /** The message that passes nothing, and why. */
  closed(subject: number, policyRevision: number, error: string): MapState {
    const head = this.head(subject, policyRevision, error);
    return { ...head, enforceIngress: true, enforceEgress: true, ...NOTHING };
  }
}

/** What a map state was made of. */
const origins = new WeakMap<MapState, { head: Omit<MapState, "entries">; group: GroupState }>();

/** MapState messages, the entries of a group encoded once for all of its subjects. */
export const SHARED_MAP_STATE: Message<MapState> = {
  ...MapState,
  encode(value) {
    const origin = origins.get(value as MapState);
    if (origin === undefined) return MapState.encode(value);
    return concatBytes([...origin.group.encodedHead(origin.head), ...origin.group.encodedEntries()]);
  },
};

const NOTHING = { entries: [], silent: [], ruleSets: [], fqdnSelectors: [] };

/** Only a page has some (`known_pages.ts`). */
const NO_IDENTITIES: number[] = [];
const NO_RULE_SETS: RuleSet[] = [];

/** A map state in parts that other map states have too. */
export function mapStateParts(value: MapState): PartedObject | undefined {
  const origin = origins.get(value);
  if (origin === undefined) return undefined;
  const { own, ranges } = origin.group.partedEntries();
  return ranges.length === 0
    ? undefined
    : { own: concatBytes([...origin.group.encodedHead(origin.head), ...own]), ranges };
}

/** The policy that one set of rules makes. */
export class PolicyGroup {
  readonly subjects: Set<number> = new Set();
  readonly key: string;
  readonly rules: readonly CompiledRule[];
  /** The topmost layer. */
  readonly layer: EntryLayer;
  directions: Readonly<Record<Direction, DirectionPolicy>>;
  readonly #always: boolean;
  readonly #tools: LayerTools;
  readonly #hasPortRules: boolean;
  #wild: readonly MapStateEntry[];
  #shownDirections: Readonly<Record<Direction, DirectionPolicy>>;
  #shownWild: readonly MapStateEntry[];
  /** Selectors of its rules that have exceptions. */
  readonly #excepting: readonly CachedSelector[];
  /** Selectors of names of its rules, sorted. */
  readonly #naming: readonly CachedSelector[];
  #mentions: Mentions = { silent: [], fqdnSelectors: [] };
  #shownMentions: Mentions;
  #state: GroupState | undefined;
  #shown: GroupState | undefined;

  /** @param always the subjects are enforced without any rule, as an endpoint whose labels are not known yet */
  constructor(
    key: string,
    rules: readonly CompiledRule[],
    layer: EntryLayer,
    tools: LayerTools,
    always: boolean,
  ) {
    this.key = key;
    this.rules = rules;
    this.layer = layer;
    this.#tools = tools;
    this.#always = always;
    this.#hasPortRules = rules.some(({ hasPortRules }) => hasPortRules);
    this.directions = this.#resolveDirections();
    this.#wild = this.#resolveWild();
    this.#shownDirections = this.directions;
    this.#shownWild = this.#wild;
    const selectors = rules.flatMap(({ uses }) => uses.map(({ selector }) => selector));
    this.#excepting = selectors.filter(({ hasExceptions }) => hasExceptions);
    this.#naming = [...new Set(selectors.filter(({ selector }) => selector.type === "fqdn"))]
      .sort((a, b) => a.key < b.key ? -1 : 1);
    this.#shownMentions = this.#resolveMentions();
    tools.work.groupsResolved++;
  }

  /** Computes the wildcard's entries anew: a port name means something else now. */
  resolveWild(): void {
    this.#wild = this.#resolveWild();
  }

  /** What its subjects get now. */
  state(): GroupState {
    return this.#state = this.#stateOf(
      this.#state,
      this.directions,
      this.#wild,
      this.layer.entries(),
      this.#resolveMentions(),
    );
  }

  /** Makes what its subjects get what readers see. */
  show(): void {
    this.#shownDirections = this.directions;
    this.#shownWild = this.#wild;
    this.#shownMentions = this.#resolveMentions();
    this.layer.show();
  }

  /** What readers see: as it was at the last {@link show}. */
  shown(): GroupState {
    return this.#shown = this.#stateOf(
      this.#shown,
      this.#shownDirections,
      this.#shownWild,
      this.layer.shown(),
      this.#shownMentions,
    );
  }

  /** True when its subjects cannot be given what the rules say: it is too much, or rules of several protocols meet. */
  get isFaulty(): boolean {
    const mayBe = this.#hasPortRules || this.#wild.length + this.layer.countMax > ENTRIES_MAX;
    return mayBe && this.state().isFaulty;
  }

  /** Entries of the wildcard and of one identity: all that a lookup for it can meet. */
  entriesFor(identity: number): MapStateEntry[] {
    return [...this.#wild, ...this.layer.entries().of(identity)];
  }

  /** Cookies that the group's wildcard and defaults name; those of its layers are the layers'. */
  *cookies(): Generator<number> {
    for (const entry of this.#wild) yield* cookiesOf(entry, this.#tools.tables.ruleSets);
    yield this.directions.INGRESS.defaultCookie;
    yield this.directions.EGRESS.defaultCookie;
  }

  /** Rule sets that the group's wildcard names; those of its layers are the layers'. */
  *ruleSets(): Generator<number> {
    for (const { ruleSet } of this.#wild) if (ruleSet !== 0) yield ruleSet;
  }

  /** Asks for the cookies of wildcard and defaults again: some mean something else now. */
  renewCookies(): void {
    this.directions = this.#resolveDirections();
    this.#wild = this.#resolveWild();
  }

  #stateOf(
    known: GroupState | undefined,
    directions: Readonly<Record<Direction, DirectionPolicy>>,
    wild: readonly MapStateEntry[],
    layer: LayerEntries,
    mentions: Mentions,
  ): GroupState {
    const isSame = known?.layer === layer && known.wild === wild && known.directions === directions &&
      known.silent === mentions.silent && known.fqdnSelectors === mentions.fqdnSelectors;
    const tables = this.#hasPortRules ? this.#tools.tables : undefined;
    return isSame ? known : new GroupState(directions, wild, layer, mentions, tables);
  }

  #resolveMentions(): Mentions {
    const silent = this.#resolveSilent(), fqdnSelectors = this.#resolveNames(), before = this.#mentions;
    const isSame = before.silent === silent && before.fqdnSelectors === fqdnSelectors;
    return isSame ? before : this.#mentions = { silent, fqdnSelectors };
  }

  /** Which prefixes a reader must not take for what is around them; the same list as long as it says the same. */
  #resolveSilent(): readonly number[] {
    const before = this.#mentions.silent;
    if (this.#excepting.length === 0) return before;
    const silent = new Set<number>();
    for (const selector of this.#excepting) {
      for (const number of this.#tools.cache.exceptionsOf(selector)) silent.add(number);
    }
    const sorted = [...silent].sort((a, b) => a - b);
    const isSame = before.length === sorted.length && before.every((number, at) => number === sorted[at]);
    return isSame ? before : sorted;
  }

  /** The selectors of names with their numbers; the same list as long as it says the same. */
  #resolveNames(): readonly FqdnSelector[] {
    const before = this.#mentions.fqdnSelectors;
    if (this.#naming.length === 0) return before;
    const found: FqdnSelector[] = [];
    for (const { selector, matches } of this.#naming) {
      if (selector.type !== "fqdn") continue;
      for (const identity of matches) found.push(fqdnSelectorOf(selector.name, identity));
    }
    const isSame = before.length === found.length &&
      before.every(({ name, identity }, at) => name === found[at].name && identity === found[at].identity);
    return isSame ? before : found;
  }

  #resolveWild(): MapStateEntry[] {
    this.#tools.work.identitiesResolved++;
    const uses = this.rules.flatMap((rule) => rule.uses.filter((use) => use.selector.key === "any"));
    const wild = resolveEntries(0, uses, this.#tools.tables);
    for (const { allowAll, auditDefault } of [this.directions.INGRESS, this.directions.EGRESS]) {
      if (allowAll) wild.push(allowAll);
      if (auditDefault) wild.push(auditDefault);
    }
    return thinEntries(wild);
  }

  #resolveDirections(): Readonly<Record<Direction, DirectionPolicy>> {
    const { cookies } = this.#tools.tables;
    return {
      INGRESS: resolveDirection("INGRESS", this.rules, cookies, this.#always),
      EGRESS: resolveDirection("EGRESS", this.rules, cookies, this.#always),
    };
  }
}
