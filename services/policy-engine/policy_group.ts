/**
 * The shared policy of every identity that the same rules select: the wildcard's entries, the default of each direction,
 * and the layers that hold the entries per remote identity.
 * @module
 */
import { concatBytes, distillEntries, encodeVarint, type PartedObject } from "@weir/common";
import type { Message } from "@weir/proto";
import { MapState, type MapStateEntry } from "@weir/proto/policy";
import type { CompiledRule } from "./compiled_rule.ts";
import type { EntryLayer, LayerEntries, LayerTools } from "./entry_layer.ts";
import { encodeEntries } from "./entry_page.ts";
import { type DirectionPolicy, resolveDirection, resolveEntries } from "./entry_resolver.ts";
import type { Direction } from "./policy.ts";
import type { CachedSelector } from "./selector_cache.ts";

/** Most entries that one map state may have; the kernel's policy map holds fewer, so more can only be a mistake. */
export const ENTRIES_MAX = 262_144;

/** Entries of so many bytes are kept as one piece for all subjects of a group. */
const SMALL_BYTES_MAX = 8192;
const IDENTITY_TAG = Uint8Array.of(1 << 3), REVISION_TAG = Uint8Array.of(2 << 3);

/** What all subjects of a group get, at one moment; never changes. */
export class GroupState {
  readonly directions: Readonly<Record<Direction, DirectionPolicy>>;
  readonly wild: readonly MapStateEntry[];
  readonly layer: LayerEntries;
  /** Identities of prefixes that are exceptions of a rule, sorted. */
  readonly silent: readonly number[];
  #flat: WeakRef<MapStateEntry[]> | undefined;
  #encodedHead: Uint8Array | undefined;
  #encodedWild: Uint8Array | undefined;
  #encodedSmall: Uint8Array | undefined;
  /** Nothing of it is worth a reference; found out when it is asked for. */
  #isWhole = false;

  constructor(
    directions: Readonly<Record<Direction, DirectionPolicy>>,
    wild: readonly MapStateEntry[],
    layer: LayerEntries,
    silent: readonly number[],
  ) {
    this.directions = directions;
    this.wild = wild;
    this.layer = layer;
    this.silent = silent;
  }

  get count(): number {
    return this.wild.length + this.layer.count;
  }

  /** Why a subject's map state has no entries: there are too many; "": it has them. */
  errorOf(subject: number): string {
    if (!this.isTooLarge) return "";
    return `Cannot resolve policy of identity ${subject}: ${this.count} entries, want at most ${ENTRIES_MAX}`;
  }

  get isTooLarge(): boolean {
    return this.count > ENTRIES_MAX;
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
    const entries = () => this.isTooLarge ? [] : this.entries();
    const state = {
      ...head,
      get entries() {
        return entries();
      },
    };
    if (!this.isTooLarge) origins.set(state, { head, group: this });
    return state;
  }

  /** The message that passes nothing, and why. */
  closed(subject: number, policyRevision: number, error: string): MapState {
    const head = this.head(subject, policyRevision, error);
    return { ...head, enforceIngress: true, enforceEgress: true, entries: [], silent: [] };
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

/** Only a page has some (`known_pages.ts`). */
const NO_IDENTITIES: number[] = [];

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
  #wild: readonly MapStateEntry[];
  #shownDirections: Readonly<Record<Direction, DirectionPolicy>>;
  #shownWild: readonly MapStateEntry[];
  /** Selectors of its rules that have exceptions. */
  readonly #excepting: readonly CachedSelector[];
  #silent: readonly number[] = [];
  #shownSilent: readonly number[];
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
    this.directions = this.#resolveDirections();
    this.#wild = this.#resolveWild();
    this.#shownDirections = this.directions;
    this.#shownWild = this.#wild;
    this.#excepting = rules.flatMap(({ uses }) => uses.map(({ selector }) => selector))
      .filter(({ hasExceptions }) => hasExceptions);
    this.#shownSilent = this.#resolveSilent();
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
      this.#resolveSilent(),
    );
  }

  /** Makes what its subjects get what readers see. */
  show(): void {
    this.#shownDirections = this.directions;
    this.#shownWild = this.#wild;
    this.#shownSilent = this.#resolveSilent();
    this.layer.show();
  }

  /** What readers see: as it was at the last {@link show}. */
  shown(): GroupState {
    return this.#shown = this.#stateOf(
      this.#shown,
      this.#shownDirections,
      this.#shownWild,
      this.layer.shown(),
      this.#shownSilent,
    );
  }

  /** True when its subjects would get more than {@link ENTRIES_MAX}. */
  get isTooLarge(): boolean {
    return this.#wild.length + this.layer.countMax > ENTRIES_MAX && this.state().isTooLarge;
  }

  /** Entries of the wildcard and of one identity: all that a lookup for it can meet. */
  entriesFor(identity: number): MapStateEntry[] {
    return [...this.#wild, ...this.layer.entries().of(identity)];
  }

  /** Cookies that the group's wildcard and defaults name; those of its layers are the layers'. */
  *cookies(): Generator<number> {
    for (const entry of this.#wild) yield entry.cookie;
    yield this.directions.INGRESS.defaultCookie;
    yield this.directions.EGRESS.defaultCookie;
  }

  /** Asks for the cookies of wildcard and defaults again: some mean something else now. */
  renewCookies(): void {
    this.directions = this.#resolveDirections();
    this.#wild = this.#resolveWild();
  }

  #stateOf(known: GroupState | undefined, ...parts: ConstructorParameters<typeof GroupState>): GroupState {
    const [directions, wild, layer, silent] = parts;
    const isSame = known?.layer === layer && known.wild === wild && known.directions === directions &&
      known.silent === silent;
    return isSame ? known : new GroupState(...parts);
  }

  /** Which prefixes a reader must not take for what is around them; the same list as long as it says the same. */
  #resolveSilent(): readonly number[] {
    if (this.#excepting.length === 0) return this.#silent;
    const silent = new Set<number>();
    for (const selector of this.#excepting) {
      for (const number of this.#tools.cache.exceptionsOf(selector)) silent.add(number);
    }
    const sorted = [...silent].sort((a, b) => a - b), before = this.#silent;
    const isSame = before.length === sorted.length && before.every((number, at) => number === sorted[at]);
    return isSame ? before : this.#silent = sorted;
  }

  #resolveWild(): MapStateEntry[] {
    this.#tools.work.identitiesResolved++;
    const uses = this.rules.flatMap((rule) => rule.uses.filter((use) => use.selector.key === "any"));
    const wild = resolveEntries(0, uses, this.#tools.tables);
    for (const { allowAll } of [this.directions.INGRESS, this.directions.EGRESS]) {
      if (allowAll) wild.push(allowAll);
    }
    return distillEntries(wild);
  }

  #resolveDirections(): Readonly<Record<Direction, DirectionPolicy>> {
    const { cookies } = this.#tools.tables;
    return {
      INGRESS: resolveDirection("INGRESS", this.rules, cookies, this.#always),
      EGRESS: resolveDirection("EGRESS", this.rules, cookies, this.#always),
    };
  }
}
