/** Nodes by their addresses and pod CIDRs, from the cluster's list of nodes. @module */
import { IpAddress, Prefix } from "@weir/common";
import type { Node } from "@weir/proto/identity";
import type { EndNames } from "./flow_end.ts";

/** Addresses whose node is remembered. */
const CACHE_MAX = 16_384;

/** The names. */
export class NodeNames implements EndNames {
  readonly #nodes = new Map<string, { addresses: string[]; prefixes: Prefix[] }>();
  readonly #byAddress = new Map<string, string>();
  readonly #cache = new Map<string, string>();

  /** Takes in a node as it is now; undefined: it is gone. */
  set(name: string, node: Node | undefined): void {
    this.#cache.clear();
    for (const address of this.#nodes.get(name)?.addresses ?? []) this.#byAddress.delete(address);
    this.#nodes.delete(name);
    if (node === undefined) return;
    const addresses = [node.ipv4, node.ipv6].filter((text) => text !== "");
    const prefixes = [node.podCidrV4, node.podCidrV6, ...node.pools.flatMap(({ cidrs }) => cidrs)].flatMap((
      text,
    ) => Prefix.tryParse(text) ?? []);
    this.#nodes.set(name, { addresses, prefixes });
    for (const address of addresses) this.#byAddress.set(address, name);
  }

  /** Names of all nodes, in order. */
  list(): string[] {
    return [...this.#nodes.keys()].sort();
  }

  nodeAt(ip: string): string | undefined {
    return this.#byAddress.get(ip);
  }

  nodeOf(ip: string): string | undefined {
    const known = this.#cache.get(ip);
    if (known !== undefined) return known === "" ? undefined : known;
    const address = IpAddress.tryParse(ip);
    let found: string | undefined;
    if (address !== undefined) {
      for (const [name, { prefixes }] of this.#nodes) {
        if (prefixes.some((prefix) => prefix.contains(address))) found = name;
      }
    }
    if (this.#cache.size >= CACHE_MAX) this.#cache.clear();
    this.#cache.set(ip, found ?? "");
    return found;
  }
}
