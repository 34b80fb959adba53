/**
 * Gives the datapath what changed in the join of the ipcache, in batches.
 * @module
 */
import { ProblemError } from "@weir/common";
import { IpcacheJoin, type JoinPlace } from "./ipcache_join.ts";
import { BULK_DEADLINE_MS, type Peer } from "./peer.ts";
import type { Datapath } from "./sources.ts";

/** Prefixes in one update. */
export const BATCH_PREFIXES_MAX = 10_000;

/** What {@link IpcacheReconciler} is made of. */
export interface IpcacheReconcilerParts {
  place: JoinPlace;
  datapath: Datapath;
  peer: Peer;
  /** Which process of the datapath is told; undefined before it was heard. */
  process: () => string | undefined;
}

/** Keeps the datapath's ipcache equal to the join. */
export class IpcacheReconciler {
  readonly join: IpcacheJoin;
  readonly #parts: IpcacheReconcilerParts;
  #replaced = false;
  #telling = false;
  #left: ReadonlySet<string> | undefined = new Set();
  /** Grows when the datapath is there anew: what was sent before means nothing then. */
  #generation = 0;

  constructor(parts: IpcacheReconcilerParts) {
    this.#parts = parts;
    this.join = new IpcacheJoin(parts.place);
  }

  /** True once the datapath has a whole ipcache of this process. */
  get complete(): boolean {
    return this.#replaced;
  }

  /** True while the datapath has everything that the join has. */
  get isTold(): boolean {
    return this.#replaced && !this.join.dirty && !this.#telling;
  }

  /** True while the datapath has every address of a name that the join has. */
  get areNamesTold(): boolean {
    return !this.#telling && (this.#replaced ? !this.join.dirty : !this.join.areNamesDirty);
  }

  /** Prefixes of policies that found no room; undefined: some did not, and which ones is not known. */
  get left(): ReadonlySet<string> | undefined {
    return this.#left;
  }

  /** The datapath is there anew. */
  forget(): void {
    this.#replaced = false;
    this.join.namesAgain();
    this.#generation++;
  }

  /**
   * Tells the datapath what it lacks. The first time everything, which removes what is not named: to be called when every
   * source is in sync.
   */
  async reconcile(): Promise<void> {
    this.#telling = true;
    try {
      await this.#tell();
    } finally {
      this.#telling = false;
    }
  }

  /**
   * Tells the datapath addresses of names alone, before every source is in sync: names go on being learnt without the control plane.
   * What the datapath has of pods and nodes at these addresses stays.
   */
  async tellNames(): Promise<void> {
    const { datapath, peer, process } = this.#parts;
    if (this.#replaced) return;
    this.#telling = true;
    try {
      while (this.join.areNamesDirty) {
        const batch = this.join.takeNames(BATCH_PREFIXES_MAX);
        try {
          const left = await peer.call(
            "tell the ipcache of names",
            () => datapath.updateIpcache({ ...batch, replace: false, ofPolicies: true, process: process() }),
          );
          this.#left = left && new Set(left);
        } catch (error) {
          this.join.namesAgain(batch);
          throw error;
        }
      }
    } finally {
      this.#telling = false;
    }
  }

  async #tell(): Promise<void> {
    const { datapath, peer, process } = this.#parts;
    while (!this.#replaced) {
      const generation = this.#generation;
      const upserts = this.join.takeAll();
      let left: readonly string[] | undefined;
      try {
        left = await peer.call(
          "replace the ipcache",
          () => datapath.updateIpcache({ upserts, deletes: [], replace: true, process: process() }),
          BULK_DEADLINE_MS,
        );
      } catch (error) {
        this.join.namesAgain();
        throw error;
      }
      this.#left = left && new Set(left);
      if (generation === this.#generation) this.#replaced = true;
    }
    while (this.join.dirty) {
      const batch = this.join.take(BATCH_PREFIXES_MAX);
      if (batch.upserts.length + batch.deletes.length === 0) continue;
      try {
        const left = await peer.call(
          "update the ipcache",
          () => datapath.updateIpcache({ ...batch, replace: false, process: process() }),
        );
        this.#left = left && new Set(left);
      } catch (error) {
        // What of it was done is not known: everything is told, which is the same whatever is there.
        if (!(error instanceof ProblemError) || error.status >= 500) {
          this.#replaced = false;
          this.join.namesAgain(batch);
        } else this.join.again(batch);
        throw error;
      }
    }
  }
}
