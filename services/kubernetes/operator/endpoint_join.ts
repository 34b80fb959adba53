/** Endpoints of pods, joined from their addresses in the ipcache. @module */
import type { IpcacheEntry, NamedPort } from "@weir/proto/identity";

/** One pod's endpoint. */
export interface PodEndpoint {
  namespace: string;
  /** Of the pod. */
  name: string;
  identity: number;
  /** Of the identity, sorted. */
  labels: readonly string[];
  /** Without a prefix length, sorted: IPv4 first. */
  addresses: readonly string[];
  /** Of its node, "" where there is none of that family. */
  nodeIpv4: string;
  nodeIpv6: string;
  namedPorts: readonly NamedPort[];
}

/** Holds what is known of every endpoint; `onChange` hears "NAMESPACE/POD" of those that may have changed. */
export class EndpointJoin {
  /** Entries by endpoint, then by prefix. */
  readonly #entries = new Map<string, Map<string, IpcacheEntry>>();
  readonly #onChange: (key: string) => void;

  constructor(onChange: (key: string) => void) {
    this.#onChange = onChange;
  }

  /** Endpoints that there are. */
  get size(): number {
    return this.#entries.size;
  }

  /** "NAMESPACE/POD" of every one. */
  keys(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** A prefix has another entry, or none. */
  change(prefix: string, value: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    const before = keyOf(previous), after = keyOf(value);
    if (before !== undefined && before !== after) {
      const entries = this.#entries.get(before);
      entries?.delete(prefix);
      if (entries?.size === 0) this.#entries.delete(before);
      this.#onChange(before);
    }
    if (after === undefined) return;
    let entries = this.#entries.get(after);
    if (entries === undefined) this.#entries.set(after, entries = new Map());
    entries.set(prefix, value!);
    this.#onChange(after);
  }

  /** The endpoint; undefined when there is none. */
  get(key: string): PodEndpoint | undefined {
    const entries = this.#entries.get(key);
    if (entries === undefined) return undefined;
    const all = [...entries.values()].sort((a, b) => compareAddresses(a.prefix, b.prefix));
    // While an endpoint moves, its addresses may differ for a moment: the first one speaks for all.
    const [{ namespace, podName, identity, labels, nodeIpv4, nodeIpv6, namedPorts }] = all;
    return {
      namespace,
      name: podName,
      identity,
      labels,
      addresses: all.map(({ prefix }) => prefix.split("/")[0]),
      nodeIpv4,
      nodeIpv6,
      namedPorts: [...namedPorts].sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    };
  }
}

/** Pairs of addresses by family, as objects have them. */
export function addressing(addresses: readonly string[]): { ipv4?: string; ipv6?: string }[] {
  const ipv4 = addresses.filter((address) => !address.includes(":"));
  const ipv6 = addresses.filter((address) => address.includes(":"));
  return Array.from({ length: Math.max(ipv4.length, ipv6.length) }, (_, i) => ({
    ...(ipv4[i] === undefined ? {} : { ipv4: ipv4[i] }),
    ...(ipv6[i] === undefined ? {} : { ipv6: ipv6[i] }),
  }));
}

function keyOf(entry: IpcacheEntry | undefined): string | undefined {
  if (entry === undefined || entry.namespace === "" || entry.podName === "") return undefined;
  return `${entry.namespace}/${entry.podName}`;
}

function compareAddresses(a: string, b: string): number {
  return Number(a.includes(":")) - Number(b.includes(":")) || (a < b ? -1 : a > b ? 1 : 0);
}
