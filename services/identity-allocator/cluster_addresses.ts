/**
 * Whose address or prefix something is: the nodes' addresses and pod CIDRs, and entries of the ipcache that are wider than
 * one address. Follows the watched tables.
 * @module
 */
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import { Prefix, PrefixTrie, type WatchedTable } from "@weir/common";

/** Finds who else has an address or a prefix around it. */
export class ClusterAddresses {
  readonly #ipcache: WatchedTable<IpcacheEntry>;
  /** Names of the nodes that have an address or a pod CIDR. */
  #ofNodes = new PrefixTrie<string>();
  /** Prefixes of entries that are wider than one address. */
  #wide = new PrefixTrie<string>();

  constructor(nodes: WatchedTable<Node>, ipcache: WatchedTable<IpcacheEntry>) {
    this.#ipcache = ipcache;
    nodes.onReset(() => {
      this.#ofNodes = new PrefixTrie();
      for (const node of nodes.list()) this.#addNode(node);
    });
    nodes.onChange(({ value, previous }) => {
      if (previous) {
        for (const prefix of prefixesOfNode(previous)) this.#ofNodes.delete(prefix, previous.name);
      }
      if (value) this.#addNode(value);
    });
    ipcache.onReset(() => {
      this.#wide = new PrefixTrie();
      for (const [prefix] of ipcache.entries()) this.#addEntry(prefix);
    });
    ipcache.onChange(({ name, value }) => {
      if (isHost(name)) return;
      if (value) this.#addEntry(name);
      else this.#wide.delete(Prefix.parse(name), name);
    });
  }

  /** A node other than `self` that has this address, or a pod CIDR around it. */
  otherNodeAt(address: Prefix, self: string): string | undefined {
    for (const node of this.#ofNodes.around(address)) if (node !== self) return node;
    return undefined;
  }

  /** An entry of another node, or of none, for this address or around it. */
  otherEntryAt(address: Prefix, self: string): IpcacheEntry | undefined {
    const exact = this.#ipcache.get(address.text);
    if (exact !== undefined && exact.node !== self) return exact;
    for (const prefix of this.#wide.around(address)) {
      const entry = this.#ipcache.get(prefix);
      if (entry !== undefined && entry.node !== self) return entry;
    }
    return undefined;
  }

  #addNode(node: Node): void {
    for (const prefix of prefixesOfNode(node)) this.#ofNodes.add(prefix, node.name);
  }

  #addEntry(prefix: string): void {
    if (!isHost(prefix)) this.#wide.add(Prefix.parse(prefix), prefix);
  }
}

function prefixesOfNode(node: Node): Prefix[] {
  return [node.ipv4, node.ipv6, node.podCidrV4, node.podCidrV6, ...node.pools.flatMap(({ cidrs }) => cidrs)]
    .filter((text) => text !== "").map((text) => Prefix.parse(text));
}

/** Of a canonical prefix, without reading it whole: the ipcache has a hundred thousand of them. */
function isHost(prefix: string): boolean {
  return prefix.endsWith(prefix.includes(":") ? "/128" : "/32");
}
