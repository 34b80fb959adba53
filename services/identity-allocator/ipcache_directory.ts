/**
 * The cluster's ipcache by node: what each node has announced, and the digest of it; and the identities that entries name.
 * Follows the watched table; a digest is computed when it is first asked for, and from then on with each change.
 * @module
 */
import { IpcacheEntry } from "@weir/proto/identity";
import { SetDigest, type WatchedTable } from "@weir/common";

interface NodeEntries {
  readonly prefixes: Set<string>;
  digest?: SetDigest;
}

const NONE: ReadonlySet<string> = new Set();

/** Prefixes of each node, and their digest. */
export class IpcacheDirectory {
  readonly #table: WatchedTable<IpcacheEntry>;
  readonly #nodes = new Map<string, NodeEntries>();
  /** How many entries name each identity. */
  readonly #identities = new Map<number, number>();

  constructor(table: WatchedTable<IpcacheEntry>) {
    this.#table = table;
    table.onReset(() => this.#reset());
    table.onChange(({ value, previous }) => {
      if (previous !== undefined) this.#remove(previous);
      if (value !== undefined) this.#add(value);
    });
  }

  /** Prefixes that a node has announced. */
  prefixesOf(node: string): ReadonlySet<string> {
    return this.#nodes.get(node)?.prefixes ?? NONE;
  }

  /** Whether an entry names the identity: nodes carry it, whoever holds it. */
  isAnnounced(identity: number): boolean {
    return this.#identities.has(identity);
  }

  /** Nodes that have entries. */
  nodes(): Iterable<string> {
    return this.#nodes.keys();
  }

  /** Number and digest of what a node has announced. */
  sumOf(node: string): { count: number; text: string } {
    const entries = this.#nodes.get(node);
    if (entries === undefined) return new SetDigest();
    if (entries.digest === undefined) {
      entries.digest = new SetDigest();
      for (const prefix of entries.prefixes) {
        entries.digest.add(IpcacheEntry.encode(this.#table.get(prefix)!));
      }
    }
    return entries.digest;
  }

  #reset(): void {
    this.#nodes.clear();
    this.#identities.clear();
    for (const [, entry] of this.#table.entries()) this.#add(entry);
  }

  #add(entry: IpcacheEntry): void {
    this.#identities.set(entry.identity, (this.#identities.get(entry.identity) ?? 0) + 1);
    let entries = this.#nodes.get(entry.node);
    if (entries === undefined) this.#nodes.set(entry.node, entries = { prefixes: new Set() });
    entries.prefixes.add(entry.prefix);
    entries.digest?.add(IpcacheEntry.encode(entry));
  }

  #remove(entry: IpcacheEntry): void {
    const count = this.#identities.get(entry.identity)! - 1;
    if (count > 0) this.#identities.set(entry.identity, count);
    else this.#identities.delete(entry.identity);
    const entries = this.#nodes.get(entry.node);
    if (entries === undefined) return;
    entries.prefixes.delete(entry.prefix);
    entries.digest?.delete(IpcacheEntry.encode(entry));
    if (entries.prefixes.size === 0) this.#nodes.delete(entry.node);
  }
}
