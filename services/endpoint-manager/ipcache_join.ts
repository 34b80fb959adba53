/**
 * The prefixes this node's datapath must know, joined from the cluster's ipcache, the nodes and the CIDRs that policies
 * name. Each source has its table; of a prefix that several name, the first of these counts:
 *
 *     own      this node's endpoints, as the kernel has them
 *     cluster  what other nodes announce of their endpoints
 *     gateway  router addresses of this node
 *     node     addresses of the nodes
 *     name     addresses of names that policies mean
 *     cidr     CIDRs of policies: a CIDR rule never selects a pod or a node
 *     world    everything else
 *
 * A change marks the prefixes that it touches, so it costs what it touches, whatever else there is. Pure.
 * @module
 */
import {
  AddressError,
  IDENTITY_HOST,
  IDENTITY_REMOTE_NODE,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  IpAddress,
  Prefix,
} from "@weir/common";
import type { IpcacheUpsert } from "@weir/proto/datapath";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";

/** Where the join is made. */
export interface JoinPlace {
  nodeName: string;
  nodeIpv4: string;
  nodeIpv6: string;
}

/** What is to be told, in the order to apply it. */
export interface IpcacheBatch {
  upserts: IpcacheUpsert[];
  deletes: string[];
}

/** A row of one owner, and those of others that name the same prefix. */
interface Owned {
  readonly owner: string;
  readonly row: IpcacheUpsert;
  readonly next?: Owned;
}

/** One source's rows by prefix; several owners may name one, then the smallest owner counts. */
class SourceTable {
  readonly #rows = new Map<string, Owned>();
  /** Prefixes of each owner; not of one that names the prefix which is its own name. */
  readonly #named = new Map<string, readonly string[]>();

  get(prefix: string): IpcacheUpsert | undefined {
    return this.#rows.get(prefix)?.row;
  }
  prefixes(): Iterable<string> {
    return this.#rows.keys();
  }

  /** Everything that an owner names; what it named before and does not name any more goes. `touched` is told of each. */
  set(owner: string, rows: readonly IpcacheUpsert[], touched: (prefix: string) => void): void {
    for (const prefix of this.#named.get(owner) ?? [owner]) {
      if (rows.some((row) => row.prefix === prefix)) continue;
      const first = this.#rows.get(prefix), left = without(first, owner);
      if (left === first) continue;
      if (left) this.#rows.set(prefix, left);
      else this.#rows.delete(prefix);
      touched(prefix);
    }
    for (const row of rows) {
      this.#rows.set(row.prefix, inserted(without(this.#rows.get(row.prefix), owner), { owner, row }));
      touched(row.prefix);
    }
    if (rows.length === 0 || (rows.length === 1 && rows[0].prefix === owner)) this.#named.delete(owner);
    else this.#named.set(owner, rows.map((row) => row.prefix));
  }
}

function without(list: Owned | undefined, owner: string): Owned | undefined {
  if (!list || list.owner === owner) return list?.next;
  const next = without(list.next, owner);
  return next === list.next ? list : { ...list, next };
}
function inserted(list: Owned | undefined, owned: Owned): Owned {
  if (!list || owned.owner < list.owner) return list ? { ...owned, next: list } : owned;
  return { ...list, next: inserted(list.next, owned) };
}

/** An IPv4 address as a prefix, written as it must be: most of what there is. */
const IPV4_HOST =
  /^(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}\/32$/;

/** The canonical text of a prefix. @throws {AddressError} */
function canonical(prefix: string): string {
  return IPV4_HOST.test(prefix) ? prefix : Prefix.parse(prefix).text;
}

const hostPrefix = (address: string) => Prefix.host(IpAddress.parse(address)).text;

/** The join and what the datapath was told of it. */
export class IpcacheJoin {
  readonly #place: JoinPlace;
  /** Both ends must take the same family: a tunnel packet counts only from the address that is looked for here. */
  readonly #onlyV6: boolean;
  readonly #own = new SourceTable();
  readonly #cluster = new SourceTable();
  readonly #gateways = new SourceTable();
  readonly #nodes = new SourceTable();
  readonly #names = new SourceTable();
  readonly #cidrs = new SourceTable();
  readonly #world = new SourceTable();
  readonly #sources = [
    this.#own,
    this.#cluster,
    this.#gateways,
    this.#nodes,
    this.#names,
    this.#cidrs,
    this.#world,
  ];
  readonly #given = new Map<string, IpcacheUpsert>();
  readonly #dirty = new Set<string>();
  /** Those of them that are addresses of names, until the datapath has a whole ipcache. */
  readonly #dirtyNames = new Set<string>();
  /** Rows of the sources that cannot be read, by name, with why. */
  readonly refused = new Map<string, string>();

  constructor(place: JoinPlace) {
    this.#place = place;
    this.#onlyV6 = place.nodeIpv4 === "" && place.nodeIpv6 !== "";
    this.#set(this.#world, "world", [
      { prefix: "0.0.0.0/0", identity: IDENTITY_WORLD_IPV4, nodeIpv4: "", nodeIpv6: "" },
      { prefix: "::/0", identity: IDENTITY_WORLD_IPV6, nodeIpv4: "", nodeIpv6: "" },
    ]);
  }

  /** True when the datapath lacks something. */
  get dirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** A node that is there, has changed or is gone. */
  setNode(name: string, node: Node | undefined): void {
    // The smallest owner counts: nobody else has this node's own addresses.
    const own = name === this.#place.nodeName, owner = own ? "" : name;
    this.#read(`node ${name}`, () => this.#set(this.#nodes, owner, node ? this.#rowsOfNode(node, own) : []));
  }

  /** Router addresses of this node. */
  setGateways(addresses: readonly string[]): void {
    this.#set(
      this.#gateways,
      "",
      addresses.filter((a) => a !== "").map((a) => this.#row(hostPrefix(a), IDENTITY_HOST)),
    );
  }

  /** An address of a name, as a prefix; undefined: it has no identity by its names (any more). */
  setName(prefix: string, identity: number | undefined): void {
    this.#dirtyNames.add(prefix);
    // The datapath may have one that nobody here knows of, or have found no room for it.
    this.#given.set(prefix, UNKNOWN);
    this.#dirty.add(prefix);
    this.#set(this.#names, prefix, identity === undefined ? [] : [this.#row(prefix, identity)]);
  }

  /** A CIDR of policies. */
  setCidr(name: string, cidr: CidrIdentity | undefined): void {
    this.#read(
      `CIDR ${name}`,
      () => this.#set(this.#cidrs, name, cidr ? [this.#row(canonical(cidr.prefix), cidr.identity)] : []),
    );
  }

  /** An entry of the cluster's ipcache. */
  setEntry(name: string, entry: IpcacheEntry | undefined): void {
    this.#read(
      `ipcache entry ${name}`,
      () => this.#set(this.#cluster, name, entry ? [this.#rowOf(entry)] : []),
    );
  }

  /**
   * What one of this node's endpoints has in the kernel; none when it has nothing there.
   * @returns true when there is something to tell
   */
  setOwn(endpoint: string, entries: readonly IpcacheEntry[]): boolean {
    this.#set(this.#own, endpoint, entries.map((entry) => this.#rowOf(entry)));
    return this.dirty;
  }

  /** Identity and node of a prefix as it should be. */
  get(prefix: string): IpcacheUpsert | undefined {
    for (const source of this.#sources) {
      const row = source.get(prefix);
      if (row) return row;
    }
  }

  /** Up to `max` prefixes that the datapath must be told of; they count as told. */
  take(max: number): IpcacheBatch {
    const batch: IpcacheBatch = { upserts: [], deletes: [] };
    let taken = 0;
    for (const prefix of this.#dirty) {
      this.#dirty.delete(prefix);
      this.#dirtyNames.delete(prefix);
      const wanted = this.get(prefix), given = this.#given.get(prefix);
      if (wanted && (!given || !sameRow(wanted, given))) {
        batch.upserts.push(wanted);
        this.#given.set(prefix, wanted);
      } else if (!wanted && given) {
        batch.deletes.push(prefix);
        this.#given.delete(prefix);
      } else continue;
      if (++taken >= max) break;
    }
    return batch;
  }

  /** True when the datapath lacks addresses of names. */
  get areNamesDirty(): boolean {
    return this.#dirtyNames.size > 0;
  }

  /** The same of addresses of names alone, for a datapath that was not told everything yet. */
  takeNames(max: number): IpcacheBatch {
    const batch: IpcacheBatch = { upserts: [], deletes: [] };
    for (const prefix of this.#dirtyNames) {
      if (batch.upserts.length + batch.deletes.length >= max) break;
      this.#dirtyNames.delete(prefix);
      const wanted = this.get(prefix);
      if (wanted) batch.upserts.push(wanted);
      else batch.deletes.push(prefix);
    }
    return batch;
  }

  /** Nobody knows what the datapath has of addresses of names, and of what it was told last. */
  namesAgain({ upserts, deletes }: IpcacheBatch = { upserts: [], deletes: [] }): void {
    for (const prefix of [...upserts.map((row) => row.prefix), ...deletes, ...this.#names.prefixes()]) {
      this.#dirtyNames.add(prefix);
    }
  }

  /** A batch that was taken was not told: its prefixes are taken again. */
  again({ upserts, deletes }: IpcacheBatch): void {
    for (const prefix of [...upserts.map((row) => row.prefix), ...deletes]) {
      this.#given.set(prefix, UNKNOWN);
      this.#dirty.add(prefix);
    }
  }

  /** All there is, for a datapath that must be told everything; it counts as told. */
  takeAll(): IpcacheUpsert[] {
    this.#dirty.clear();
    this.#dirtyNames.clear();
    this.#given.clear();
    for (const source of this.#sources) {
      for (const prefix of source.prefixes()) {
        if (!this.#given.has(prefix)) this.#given.set(prefix, this.get(prefix)!);
      }
    }
    return [...this.#given.values()];
  }

  #row(prefix: string, identity: number, nodeIpv4 = "", nodeIpv6 = ""): IpcacheUpsert {
    return { prefix, identity, nodeIpv4: this.#onlyV6 && nodeIpv6 !== "" ? "" : nodeIpv4, nodeIpv6 };
  }

  #rowOf(entry: IpcacheEntry): IpcacheUpsert {
    const own = entry.node === this.#place.nodeName;
    const prefix = canonical(entry.prefix);
    return this.#row(prefix, entry.identity, own ? "" : entry.nodeIpv4, own ? "" : entry.nodeIpv6);
  }

  #rowsOfNode(node: Node, own: boolean): IpcacheUpsert[] {
    const rows: IpcacheUpsert[] = [];
    // In tunnel mode pods reach other nodes through the tunnel; direct routing does not look at the node.
    const put = (prefix: string) =>
      rows.push(
        own
          ? this.#row(prefix, IDENTITY_HOST)
          : this.#row(prefix, IDENTITY_REMOTE_NODE, node.ipv4, node.ipv6),
      );
    for (const address of [node.ipv4, node.ipv6]) if (address !== "") put(hostPrefix(address));
    // A remote node talks to our pods from its router address too.
    for (const cidr of [node.podCidrV4, node.podCidrV6]) {
      if (cidr !== "") put(hostPrefix(Prefix.parse(cidr).addressAt(1).text));
    }
    return rows;
  }

  /** A row that cannot be read is named and left out; the others go on. */
  #read(name: string, put: () => void): void {
    try {
      put();
      this.refused.delete(name);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      this.refused.set(name, error.message);
    }
  }

  #set(source: SourceTable, owner: string, rows: readonly IpcacheUpsert[]): void {
    source.set(owner, rows, (prefix) => this.#dirty.add(prefix));
  }
}

/** In the datapath, who knows what. */
const UNKNOWN: IpcacheUpsert = { prefix: "", identity: -1, nodeIpv4: "", nodeIpv6: "" };

function sameRow(a: IpcacheUpsert, b: IpcacheUpsert): boolean {
  return a.identity === b.identity && a.nodeIpv4 === b.nodeIpv4 && a.nodeIpv6 === b.nodeIpv6;
}
