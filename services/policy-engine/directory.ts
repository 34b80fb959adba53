/**
 * What the cluster's directory says, as the repository's input: identities, and the port names of endpoints. An identity counts as long
 * as the allocator's table has it or an address of the ipcache has it, which says its labels too.
 * @module
 */
import {
  type Clock,
  type Health,
  type IpAddress,
  LabelError,
  LabelSet,
  type Logger,
  type Position,
  Prefix,
  ProblemError,
} from "@weir/common";
import { Reflector, type WeirClient } from "@weir/client";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { AnnouncedIdentities } from "./announced_identities.ts";
import { withImpliedLabels } from "./implied_labels.ts";
import { LostObjects } from "./lost_objects.ts";
import type { PolicyRepository } from "./policy_repository.ts";
import type { ClusterView } from "./policy_selection.ts";

/** Options of {@link Directory}. */
export interface DirectoryOptions {
  allocator: WeirClient;
  cluster: string;
  clock: Clock;
  log: Logger;
  health: Health;
  /** Called after each change of the repository. */
  onChange: () => void;
  /** Called when nodes came or went. */
  onNodes?: () => void;
  /** Called for each object that a lost database took along. */
  onLost?: () => void;
  /** Called when everything up to a position of the allocator was taken in; often. */
  onPosition?: () => void;
  /** Called when a node was removed from the cluster. */
  onRemoved?: (node: string) => void;
}

/** Follows the allocator, and puts what changed into the repository. */
export class Directory {
  readonly #identities: Reflector<Identity>;
  readonly #ipcache: Reflector<IpcacheEntry>;
  readonly #nodes: Reflector<Node>;
  readonly #lostIdentities: LostObjects<number>;
  readonly #lostPorts: LostObjects<string>;
  readonly #announced = new AnnouncedIdentities();
  readonly #repository: PolicyRepository;
  readonly #options: DirectoryOptions;

  constructor(repository: PolicyRepository, options: DirectoryOptions) {
    this.#repository = repository;
    this.#options = options;
    const { allocator, clock, log, health, onChange } = options;
    this.#lostIdentities = new LostObjects(clock);
    this.#lostPorts = new LostObjects(clock);
    health.waitFor("identities", `waiting for the identities of ${allocator.address}`);
    health.waitFor("ipcache", `waiting for the ipcache of ${allocator.address}`);
    this.#identities = new Reflector(allocator.collection("identities", Identity), {
      clock,
      log,
      onChange: (name, value, _, lost) => this.#onIdentity(Number(name), value, lost),
      onPosition: () => options.onPosition?.(),
      onSynced: () => {
        health.ok("identities", "in sync");
        onChange();
      },
    });
    // Policy does not wait for the nodes: only what is in force where does.
    const { onNodes, onRemoved } = options;
    this.#nodes = new Reflector(allocator.collection("nodes", Node), {
      clock,
      log,
      onChange: (name, value, _, lost) => {
        onNodes?.();
        if (value === undefined && !lost) onRemoved?.(name);
      },
      onSynced: onNodes,
    });
    this.#ipcache = new Reflector(allocator.collection("ipcache", IpcacheEntry), {
      clock,
      log,
      onChange: (name, value, previous, lost) => {
        const change = () => this.#onIpcache(name, value, previous);
        if (lost) {
          options.onLost?.();
          return this.#lostPorts.keep(name, change);
        }
        this.#lostPorts.found(name);
        change();
      },
      onSynced: () => {
        health.ok("ipcache", "in sync");
        onChange();
      },
    });
  }

  get synced(): boolean {
    return this.#identities.synced && this.#ipcache.synced;
  }

  /** How far the identities were read. */
  get position(): Position {
    const { epoch, revision } = this.#identities;
    return { epoch, revision };
  }

  /** Whether the allocator's history has a position. Rejects while the allocator does not answer. */
  async holds(position: Position, signal: AbortSignal): Promise<boolean> {
    try {
      const events = this.#options.allocator.collection("identities", Identity).watch({
        ...position,
        signal,
      });
      for await (const _ of events) return true;
    } catch (error) {
      if ((error as ProblemError).code === "REVISION_GONE") return false;
      throw error;
    }
    throw new ProblemError("STREAM_ENDED", { status: 502, detail: "The watch stream ended" });
  }

  start(): void {
    this.#identities.start();
    this.#ipcache.start();
    this.#nodes.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#identities, this.#ipcache, this.#nodes].map((reflector) => reflector.stop()));
    await Promise.all([this.#lostIdentities.stop(), this.#lostPorts.stop()]);
  }

  /** Resolves when both copies are complete. */
  async waitSynced(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#identities.waitSynced(signal), this.#ipcache.waitSynced(signal)]);
  }

  /** Names of the cluster's nodes; undefined while they are not known. */
  nodes(): string[] | undefined {
    return this.#nodes.synced ? this.#nodes.entries().map(([name]) => name) : undefined;
  }

  /** Everything there is, for questions about the whole. */
  view(): ClusterView {
    const values = <T>(entries: readonly (readonly [string, T])[]) => entries.map(([, value]) => value);
    return { endpoints: values(this.#ipcache.entries()), nodes: values(this.#nodes.entries()) };
  }

  /** Addresses that endpoints and nodes with this identity have. */
  prefixesOf(identity: number): Prefix[] {
    const found: Prefix[] = [];
    for (const [, entry] of this.#ipcache.entries()) {
      if (entry.identity !== identity || entry.node === "") continue;
      const prefix = Prefix.tryParse(entry.prefix);
      if (prefix !== undefined) found.push(prefix);
    }
    return found;
  }

  /** The entry of an address of the cluster, or undefined. */
  entryOf(address: IpAddress): IpcacheEntry | undefined {
    return this.#ipcache.get(Prefix.host(address).text);
  }

  /** Identities that the allocator's database has lost, which still count. */
  get lostIdentities(): number {
    return this.#lostIdentities.size;
  }

  #onIdentity(number: number, value: Identity | undefined, lost: boolean): void {
    // Reserved identities are the same everywhere; the repository has them.
    if (!Number.isInteger(number) || number < 128) return;
    if (lost) {
      this.#options.onLost?.();
      return this.#lostIdentities.keep(number, () => this.#forget(number));
    }
    if (!value && this.#announced.has(number)) return;
    this.#lostIdentities.found(number);
    if (value) this.#upsert(number, value.labels);
    else this.#repository.removeIdentity(number);
    this.#options.onChange();
  }

  /** One that cannot be read stays what it was. */
  #upsert(number: number, texts: readonly string[]): void {
    try {
      const labels = LabelSet.parse([...texts]);
      this.#repository.upsertIdentity(number, withImpliedLabels(number, labels, this.#options.cluster));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
      this.#options.log.warn("Cannot read the labels of an identity", { number, error });
    }
  }

  /** The first address with this number. */
  #onBegun(number: number): void {
    const labels = this.#announced.labelsOf(number)!;
    if (this.#identities.get(`${number}`) !== undefined || labels.length === 0) return;
    this.#lostIdentities.found(number);
    this.#upsert(number, labels);
    this.#options.onChange();
  }

  /** The last address with this number is gone; nodes may hear of it later. */
  #onEnded(number: number): void {
    if (this.#identities.get(`${number}`) !== undefined) return;
    this.#lostIdentities.keep(number, () => this.#forget(number));
  }

  #forget(number: number): void {
    if (this.#announced.has(number)) return;
    this.#repository.removeIdentity(number);
    this.#options.onChange();
  }

  #onIpcache(prefix: string, value: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    const { begun, ended } = this.#announced.set(prefix, value);
    if (begun !== undefined) this.#onBegun(begun);
    if (ended !== undefined) this.#onEnded(ended);
    // Who has no names counts too: a name that others of its identity have does not mean it.
    const identity = value?.identity ?? previous!.identity;
    if (this.#repository.setNamedPorts(prefix, identity, value?.namedPorts)) this.#options.onChange();
  }
}
