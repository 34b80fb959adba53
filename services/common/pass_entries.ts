/**
 * Entries that pass their traffic on to the next tier, resolved away: the kernel knows only allow and deny.
 *
 * Where such an entry of an identity lies, and at every longer prefix that anything is said of inside it, the identity gets an entry of its
 * own that says what the rules come to there. It has the precedence of the pass, so that none of the rules that the pass skips wins over it.
 *
 * ```
 *   Admin 1   pass  80/TCP                    80/TCP   allow   precedence of Admin 1
 *   Admin 2   deny  everything        ─▶      *        deny    precedence of Admin 2
 *   ordinary  allow everyone 80/TCP
 * ```
 *
 * @module
 */
import type { MapStateEntry } from "@weir/proto/policy";
import { coveringKeys, entryKey } from "./entry_prefix.ts";
import { type Tier, tierOf } from "./precedence.ts";

type ByKey = ReadonlyMap<number, readonly MapStateEntry[]>;

/**
 * The same verdicts without passes, as far as numbers go: entries with a port name stay as they are. One that a pass leads to nothing else
 * denies, and is still marked as a pass.
 */
export function resolvePasses(entries: readonly MapStateEntry[]): readonly MapStateEntry[] {
  if (!entries.some(isPass)) return entries;
  const groups = Map.groupBy(entries, ({ direction, identity }) => `${direction}/${identity}`);
  return [...groups.values()].flatMap((own) => {
    if (!own.some(isPass)) return own;
    const [{ direction, identity }] = own;
    return resolveGroup(own, identity === 0 ? [] : groups.get(`${direction}/0`) ?? []);
  });
}

function isPass({ pass, portName }: MapStateEntry): boolean {
  return pass && portName === "";
}

/** @param wild what is said of every identity in this direction */
function resolveGroup(own: readonly MapStateEntry[], wild: readonly MapStateEntry[]): MapStateEntry[] {
  const owns = byKey(own), wilds = byKey(wild), passes = byKey(own.filter(isPass));
  const resolved = new Map<string, MapStateEntry>();
  const kept: MapStateEntry[] = [];
  for (const place of [...own, ...wild]) {
    if (place.portName !== "") {
      if (place.identity === own[0].identity) kept.push(place);
      continue;
    }
    const keys = [...coveringKeys(place)];
    const isInside = keys.some((key) => passes.get(key)?.some((pass) => isFor(pass, place)));
    if (!isInside) {
      if (place.identity === own[0].identity) kept.push(place);
      continue;
    }
    const name = `${keys.at(-1)}/${place.addresses.join()}`;
    if (resolved.has(name)) continue;
    const covering = keys.flatMap((key) => [...owns.get(key) ?? [], ...wilds.get(key) ?? []])
      .filter((entry) => isFor(entry, place));
    const verdict = judge(covering);
    if (verdict === undefined) continue;
    const { protocol, port, portPrefixLength, addresses } = place;
    resolved.set(name, {
      ...verdict,
      identity: own[0].identity,
      protocol,
      port,
      portPrefixLength,
      addresses,
    });
  }
  return [...kept, ...resolved.values()];
}

function byKey(entries: readonly MapStateEntry[]): ByKey {
  return Map.groupBy(entries.filter(({ portName }) => portName === ""), entryKey);
}

/** An entry for some addresses says something of these alone. */
function isFor(entry: MapStateEntry, place: MapStateEntry): boolean {
  return entry.addresses.length === 0 || entry.addresses.join() === place.addresses.join();
}

/** What decides among entries that cover the same traffic, with the precedence of the first that has a say. */
function judge(covering: readonly MapStateEntry[]): MapStateEntry | undefined {
  let first: MapStateEntry | undefined, skipped: Tier | undefined, passed: MapStateEntry | undefined;
  // At equal precedence the longer prefix.
  const sorted = covering.toReversed().sort((a, b) => b.precedence - a.precedence);
  for (const entry of sorted) {
    const tier = tierOf(entry.precedence);
    if (tier === skipped) continue;
    first ??= entry;
    if (!entry.pass) {
      return first === entry ? entry : { ...entry, precedence: first.precedence, passedTo: entry.precedence };
    }
    skipped = tier;
    passed ??= entry;
  }
  return passed;
}
