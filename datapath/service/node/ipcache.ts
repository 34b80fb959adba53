/**
 * The ipcache in the kernel: single addresses in a hash, shorter prefixes in a trie. What does not fit is left out, of the
 * sources that want most (`ipcache_shares.ts`), named, and written when there is room.
 * @module
 */
import { type Clock, isLocalIdentity, type Prefix } from "@weir/common";
import { type Bytes, IpcacheEntry } from "@weir/maps";
import { ObjectError } from "@weir/proto/common";
import { type IpcacheUpdate, type IpcacheUpdateResponse, IpcacheUpsert } from "@weir/proto/datapath";
import { hex, mapped, parsePrefix, unmapped } from "../kernel/addresses.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { IdentityMoves, isMove, MOVED_HOLD_MS } from "../kernel/identity_moves.ts";
import { fairShares, sourceOf } from "./ipcache_shares.ts";

interface Place {
  exact: boolean;
  prefixlen: number;
  address: Bytes;
}
interface Wanted {
  place: Place;
  entry: IpcacheEntry;
}

/** What a source has of the ipcache. */
export interface IpcacheSource {
  source: string;
  held: number;
  /** Prefixes that are left out now, for want of room. */
  left: number;
}

/** The ipcache in the kernel. */
export class IpcacheStore {
  /** What is in the kernel, read once at the start: its place and value, in the order in which it came. */
  readonly #present = new Map<string, Wanted>();
  /** How many of them are in the hash; the others are in the trie. */
  #exactCount = 0;
  /** How many of them each source has. Kept, for a change must not cost a walk through all prefixes. */
  readonly #held = new Map<string, number>();
  /** What is wanted and has no room. */
  readonly #left = new Map<string, Wanted>();
  #leftSinceUnixS = 0;
  /** Keys of addresses that have an identity of before. */
  readonly #moves = new IdentityMoves<string>(MOVED_HOLD_MS);
  readonly #kernel: Kernel;
  readonly #clock: Clock;

  constructor(kernel: Kernel, clock: Clock) {
    this.#kernel = kernel;
    this.#clock = clock;
    for (const [address, entry] of kernel.ipcacheExact.entries()) this.#found(true, 128, address, entry);
    for (const [{ prefixlen, address }, entry] of kernel.ipcache.entries()) {
      this.#found(false, prefixlen, address, entry);
    }
  }

  get size(): number {
    return this.#present.size;
  }
  get entriesMax(): number {
    return this.#kernel.ipcacheExact.entriesMax;
  }
  /** Prefixes that are left out for want of room. */
  get left(): number {
    return this.#left.size;
  }

  /** Who has how much, who has most first. */
  sources(): IpcacheSource[] {
    const found = new Map<string, IpcacheSource>();
    for (const [source, held] of this.#held) found.set(source, { source, held, left: 0 });
    for (const { entry } of this.#left.values()) {
      const source = sourceOf(entry), row = found.get(source);
      if (row === undefined) found.set(source, { source, held: 0, left: 1 });
      else row.left++;
    }
    return [...found.values()].sort((a, b) => b.held - a.held);
  }

  /** Sources that are cut, as errors; empty when all there is to know is known. */
  errors(): ObjectError[] {
    if (this.#left.size === 0) return [];
    return this.sources().filter(({ left }) => left > 0).map(({ source, held, left }) =>
      ObjectError.create({
        kind: `ipcache ${source}`,
        error: `The ipcache is full: ${left} of ${held + left} prefixes are left out; ` +
          `they have the identity of what is around them. Raise --ipcache-entries-max (${this.entriesMax})`,
        sinceUnixS: this.#leftSinceUnixS,
      })
    );
  }

  /** Prefixes of policies in the kernel. */
  policyPrefixes(): IpcacheUpsert[] {
    return prefixesOfPolicies(this.#present.values());
  }

  /** Prefixes of policies that are left out: what means them must not count on them. */
  leftPolicyPrefixes(): string[] {
    return prefixesOfPolicies(this.#left.values()).map(({ prefix }) => prefix);
  }

  /** Applies an update; what is there already is not written, what has no room is left out and named in the answer. */
  apply(update: IpcacheUpdate): IpcacheUpdateResponse {
    const upserts = new Map<string, Wanted>(update.replace ? [] : this.#left);
    for (const upsert of update.upserts) {
      const place = placeOf(parsePrefix(upsert.prefix));
      if (update.ofPolicies && this.#isOthers(place)) continue;
      const node = mapped(upsert.nodeIpv4 || upsert.nodeIpv6);
      upserts.set(keyOf(place), {
        place,
        entry: { identity: upsert.identity, flags: 0, movedFrom: 0, node },
      });
    }
    const named = new Set(update.upserts.map(({ prefix }) => keyOf(placeOf(parsePrefix(prefix)))));
    const deletes = new Map<string, Place>();
    for (const text of update.deletes) {
      const place = placeOf(parsePrefix(text)), key = keyOf(place);
      if (named.has(key) || (update.ofPolicies && this.#isOthers(place))) continue;
      upserts.delete(key);
      deletes.set(key, place);
    }
    if (update.replace) {
      for (const [key, { place }] of this.#present) if (!upserts.has(key)) deletes.set(key, place);
    }
    const before = this.#left.size;
    this.#left.clear();
    const changed: Place[] = [];
    try {
      for (const exact of [true, false]) this.#divide(exact, upserts, deletes, changed);
      // Additions first: an address that moves from a prefix of its own to a wider one is never unknown.
      for (const [key, wanted] of upserts) this.#put(key, wanted, changed);
      for (const [key, place] of deletes) this.#delete(key, place, changed);
    } catch (error) {
      // The caller tries again; until then what is not written is known to be left.
      for (const [key, wanted] of upserts) if (!this.#present.has(key)) this.#left.set(key, wanted);
      throw error;
    } finally {
      // What was written before a write failed concerns flows as well.
      if (changed.length > 0) this.#kernel.revise(changed);
    }
    if (before === 0 && this.#left.size > 0) this.#leftSinceUnixS = this.#clock.nowMs() / 1000;
    const { size: entries, entriesMax } = this;
    return { entries, entriesMax, errors: this.errors(), left: this.leftPolicyPrefixes() };
  }

  /** Where the maps are too small, takes out of `upserts` (and of the kernel) what is beyond its source's share. */
  #divide(exact: boolean, upserts: Map<string, Wanted>, deletes: Map<string, Place>, changed: Place[]): void {
    const { entriesMax } = exact ? this.#kernel.ipcacheExact : this.#kernel.ipcache;
    const presentCount = exact ? this.#exactCount : this.#present.size - this.#exactCount;
    const added = [...upserts].filter(([key, { place }]) => place.exact === exact && !this.#present.has(key));
    if (presentCount + added.length <= entriesMax) return;
    const present = [...this.#present].filter(([, { place }]) => place.exact === exact);
    // Additions are written before deletions while both fit at once; else what goes makes room first.
    for (const [key] of present) {
      const place = deletes.get(key);
      if (place === undefined) continue;
      this.#delete(key, place, changed);
      deletes.delete(key);
    }
    const stay = present.filter(([key]) => this.#present.has(key))
      .map(([key, wanted]): [string, Wanted] => [key, upserts.get(key) ?? wanted]);
    if (stay.length + added.length <= entriesMax) return;
    const all = [...stay, ...added], counts = new Map<string, number>();
    for (const [, { entry }] of all) counts.set(sourceOf(entry), (counts.get(sourceOf(entry)) ?? 0) + 1);
    const shares = fairShares(counts, entriesMax);
    for (const [key, wanted] of all) {
      const source = sourceOf(wanted.entry), share = shares.get(source)!;
      if (share > 0) {
        shares.set(source, share - 1);
        continue;
      }
      upserts.delete(key);
      this.#left.set(key, wanted);
      this.#delete(key, wanted.place, changed);
    }
  }

  /** Whether the kernel has something else there than a prefix of policies or an address of a name. */
  #isOthers(place: Place): boolean {
    const entry = this.#present.get(keyOf(place))?.entry;
    return entry !== undefined && !isLocalIdentity(entry.identity);
  }

  /** Forgets identities of before whose time is over. */
  tick(): void {
    for (const key of this.#moves.takeEnded(this.#clock.monotonicMs())) {
      const wanted = this.#present.get(key);
      if (wanted === undefined) continue;
      const entry = { ...wanted.entry, movedFrom: 0 };
      // No verdict depends on it.
      this.#kernel.ipcacheExact.put(wanted.place.address, entry);
      this.#keep(key, { place: wanted.place, entry });
    }
  }

  /** The lower half of the identity that the address had before, for as long as its packets may name that. */
  #movedFrom(key: string, { place, entry }: Wanted, before: IpcacheEntry | undefined): number {
    if (!place.exact || before === undefined || hex(before.node) !== hex(entry.node)) {
      this.#moves.delete(key);
      return 0;
    }
    if (!isMove(before.identity, entry.identity)) return before.movedFrom;
    const nowMs = this.#clock.monotonicMs(), isNamed = this.#moves.isNamed(key, nowMs);
    this.#moves.note(key, nowMs);
    // Its node goes on naming the first one.
    return isNamed ? before.movedFrom : before.identity & 0xffff;
  }

  #put(key: string, wanted: Wanted, changed: Place[]): void {
    const { place } = wanted, before = this.#present.get(key)?.entry;
    const entry = { ...wanted.entry, movedFrom: this.#movedFrom(key, wanted, before) };
    if (before !== undefined && hex(IpcacheEntry.encode(before)) === hex(IpcacheEntry.encode(entry))) return;
    if (place.exact) this.#kernel.ipcacheExact.put(place.address, entry);
    else this.#kernel.ipcache.put({ prefixlen: place.prefixlen, address: place.address }, entry);
    this.#keep(key, { place, entry });
    changed.push(place);
  }

  #delete(key: string, place: Place, changed: Place[]): void {
    if (!this.#present.has(key)) return;
    if (place.exact) this.#kernel.ipcacheExact.delete(place.address);
    else this.#kernel.ipcache.delete({ prefixlen: place.prefixlen, address: place.address });
    this.#forget(key);
    changed.push(place);
  }

  /** An entry that changes keeps its place in the order. */
  #keep(key: string, wanted: Wanted): void {
    this.#count(key, -1);
    this.#present.set(key, wanted);
    this.#count(key, 1);
  }

  #forget(key: string): void {
    this.#moves.delete(key);
    this.#count(key, -1);
    this.#present.delete(key);
  }

  #count(key: string, difference: 1 | -1): void {
    const wanted = this.#present.get(key);
    if (wanted === undefined) return;
    if (wanted.place.exact) this.#exactCount += difference;
    const source = sourceOf(wanted.entry), count = (this.#held.get(source) ?? 0) + difference;
    if (count === 0) this.#held.delete(source);
    else this.#held.set(source, count);
  }

  #found(exact: boolean, prefixlen: number, address: Bytes, entry: IpcacheEntry): void {
    const place = { exact, prefixlen, address }, key = keyOf(place);
    this.#keep(key, { place, entry });
    if (entry.movedFrom !== 0) this.#moves.note(key, this.#clock.monotonicMs());
  }
}

function prefixesOfPolicies(rows: Iterable<Wanted>): IpcacheUpsert[] {
  const found: IpcacheUpsert[] = [];
  for (const { place, entry } of rows) {
    if (!isLocalIdentity(entry.identity)) continue;
    const text = unmapped(place.address), v6 = text.includes(":");
    const prefix = `${text}/${v6 ? place.prefixlen : place.prefixlen - 96}`;
    found.push(IpcacheUpsert.create({ prefix, identity: entry.identity }));
  }
  return found;
}

function placeOf(prefix: Prefix): Place {
  const v4 = prefix.family === 4;
  const address = mapped(prefix.address.text);
  return { exact: prefix.isHost, prefixlen: v4 ? 96 + prefix.length : prefix.length, address };
}

function keyOf(place: Place): string {
  return `${place.exact ? "e" : "p"}${place.prefixlen}/${hex(place.address)}`;
}
