/**
 * The order in which addresses of pods and the policies that mean them reach the kernel. A policy that lets everybody through but some
 * lets those through, too, that it was not made with; so the address of an identity comes only when the policies in force know it.
 *
 *     entry (address, identity) ─▶ waits ─▶ the engine's page of known identities has it (policy-engine/known_pages.ts),
 *                                           and everything before that page was told
 *                                       ─▶ every endpoint has its newest map state ─▶ ipcache
 *
 * Until then the address is what it was: an endpoint that moves keeps its identity, a new one is an address that nobody has told of.
 * An identity that is known once, and that the engine goes on to know, waits no more. An endpoint whose policy is behind in a way that its
 * conditions say (POLICY_FAILED, POLICY_STALE) holds up nobody. An engine that has no pages is older: nothing waits.
 * @module
 */
import { IDENTITY_ALLOCATED_MIN, isLocalIdentity, knownPageOf } from "@weir/common";
import type { IpcacheEntry } from "@weir/proto/identity";

/** What {@link IdentityOrder} is made of. */
export interface IdentityOrderParts {
  /** The ipcache is to have the entry, or (undefined) not any more. */
  onEntry: (name: string, entry: IpcacheEntry | undefined) => void;
  /** The ipcache is to have these of one of this node's endpoints. */
  onOwn: (endpoint: string, entries: readonly IpcacheEntry[]) => void;
  /** Other pages are to be followed. */
  onPages: () => void;
  /** Whether what there is of a page was told. */
  isTold: (page: string) => boolean;
  /** Whether every endpoint has the newest map state that was told, or says why not. */
  isApplied: () => boolean;
}

/** A page that an engine with pages always has: that of reserved identities. */
const FIRST_PAGE = knownPageOf(0);

const NONE: ReadonlySet<number> = new Set();

/** Lets addresses of identities in. */
export class IdentityOrder {
  readonly #parts: IdentityOrderParts;
  /** Pages to follow; they only grow in number. */
  readonly #pages = new Set<string>([FIRST_PAGE]);
  /** Identities of each page as it was told, and of those that came since the stream last said that it is whole. */
  readonly #told = new Map<string, ReadonlySet<number>>();
  readonly #coming = new Map<string, ReadonlySet<number> | undefined>();
  /** Identities that the policies in force know. */
  readonly #known = new Set<number>();
  readonly #waiting = new Map<string, IpcacheEntry>();
  readonly #waitingOwn = new Map<string, readonly IpcacheEntry[]>();
  #isWhole = false;
  #isLooking = false;

  constructor(parts: IdentityOrderParts) {
    this.#parts = parts;
  }

  /** Names of the pages to follow. */
  get pages(): ReadonlySet<string> {
    return this.#pages;
  }

  /** How many addresses wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** True once nothing waits but what the engine does not know: the ipcache is as whole as it can be. */
  get isReady(): boolean {
    if (!this.#isWhole) return false;
    if (!this.#told.has(FIRST_PAGE)) return true;
    for (const { identity } of this.#waiting.values()) {
      const told = this.#told.get(knownPageOf(identity));
      if (told === undefined || told.has(identity)) return false;
    }
    return true;
  }

  /** An entry of the cluster's ipcache that is there, has changed or is gone. */
  change(name: string, entry: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    if (entry === undefined || !this.#mustWait(entry.identity)) {
      this.#waiting.delete(name);
      return this.#parts.onEntry(name, entry);
    }
    this.#waiting.set(name, entry);
    // What another endpoint was must not stand for this one.
    const isOther = previous && (previous.node !== entry.node || previous.endpoint !== entry.endpoint);
    if (isOther) this.#parts.onEntry(name, undefined);
    this.#awaitPage(entry.identity);
  }

  /** What one of this node's endpoints has in the kernel; none: nothing any more. */
  changeOwn(endpoint: string, entries: readonly IpcacheEntry[]): void {
    this.#waitingOwn.delete(endpoint);
    if (!entries.some(({ identity }) => this.#mustWait(identity))) {
      return this.#parts.onOwn(endpoint, entries);
    }
    this.#waitingOwn.set(endpoint, entries);
    for (const { identity } of entries) this.#awaitPage(identity);
  }

  /** A page as the stream of map states tells it; undefined: there is none. */
  page(name: string, identities: readonly number[] | undefined): void {
    this.#coming.set(name, identities && new Set(identities));
  }

  /** Everything up to here was told. */
  whole(): void {
    for (const [name, identities] of this.#coming) {
      for (const identity of this.#told.get(name) ?? []) {
        if (!identities?.has(identity)) this.#known.delete(identity);
      }
      if (identities) this.#told.set(name, identities);
      else this.#told.delete(name);
    }
    this.#coming.clear();
    for (const name of this.#pages) {
      if (this.#told.has(FIRST_PAGE) && !this.#told.has(name) && this.#parts.isTold(name)) {
        this.#told.set(name, NONE);
      }
    }
    this.#isWhole = true;
    this.look();
  }

  /** Policies may have come into force: who waits for nothing else goes in. */
  look(): void {
    if (this.#waiting.size + this.#waitingOwn.size === 0 || !this.#isWhole || !this.#parts.isApplied()) {
      return;
    }
    for (const { identity } of [...this.#waiting.values(), ...[...this.#waitingOwn.values()].flat()]) {
      if (this.#told.get(knownPageOf(identity))?.has(identity)) this.#known.add(identity);
    }
    for (const [name, entry] of this.#waiting) {
      if (this.#mustWait(entry.identity)) continue;
      this.#waiting.delete(name);
      this.#parts.onEntry(name, entry);
    }
    for (const [endpoint, entries] of [...this.#waitingOwn]) this.changeOwn(endpoint, entries);
  }

  /** Follows the page of an identity. One that was told before its address came is looked at now, for nothing else will happen. */
  #awaitPage(identity: number): void {
    const page = knownPageOf(identity);
    if (!this.#pages.has(page)) {
      this.#pages.add(page);
      this.#parts.onPages();
    } else if (!this.#isLooking && this.#told.get(page)?.has(identity) && !this.#known.has(identity)) {
      this.#isLooking = true;
      queueMicrotask(() => {
        this.#isLooking = false;
        this.look();
      });
    }
  }

  #mustWait(identity: number): boolean {
    if (identity < IDENTITY_ALLOCATED_MIN || isLocalIdentity(identity) || this.#known.has(identity)) {
      return false;
    }
    return !this.#isWhole || this.#told.has(FIRST_PAGE);
  }
}
