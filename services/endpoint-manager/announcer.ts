/**
 * Where this node's endpoints are, as the cluster is told: the entries of this node in the cluster's ipcache are compared
 * with what the kernel has, for ever, and what differs is written. What the mirror does not show is not there, whatever
 * was written once; only its echo is waited for a while.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "@weir/common";
import type { IpcacheEntry } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import type { Peer } from "./peer.ts";
import type { Directory, Mirror } from "./sources.ts";
import { announcementOf, prefixesOf, type Workload } from "./workload.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** Entries in one call. */
export const ANNOUNCEMENTS_MAX = 500;
/** How long the echo of what was written may take before it is written again, milliseconds. */
export const ECHO_MS = 10_000;

const ALL = "announcements";

/** What {@link Announcer} is made of. */
export interface AnnouncerParts {
  config: EndpointManagerConfig;
  table: EndpointTable;
  directory: Directory;
  peer: Peer;
  clock: Clock;
  /** The cluster knows where an endpoint is. */
  onAnnounced: (workload: Workload) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Compares and writes, in a queue of its own. */
export class Announcer {
  readonly #parts: AnnouncerParts;
  readonly #queue: WorkQueue;
  /** This node's entries as the cluster has them. */
  readonly #there = new Map<string, IpcacheEntry>();
  /** What was written and not seen yet; an entry, or undefined where it was deleted. */
  readonly #written = new Map<string, { entry: IpcacheEntry | undefined; atMs: number }>();
  /** Endpoints to compare; all of them where `#whole`. */
  readonly #changed = new Set<string>();
  #whole = true;
  #mirror: Mirror<IpcacheEntry> | undefined;

  constructor(parts: AnnouncerParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: () => this.#reconcile(),
      onResult: parts.onResult,
    });
  }

  /** The mirror of the cluster's ipcache, whose changes come to {@link change}. */
  compareWith(mirror: Mirror<IpcacheEntry>): void {
    this.#mirror = mirror;
  }

  /** A change of the cluster's ipcache, as it is seen: rows of this node are never held, they are written again. */
  change(name: string, value: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    const { nodeName } = this.#parts.config;
    const mine = value?.node === nodeName;
    if (!mine && previous?.node !== nodeName && !this.#written.has(name)) return;
    if (mine) this.#there.set(name, value);
    else this.#there.delete(name);
    const written = this.#written.get(name);
    this.#written.delete(name);
    if (written && isDeepStrictEqual(written.entry, mine ? value : undefined)) return;
    // What others have written meanwhile is no echo, and is corrected at once.
    this.reconcile();
  }

  /** Something that this node says of an endpoint may have changed; of any, or time has passed, without a name. */
  reconcile(name?: string): void {
    if (name === undefined) this.#whole = true;
    else this.#changed.add(name);
    this.#queue.suggest(ALL);
  }

  /** What the cluster is to know of an endpoint. */
  entriesOf(workload: Workload): IpcacheEntry[] {
    return prefixesOf(workload).map((prefix) => announcementOf(workload, prefix, this.#parts.config));
  }

  /** Takes back what the cluster was told of an endpoint that is gone. @throws what the directory answers */
  async withdraw(workload: Workload): Promise<void> {
    const prefixes = prefixesOf(workload);
    if (prefixes.length > 0) await this.#write([], prefixes);
  }

  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  get isIdle(): boolean {
    return this.#queue.isIdle;
  }
  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  async #reconcile(): Promise<void> {
    // Before everything is seen, everything would be written.
    if (!this.#mirror?.synced) return;
    const { table } = this.#parts;
    const whole = this.#whole, changed = [...this.#changed];
    this.#whole = false;
    this.#changed.clear();
    const workloads = whole
      ? [...table.workloads()]
      : changed.map((name) => table.get(name)).filter((w) => !!w);
    const upserts: IpcacheEntry[] = [], lacking = new Map<Workload, string[]>();
    for (const workload of workloads) {
      const { deleting, status, applied, restored, given } = workload;
      // Of one that runs from before this process, what is known for sure.
      const runs = applied !== undefined || (restored && given?.number === status.identity);
      // A file of an older version has no labels: they come with the answer to its claim.
      if (deleting || status.identity === 0 || status.identityLabels.length === 0 || !runs) continue;
      const entries = this.entriesOf(workload).filter((entry) => !this.#isThere(entry.prefix, entry));
      upserts.push(...entries);
      lacking.set(workload, entries.map((entry) => entry.prefix));
    }
    const errors = await this.#writeAll(upserts, whole ? this.#leftovers() : []);
    for (const [workload, prefixes] of lacking) this.#note(workload, prefixes, errors);
    const first = errors.values().next().value;
    if (!first) return;
    // What was taken off the list was not written.
    this.#whole = true;
    throw first;
  }

  /** Prefixes that the cluster places on this node and that none of its endpoints has. */
  #leftovers(): string[] {
    const held = new Set<string>();
    for (const workload of this.#parts.table.workloads()) {
      if (!workload.deleting?.kernelGone) { for (const prefix of prefixesOf(workload)) held.add(prefix); }
    }
    return [...this.#there.keys()].filter((prefix) => !held.has(prefix) && !this.#isThere(prefix, undefined));
  }

  #note(workload: Workload, prefixes: string[], errors: ReadonlyMap<string, Error>): void {
    const failed = prefixes.map((prefix) => errors.get(prefix)).find((error) => error !== undefined);
    this.#parts.table.setCondition(
      workload,
      "NOT_ANNOUNCED",
      failed && `Other nodes do not know where it is: ${failed.message}`,
    );
    if (failed || workload.announced) return;
    workload.announced = true;
    this.#parts.onAnnounced(workload);
  }

  /** True when the cluster shows it, or was told so lately. */
  #isThere(prefix: string, entry: IpcacheEntry | undefined): boolean {
    const written = this.#written.get(prefix);
    if (written && this.#parts.clock.nowMs() - written.atMs < ECHO_MS) {
      return isDeepStrictEqual(written.entry, entry);
    }
    return isDeepStrictEqual(this.#there.get(prefix), entry);
  }

  /** Writes in batches. @returns why a prefix could not be written */
  async #writeAll(upserts: IpcacheEntry[], deletes: string[]): Promise<Map<string, Error>> {
    const errors = new Map<string, Error>();
    const attempt = async (puts: IpcacheEntry[], gone: string[]) => {
      const note = (prefix: string, error: Error) => errors.set(prefix, error);
      try {
        const refused = await this.#write(puts, gone);
        for (const [prefix, why] of refused) note(prefix, new Error(`Cannot announce ${prefix}: ${why}`));
      } catch (error) {
        for (const { prefix } of puts) note(prefix, error as Error);
        for (const prefix of gone) note(prefix, error as Error);
      }
    };
    for (let i = 0; i < deletes.length; i += ANNOUNCEMENTS_MAX) {
      await attempt([], deletes.slice(i, i + ANNOUNCEMENTS_MAX));
    }
    for (let i = 0; i < upserts.length; i += ANNOUNCEMENTS_MAX) {
      await attempt(upserts.slice(i, i + ANNOUNCEMENTS_MAX), []);
    }
    return errors;
  }

  async #write(upserts: IpcacheEntry[], deletes: string[]): Promise<Map<string, string>> {
    const { directory, peer, clock } = this.#parts;
    const atMs = clock.nowMs();
    // Before the call: the echo may come before the answer.
    for (const entry of upserts) this.#written.set(entry.prefix, { entry, atMs });
    for (const prefix of deletes) this.#written.set(prefix, { entry: undefined, atMs });
    try {
      const refused = await peer.call(
        "announce this node's endpoints",
        () => directory.announce(upserts, deletes),
      );
      for (const prefix of refused.keys()) this.#written.delete(prefix);
      return refused;
    } catch (error) {
      for (const { prefix } of upserts) this.#written.delete(prefix);
      for (const prefix of deletes) this.#written.delete(prefix);
      throw error;
    }
  }
}
