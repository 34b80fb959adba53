/**
 * The names of a node: what its endpoints have heard of addresses, which of them count, until when, and what of that is shown.
 *
 *     POST /v1/names ─▶ disk ─▶ NameTable ─▶ NameOrder ─▶ policies, ipcache ─▶ answer
 *                                   ▲
 *     every 5 s: ended, and no connection uses it: goes
 *
 * @module
 */
import { AddressError, type Clock, invalidArgument, ProblemError, WatchedTable } from "@weir/common";
import { FqdnIdentity as ShownIdentity, KnownName, type LearnedNames } from "@weir/proto/endpoint";
import { addressOfName } from "./address_kind.ts";
import { type FqdnIdentity, WORLDS } from "./fqdn_identities.ts";
import type { KeptIdentity, KeptName, NameRecord, NameStore } from "./name_file.ts";
import { NameOrder, type NameOrderParts } from "./name_order.ts";
import { queryOf } from "./name_selectors.ts";
import { ADDRESSES_PER_NAME_MAX, type KnownQuery, NameTable } from "./name_table.ts";

/** Names in one request. */
export const LEARNED_NAMES_MAX = 1024;
/** Longest wait for policies and ipcache until a request is answered, milliseconds: whoever asks waits no longer than 2 s. */
export const LEARN_DEADLINE_MS = 1_800;
/** How often names that have ended are looked at, milliseconds. */
export const EXPIRE_MS = 5_000;
/** Longest time that an answer is taken for, seconds: a week, as resolvers have it (RFC 8767, 4). */
const TTL_S_MAX = 604_800;
/** Addresses of one question about connections. */
const IN_USE_MAX = 10_000;
/** A file of more bytes than this, and than twice what it needs, is written anew. */
const FILE_BYTES_MIN = 4 << 20;

/** What {@link NodeNames} is made of. */
export interface NodeNamesParts
  extends Omit<NameOrderParts, "table" | "onSelector" | "onIdentity" | "onShown" | "onMoved" | "nowMs"> {
  store: NameStore;
  /** Whether an endpoint of this number is here. */
  hasEndpoint: (endpoint: number) => boolean;
  /** Which of these addresses connections use. @throws {Error} that cannot be told now */
  inUse: (addresses: readonly string[]) => Promise<ReadonlySet<string>>;
  /** An answer counts for at least so long, milliseconds. */
  ttlMsMin: number;
  clock: Clock;
  log: (message: string, fields?: Record<string, unknown>) => void;
}

/** What came of requests, for metrics. */
export interface NameCounts {
  learned: number;
  failed: number;
  notKept: number;
}

/** Learns, keeps, shows and forgets. */
export class NodeNames {
  readonly order: NameOrder;
  /** What endpoints know, by `ENDPOINT/QUERY`. */
  readonly shown = new WatchedTable<KnownName>({ name: "names" });
  readonly shownIdentities = new WatchedTable<ShownIdentity>({ name: "fqdnidentities" });
  readonly counts: NameCounts = { learned: 0, failed: 0, notKept: 0 };
  readonly #parts: NodeNamesParts;
  readonly #table: NameTable;
  readonly #kept: KeptIdentity[] = [];
  /** To be written. */
  #records: NameRecord[] = [];
  #unshown = new Map<string, KnownQuery>();
  /** Names of addresses that have moved: all who know them are shown anew. */
  readonly #moved = new Set<string>();
  #unshownIdentities = new Set<FqdnIdentity>();
  #isShowing = false;
  #bytesNeeded = 0;

  constructor(parts: NodeNamesParts) {
    this.#parts = parts;
    this.order = new NameOrder({
      ...parts,
      table: () => this.#table,
      onSelector: (selector) => this.#keepSoon({ selector }),
      onIdentity: (identity) => this.#keepSoon({ identity }),
      onShown: (fqdn) => {
        this.#unshownIdentities.add(fqdn);
        this.#showSoon();
      },
      onMoved: (address) => {
        for (const query of this.#table.queriesOf(address)) this.#moved.add(query);
        this.#showSoon();
      },
      nowMs: () => parts.clock.nowMs(),
    });
    this.#table = new NameTable(
      (address) => this.order.look(address),
      (row) => {
        if (!this.#table.hasQuery(row.query)) this.order.selectors.forget(row.query);
        this.#show(row);
      },
    );
  }

  /** Pairs of a name and an address. */
  get pairs(): number {
    return this.#table.pairs;
  }
  get evicted(): number {
    return this.#table.evicted;
  }

  /** Reads what an earlier process kept. To be called first. */
  async load(): Promise<void> {
    const { store, log } = this.#parts;
    const { records, broken } = await store.load();
    for (const record of records) {
      if ("name" in record) {
        this.#table.learn(record.name, true);
      } else if ("selector" in record) this.order.selectors.add(record.selector);
      else this.#kept.push(record.identity);
    }
    if (broken === "") return;
    log("Cannot read the file of names, set aside: names that it had are learnt anew", { path: broken });
    await this.#rewrite();
  }

  /**
   * Prefixes of policies that the kernel has under an address's own identity: of this address alone.
   * @param found the addresses of names that it has
   */
  hidden(found: readonly { prefix: string; identity: number }[]): { prefix: string; identity: number }[] {
    const bases = new Map(this.#kept.map(({ identity, base }) => [identity, base]));
    return found.flatMap(({ prefix, identity }) => {
      const base = bases.get(identity);
      return base?.prefix.text === prefix ? [{ prefix, identity: base.identity }] : [];
    });
  }

  /** The kernel has these addresses of names, and what `prefixes` has of prefixes. Policies that were found come after. */
  adopt(found: readonly { prefix: string; identity: number }[]): void {
    for (const { identity, base, selectors } of this.#kept.splice(0)) {
      const { prefix } = base, { cover } = this.#parts.prefixes;
      const there = prefix.length === 0 ? WORLDS[prefix.family] : cover.get(prefix, base.identity);
      if (there) this.order.identities.adopt(identity, there, selectors);
    }
    for (const { prefix, identity } of found) {
      // Nobody knows what it means: it goes.
      if (!this.order.adopt(prefix, identity)) this.#parts.onIpcache(prefix, undefined);
    }
    // What has ended stays only where the kernel has it: connections may use that.
    for (const { row, addresses } of [...this.#table.ended(this.#parts.clock.nowMs())]) {
      this.#table.drop(row, addresses.filter((address) => !this.order.identityOf(address)));
    }
    for (const fqdn of this.order.identities) this.#unshownIdentities.add(fqdn);
    this.#showSoon();
  }

  /** Everything that an earlier process left is known: from now on it may be changed. */
  begin(): void {
    this.order.begin();
  }

  /**
   * Endpoints have heard of addresses. Ends when policies that mean the names let these be reached, as far as they allow it.
   * @throws {ProblemError} INVALID_ARGUMENT; NAMES_NOT_IN_FORCE; ENDPOINT_STORE_FAILED: policies mean one of the names, and it cannot be kept
   */
  async learn({ names }: LearnedNames): Promise<void> {
    try {
      await this.#learn(this.#read(names));
      this.counts.learned += names.length;
    } catch (error) {
      this.counts.failed += names.length;
      throw error;
    }
  }

  /** Forgets what an endpoint knows, which is gone. */
  forget(endpoint: number): void {
    this.#table.forget(endpoint);
  }

  /** Looks at names that have ended. Those whose addresses connections use stay. */
  async expire(): Promise<void> {
    const { clock, inUse, store } = this.#parts, nowMs = clock.nowMs();
    const ended = [...this.#table.ended(nowMs)], asked = new Set<string>();
    for (const { addresses } of ended) {
      for (const address of addresses) if (this.order.identityOf(address)) asked.add(address);
    }
    const all = [...asked], used = new Set<string>();
    for (let at = 0; at < all.length; at += IN_USE_MAX) {
      for (const address of await inUse(all.slice(at, at + IN_USE_MAX))) used.add(address);
    }
    for (const { row, addresses } of ended) {
      // Meanwhile it may have been heard again.
      const still = addresses.filter((address) => (row.addresses.get(address) ?? Infinity) <= nowMs);
      if (addresses.some((address) => used.has(address))) this.#table.keep(row, still);
      else this.#table.drop(row, still);
    }
    this.order.tidy();
    if (store.bytes > Math.max(FILE_BYTES_MIN, 2 * this.#bytesNeeded)) await this.#rewrite();
  }

  #read(names: LearnedNames["names"]): KeptName[] {
    if (names.length > LEARNED_NAMES_MAX) {
      throw invalidArgument("Cannot learn so many names at once", {
        found: `${names.length} names`,
        expected: `at most ${LEARNED_NAMES_MAX}`,
      });
    }
    const nowMs = this.#parts.clock.nowMs(), read: KeptName[] = [];
    for (const { endpoint, name, addresses, ttlS } of names) {
      if (addresses.length > ADDRESSES_PER_NAME_MAX) {
        throw invalidArgument(`Cannot learn the addresses of ${name}`, {
          found: `${addresses.length} addresses`,
          expected: `at most ${ADDRESSES_PER_NAME_MAX}`,
        });
      }
      const query = queryOf(name), own = new Set<string>();
      for (const text of addresses) {
        const address = readAddress(name, text);
        if (address !== undefined) own.add(address);
      }
      // No selector means a name with other characters; an endpoint that is gone reaches nothing.
      if (query === undefined || own.size === 0 || !this.#parts.hasEndpoint(endpoint)) continue;
      const ttlMs = Math.max(Math.min(ttlS, TTL_S_MAX) * 1000, this.#parts.ttlMsMin);
      read.push({ endpoint, query, addresses: [...own], untilMs: nowMs + ttlMs });
    }
    return read;
  }

  async #learn(learned: readonly KeptName[]): Promise<void> {
    const { store, clock } = this.#parts;
    const news = learned.filter((name) => this.#isNews(name));
    const records = [...this.#records, ...news.map((name) => ({ name }))];
    let isKept = true;
    if (records.length > 0) {
      this.#records = [];
      try {
        await store.add(records);
      } catch (error) {
        isKept = false;
        this.counts.notKept += news.length;
        for (const record of records) if (!("name" in record)) this.#records.push(record);
        const isMeant = learned.some(({ query }) => this.order.selectors.of(query).length > 0);
        for (const { query } of learned) if (!this.#table.hasQuery(query)) this.order.selectors.forget(query);
        if (isMeant) throw error;
      }
    }
    for (const name of learned) this.#table.learn(name, isKept && news.includes(name));
    const wait = new AbortController(), ended = new AbortController();
    void clock.sleep(LEARN_DEADLINE_MS, ended.signal).then(() => {
      if (!ended.signal.aborted) wait.abort(new Error(`that took more than ${LEARN_DEADLINE_MS} ms`));
    });
    try {
      await this.order.settled(new Set(learned.flatMap(({ addresses }) => addresses)), wait.signal);
    } catch (error) {
      const names = [...new Set(learned.map(({ query }) => query))];
      throw new ProblemError("NAMES_NOT_IN_FORCE", {
        status: 503,
        detail: `Cannot let addresses of ${names.slice(0, 3).join(", ")}${
          names.length > 3 ? ", ..." : ""
        } in: ${(error as Error).message}`,
        found: (error as Error).message,
        expected: "every address in the ipcache, and policies that say what holds for it",
        action: "See what is short: weir status, weir names list",
        cause: error,
      });
    } finally {
      ended.abort();
    }
  }

  /** Whether it is to be written down: it has an address that is new, or ends much later than what is written. */
  #isNews({ endpoint, query, addresses, untilMs }: KeptName): boolean {
    const nowMs = this.#parts.clock.nowMs();
    return !this.#table.isKept(endpoint, query, addresses, nowMs + (untilMs - nowMs) / 2);
  }

  #keepSoon(record: NameRecord): void {
    this.#records.push(record);
    if (this.#records.length > 1) return;
    queueMicrotask(() => {
      const records = this.#records.splice(0);
      if (records.length === 0) return;
      this.#parts.store.add(records).catch((error) => {
        this.#records.push(...records);
        this.#parts.log("Cannot keep identities of names", { error: error.message });
      });
    });
  }

  async #rewrite(): Promise<void> {
    const { store, log } = this.#parts;
    try {
      await store.replace(this.#everything());
      this.#bytesNeeded = store.bytes;
    } catch (error) {
      log("Cannot write the file of names anew", { error: (error as Error).message });
    }
  }

  *#everything(): Generator<NameRecord> {
    for (const selector of this.order.selectors.list()) yield { selector };
    for (const identity of [...this.order.identities, ...this.#kept]) yield { identity };
    for (const { endpoint, query, addresses } of this.#table.rows()) {
      const byTime = Map.groupBy(addresses, ([, untilMs]) => untilMs);
      for (const [untilMs, some] of byTime) {
        yield { name: { endpoint, query, addresses: some.map(([address]) => address), untilMs } };
      }
    }
  }

  #show(row: KnownQuery): void {
    this.#unshown.set(`${row.endpoint}/${row.query}`, row);
    this.#showSoon();
  }

  #showSoon(): void {
    if (this.#isShowing) return;
    this.#isShowing = true;
    queueMicrotask(() => {
      for (const query of this.#moved) for (const row of this.#table.rowsOf(query)) this.#show(row);
      this.#moved.clear();
      this.#isShowing = false;
      const rows = this.#unshown, identities = this.#unshownIdentities;
      this.#unshown = new Map();
      this.#unshownIdentities = new Set();
      for (const [name, row] of rows) {
        if (this.#table.get(row.endpoint, row.query) === row) this.shown.put(name, this.#known(name, row));
        else if (!this.#table.get(row.endpoint, row.query)) this.shown.delete(name);
      }
      for (const fqdn of identities) {
        const name = `${fqdn.identity}`;
        if (this.order.identities.get(fqdn.identity) === fqdn) {
          this.shownIdentities.put(name, shownIdentity(fqdn));
        } else if (!this.order.identities.get(fqdn.identity)) this.shownIdentities.delete(name);
      }
    });
  }

  #known(name: string, { endpoint, query, addresses, inUse }: KnownQuery): KnownName {
    return KnownName.create({
      name,
      endpoint,
      query,
      addresses: Array.from(addresses, ([address, untilMs]) => ({
        address,
        expiresUnixS: untilMs / 1000,
        inUse: inUse.has(address),
        identity: this.order.identityOf(address)?.identity ?? 0,
      })),
    });
  }
}

function readAddress(name: string, text: string): string | undefined {
  try {
    return addressOfName(text);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw invalidArgument(`Cannot learn an address of ${name}`, {
      found: text,
      expected: "an IPv4 or IPv6 address",
    });
  }
}

function shownIdentity({ identity, base, selectors, addresses }: FqdnIdentity): ShownIdentity {
  const { prefix } = base, world = `reserved:world-ipv${prefix.family}`;
  return ShownIdentity.create({
    identity,
    base: base.identity,
    basePrefix: prefix.text,
    selectors: selectors.map((selector) => selector.identity),
    labels: [
      ...prefix.length === 0 ? [] : [`cidr:${prefix.text}`],
      ...selectors.map(({ name }) => `fqdn:${name.slice(name.indexOf(":") + 1)}`),
      world,
    ],
    addresses,
  });
}
