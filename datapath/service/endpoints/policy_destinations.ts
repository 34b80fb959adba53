/**
 * Entries for some destinations of an identity, in the kernel's form. Such a destination has a number, which stands for
 * the identity in its entries; the identity's own entry for the port says that some destinations have theirs. Where there
 * is none that means everybody, one is made: a repetition of the shorter entry that counts for the others, or one that
 * stands for nobody.
 *
 *     (identity, port) ─▶ ADDRESSES? ─▶ weir_policy_destinations: number ─▶ (number, port): found ─▶ that
 *                                                                                           else ─▶ itself, or nobody
 * @module
 */
import { entryCovers, entryPrefixLength, Prefix, ProblemError } from "@weir/common";
import type { BpfMap } from "@weir/loader";
import {
  DESTINATION_FIRST,
  POLICY_ENTRY_ADDRESSES,
  POLICY_ENTRY_DENY,
  POLICY_ENTRY_NOBODY,
  PolicyDestination,
} from "@weir/maps";
import type { MapStateEntry } from "@weir/proto/policy";
import { mapped, unmapped } from "../kernel/addresses.ts";

/** An entry as it is written. */
export interface FlatEntry {
  readonly entry: MapStateEntry;
  readonly flags: number;
  readonly standsFor: number;
  /** Whose it is, {@link destinationKey}; undefined: the identity's. */
  readonly destination?: string;
}

/** "10.0.1.5 300": a destination and the identity that it has. */
export function destinationKey(address: string, identity: number): string {
  return `${address} ${identity}`;
}

/** Parts what is for everybody from what is for some. Pure. */
export function flattenPolicy(all: readonly MapStateEntry[]): FlatEntry[] {
  const whole = all.filter(({ addresses }) => addresses.length === 0);
  const flat: FlatEntry[] = whole.map((entry) => ({ entry, flags: denyFlag(entry), standsFor: 0 }));
  if (whole.length === all.length) return flat;
  const places = Map.groupBy(
    all.filter(({ addresses }) => addresses.length > 0),
    ({ direction, audit, identity, protocol, port }) =>
      `${direction}/${audit}/${identity}/${protocol}/${port}`,
  );
  for (const here of places.values()) {
    const [first] = here, decided = new Set<string>();
    // Tiers have several entries for one address: the first one decides.
    for (const entry of here.toSorted((a, b) => b.precedence - a.precedence)) {
      for (const prefix of entry.addresses) {
        const destination = destinationKey(Prefix.parse(prefix).address.text, entry.identity);
        if (decided.has(destination)) continue;
        decided.add(destination);
        flat.push({ entry, flags: denyFlag(entry), standsFor: 0, destination });
      }
    }
    const at = flat.findIndex(({ entry, destination }) =>
      destination === undefined && samePlace(entry, first)
    );
    if (at >= 0) {
      flat[at] = { ...flat[at], flags: flat[at].flags | POLICY_ENTRY_ADDRESSES };
      continue;
    }
    const [shorter] = whole.filter((entry) =>
      entry.direction === first.direction && entry.audit === first.audit &&
      entry.identity === first.identity && entryCovers(entry, first.protocol, first.port)
    ).sort((a, b) => entryPrefixLength(b) - entryPrefixLength(a));
    flat.push(
      shorter === undefined
        ? { entry: first, flags: POLICY_ENTRY_ADDRESSES | POLICY_ENTRY_NOBODY, standsFor: 0 }
        : {
          entry: {
            ...shorter,
            protocol: first.protocol,
            port: first.port,
            portPrefixLength: first.portPrefixLength,
          },
          flags: denyFlag(shorter) | POLICY_ENTRY_ADDRESSES,
          standsFor: 1 + entryPrefixLength(shorter),
        },
    );
  }
  return flat;
}

/** Numbers of destinations, and how many policies use each. */
export class DestinationTable {
  readonly #byKey = new Map<string, { number: number; refs: number }>();
  readonly #byNumber = new Map<number, string>();
  #next = DESTINATION_FIRST;
  readonly #map: BpfMap;

  constructor(map: BpfMap) {
    this.#map = map;
    for (const [address, value] of map.entries()) {
      const { number, identity } = PolicyDestination.decode(value);
      this.#note(destinationKey(unmapped(address), identity), number);
    }
  }

  /** Who has a number, {@link destinationKey}. */
  keyOf(number: number): string | undefined {
    return this.#byNumber.get(number);
  }

  /** @throws {ProblemError} POLICY_DESTINATIONS_FULL when these have no room; nothing is written */
  refuseOverflow(policy: string, keys: ReadonlySet<string>): void {
    const { entriesMax } = this.#map.info;
    const wanted = [...keys].filter((key) => !this.#byKey.has(key)).length;
    if (this.#byKey.size + wanted <= entriesMax) return;
    throw new ProblemError("POLICY_DESTINATIONS_FULL", {
      status: 507,
      detail: `Cannot write policy ${policy}: ${wanted} more destinations have entries of their own, ` +
        `and ${this.#byKey.size} of ${entriesMax} are taken; nothing was written`,
      found: this.#byKey.size + wanted,
      expected: `at most ${entriesMax}`,
      action: "Give the endpoints of one identity the same number for a port name",
    });
  }

  /** The number of a destination, for one more policy. */
  claim(key: string): number {
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      known.refs++;
      return known.number;
    }
    while (this.#byNumber.has(this.#next)) this.#advance();
    const number = this.#next;
    this.#advance();
    const [address, identity] = key.split(" ");
    this.#map.update(mapped(address), PolicyDestination.encode({ number, identity: Number(identity) }));
    this.#note(key, number).refs++;
    return number;
  }

  /** One policy uses it no more; nobody's number is free. */
  release(number: number): void {
    const key = this.#byNumber.get(number);
    const known = key === undefined ? undefined : this.#byKey.get(key);
    if (key === undefined || known === undefined || --known.refs > 0) return;
    this.#forget(key, number);
  }

  /** Removes the numbers that no policy uses. @returns how many */
  sweep(): number {
    const unused = [...this.#byKey].filter(([, { refs }]) => refs <= 0);
    for (const [key, { number }] of unused) this.#forget(key, number);
    return unused.length;
  }

  #note(key: string, number: number): { number: number; refs: number } {
    const known = { number, refs: 0 };
    this.#byKey.set(key, known);
    this.#byNumber.set(number, key);
    return known;
  }

  #forget(key: string, number: number): void {
    this.#byKey.delete(key);
    this.#byNumber.delete(number);
    const address = mapped(key.split(" ")[0]), value = this.#map.lookup(address);
    // The address may have got another identity, and with it another number.
    if (value !== undefined && PolicyDestination.decode(value).number === number) this.#map.delete(address);
  }

  #advance(): void {
    this.#next = this.#next === 0xffff_ffff ? DESTINATION_FIRST : this.#next + 1;
  }
}

function denyFlag(entry: MapStateEntry): number {
  return entry.deny ? POLICY_ENTRY_DENY : 0;
}

function samePlace(a: MapStateEntry, b: MapStateEntry): boolean {
  return a.direction === b.direction && a.audit === b.audit && a.identity === b.identity &&
    a.protocol === b.protocol &&
    a.port === b.port && a.portPrefixLength === b.portPrefixLength;
}
