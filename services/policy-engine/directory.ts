/**
 * What the cluster's directory says, as the repository's input: identities, and the port names of endpoints.
 * @module
 */
import { type Clock, type Health, type IpAddress, LabelSet, type Logger, Prefix } from "@weir/common";
import { Reflector, type WeirClient } from "@weir/client";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { withImpliedLabels } from "./implied_labels.ts";
import type { PolicyRepository } from "./policy_repository.ts";

/** Options of {@link Directory}. */
export interface DirectoryOptions {
  allocator: WeirClient;
  cluster: string;
  clock: Clock;
  log: Logger;
  health: Health;
  /** Called after each change of the repository. */
  onChange: () => void;
}

/** See the module comment. */
export class Directory {
  readonly #identities: Reflector<Identity>;
  readonly #ipcache: Reflector<IpcacheEntry>;

  constructor(private readonly repository: PolicyRepository, private readonly options: DirectoryOptions) {
    const { allocator, clock, log, health, onChange } = options;
    health.waitFor("identities", `waiting for the identities of ${allocator.address}`);
    health.waitFor("ipcache", `waiting for the ipcache of ${allocator.address}`);
    this.#identities = new Reflector(allocator.collection("identities", Identity), {
      clock,
      log,
      onChange: (name, value) => this.#onIdentity(Number(name), value),
      onSynced: () => {
        health.ok("identities", "in sync");
        onChange();
      },
    });
    this.#ipcache = new Reflector(allocator.collection("ipcache", IpcacheEntry), {
      clock,
      log,
      onChange: (name, value, previous) => this.#onIpcache(name, value, previous),
      onSynced: () => {
        health.ok("ipcache", "in sync");
        onChange();
      },
    });
  }

  get synced(): boolean {
    return this.#identities.synced && this.#ipcache.synced;
  }

  start(): void {
    this.#identities.start();
    this.#ipcache.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#identities.stop(), this.#ipcache.stop()]);
  }

  /** Resolves when both copies are complete. */
  async waitSynced(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#identities.waitSynced(signal), this.#ipcache.waitSynced(signal)]);
  }

  /** The entry of an address of the cluster, or undefined. */
  entryOf(address: IpAddress): IpcacheEntry | undefined {
    return this.#ipcache.get(Prefix.host(address).text);
  }

  #onIdentity(number: number, value: Identity | undefined): void {
    // Reserved identities are the same everywhere; the repository has them.
    if (!Number.isInteger(number) || number < 128) return;
    if (!value) this.repository.removeIdentity(number);
    else {
      const labels = LabelSet.parse(value.labels);
      this.repository.upsertIdentity(number, withImpliedLabels(number, labels, this.options.cluster));
    }
    this.options.onChange();
  }

  #onIpcache(prefix: string, value: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    // Who has no names counts too: a name that others of its identity have does not mean it.
    const identity = value?.identity ?? previous!.identity;
    if (this.repository.setNamedPorts(prefix, identity, value?.namedPorts)) this.options.onChange();
  }
}
