/**
 * Selectors of objects (`peer_source.ts`): each means whomever one of its parts means, which are selectors of addresses and of
 * labels that the objects come to. A change of an object adds and takes away parts, and costs what these mean.
 *
 *     CIDR group corp  ─ 10.0.0.0/8   ─▶ identities
 *       (whole)        └ 192.0.2.0/24 ─▶ identities        (parts: shared with rules that name the same prefix)
 *
 * @module
 */
import type { Prefix } from "@weir/common";
import type { PeerSource, PeerSourceKind } from "./peer_source.ts";
import { partsOf, type PeerSelector, type SourceSelector } from "./policy.ts";
import type { CachedSelector } from "./cached_selector.ts";

/** A selector of the cache. */
export interface Slot extends CachedSelector {
  users: number;
  /** Selectors of objects of which this is a part. */
  readonly wholes: Set<SourceSlot>;
}

/** A selector of objects. */
export interface SourceSlot extends Slot {
  readonly selector: SourceSelector;
  /** Parts, and how many of the objects come to each. */
  readonly parts: Map<Slot, number>;
  /** How many parts mean an identity. */
  readonly meant: Map<number, number>;
}

/** Selectors, and the identities that they began or ceased to mean. */
export type ChangedMeanings = Map<CachedSelector, Set<number>>;

/** Whom an object means. */
type Peers = Pick<PeerSource, "prefixes" | "pods">;

/** What the cache does for its selectors of objects. */
export interface SlotHost {
  acquire(selector: PeerSelector): Slot;
  release(slot: Slot): void;
  find(key: string): Slot | undefined;
  /** Selectors that mean an identity. */
  slotsOf(number: number): Set<Slot>;
}

/** Objects, and the selectors in use that may select them. */
export class SourceSlots {
  readonly #host: SlotHost;
  readonly #sources = new Map<string, PeerSource>();
  readonly #slots = new Set<SourceSlot>();
  /** Grows when a selector of objects comes into use or goes out of it. */
  revision = 0;
  /** Filled while an object changes. */
  #changed: ChangedMeanings | undefined;

  constructor(host: SlotHost) {
    this.#host = host;
  }

  /** A selector came into use. */
  add(slot: SourceSlot): void {
    this.#slots.add(slot);
    this.revision++;
    for (const source of this.sourcesOf(slot.selector)) this.#addParts(slot, source);
  }

  /** Nobody uses a selector any more. */
  delete(slot: SourceSlot): void {
    this.#slots.delete(slot);
    this.revision++;
    for (const [part, objects] of slot.parts) {
      part.wholes.delete(slot);
      for (let at = 0; at < objects; at++) this.#host.release(part);
    }
  }

  /** Selectors of which a prefix is an exception. */
  *excepting(prefix: Prefix): Generator<SourceSlot> {
    for (const slot of this.#slots) {
      if (slot.selector.except.some((except) => except.contains(prefix))) yield slot;
    }
  }

  /** Objects that a selector selects. */
  *sourcesOf({ kind, selector }: SourceSelector): Generator<PeerSource> {
    for (const source of this.#sources.values()) {
      if (source.kind === kind && selector.matches(source.labels)) yield source;
    }
  }

  /** Whether some selector in use selects an object. */
  selects({ kind, labels }: PeerSource): boolean {
    for (const { selector } of this.#slots) {
      if (selector.kind === kind && selector.selector.matches(labels)) return true;
    }
    return false;
  }

  /**
   * Puts an object in the place of the one of its name, or (undefined) takes it away. Prefixes that both have cost nothing.
   * @returns what selectors mean now and did not, or meant and do not now
   */
  setSource(kind: PeerSourceKind, name: string, source: PeerSource | undefined): ChangedMeanings {
    const key = `${kind}:${name}`, before = this.#sources.get(key);
    if (source) this.#sources.set(key, source);
    else this.#sources.delete(key);
    const fresh = beyond(source, before), gone = beyond(before, source);
    const changed: ChangedMeanings = this.#changed = new Map();
    for (const slot of this.#slots) {
      if (slot.selector.kind !== kind) continue;
      const { selector } = slot.selector;
      const selected = before !== undefined && selector.matches(before.labels);
      const selects = source !== undefined && selector.matches(source.labels);
      if (selects) this.#addParts(slot, selected ? fresh : source);
      if (selected) this.#dropParts(slot, selects ? gone : before);
    }
    this.#changed = undefined;
    return changed;
  }

  #addParts(slot: SourceSlot, peers: Peers): void {
    for (const selector of partsOf(slot.selector, peers)) {
      const part = this.#host.acquire(selector), objects = slot.parts.get(part) ?? 0;
      slot.parts.set(part, objects + 1);
      if (objects > 0) continue;
      part.wholes.add(slot);
      for (const number of part.matches) this.gain(slot, number);
    }
  }

  #dropParts(slot: SourceSlot, peers: Peers): void {
    for (const { key } of partsOf(slot.selector, peers)) {
      const part = this.#host.find(key)!, objects = slot.parts.get(part)!;
      if (objects > 1) slot.parts.set(part, objects - 1);
      else {
        slot.parts.delete(part);
        part.wholes.delete(slot);
        for (const number of part.matches) this.#lose(slot, number);
      }
      this.#host.release(part);
    }
  }

  /** One more part of a selector of objects means an identity. */
  gain(slot: SourceSlot, number: number): void {
    const parts = slot.meant.get(number) ?? 0;
    slot.meant.set(number, parts + 1);
    if (parts > 0) return;
    slot.matches.add(number);
    this.#host.slotsOf(number).add(slot);
    this.#noteChange(slot, number);
  }

  /** One part less does. */
  #lose(slot: SourceSlot, number: number): void {
    const parts = slot.meant.get(number)! - 1;
    if (parts > 0) return void slot.meant.set(number, parts);
    slot.meant.delete(number);
    slot.matches.delete(number);
    this.#host.slotsOf(number).delete(slot);
    this.#noteChange(slot, number);
  }

  #noteChange(slot: SourceSlot, number: number): void {
    const numbers = this.#changed?.get(slot);
    if (numbers) numbers.add(number);
    else this.#changed?.set(slot, new Set([number]));
  }
}

/** Whom an object means and another one does not. */
function beyond(a: PeerSource | undefined, b: PeerSource | undefined): Peers {
  const known = new Set(b?.prefixes.map(({ text }) => text));
  return {
    prefixes: a?.prefixes.filter(({ text }) => !known.has(text)) ?? [],
    pods: a?.pods?.key === b?.pods?.key ? undefined : a?.pods,
  };
}

/** Makes a selector of objects of a selector. */
export function sourceSlot(slot: Slot, selector: SourceSelector): SourceSlot {
  return { ...slot, selector, parts: new Map(), meant: new Map() };
}

/** Whether it is a selector of objects. */
export function isSourceSlot(slot: CachedSelector): slot is SourceSlot {
  return slot.selector.type === "source";
}
