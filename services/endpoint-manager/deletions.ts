/**
 * The end of an endpoint: written down first, so that it goes on after a crash; then the kernel, the cluster and the disk
 * let go of it in this order, and only then its number and addresses are free.
 *
 *     DELETE ─▶ marked on disk ─▶ datapath ─▶ ipcache, identity ─▶ file ─▶ number, addresses
 *                                    └ DELETE answers
 *
 * @module
 */
import { type Clock, notFound, ProblemError } from "@weir/common";
import type { Announcer } from "./announcer.ts";
import type { EndpointStore } from "./endpoint_store.ts";
import type { EndpointTable } from "./endpoint_table.ts";
import type { IdentityReconciler } from "./identity_reconciler.ts";
import type { Deletion, Workload } from "./workload.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** How long a DELETE waits for the kernel, and after that for the cluster, milliseconds. */
const KERNEL_MS = 10_000, CLUSTER_MS = 2_000;

/** What {@link Deletions} is made of. */
export interface DeletionsParts {
  table: EndpointTable;
  store: EndpointStore;
  announcer: Announcer;
  identities: IdentityReconciler;
  clock: Clock;
  /** The datapath must be told. */
  onBegun: (workload: Workload) => void;
  /** Nothing is left of it but its number and addresses. */
  onGone: (workload: Workload) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Begins and ends deletions; the cluster's part in a queue of its own. */
export class Deletions {
  readonly #parts: DeletionsParts;
  readonly #queue: WorkQueue;

  constructor(parts: DeletionsParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (name) => this.#withdraw(name),
      onResult: parts.onResult,
    });
  }

  /**
   * Deletes, and waits until the kernel has let go of it.
   * @throws {ProblemError} NOT_FOUND, ENDPOINT_STORE_FAILED, DELETE_PENDING: the datapath has not answered yet
   */
  async delete(name: string): Promise<void> {
    const { kernel, whole } = await this.mark(name);
    if (!await this.#within(KERNEL_MS, kernel.promise)) {
      throw new ProblemError("DELETE_PENDING", {
        status: 504,
        detail: `Cannot say yet that endpoint ${name} is deleted: the datapath did not answer`,
        action: "It goes on and survives a restart; GET /v1/peers says what is wrong with the datapath",
      });
    }
    await this.#within(CLUSTER_MS, whole.promise);
  }

  /** Notes it on the disk and begins: from here on it goes on whatever happens. Repeatable. @throws {ProblemError} NOT_FOUND, ENDPOINT_STORE_FAILED */
  async mark(name: string): Promise<Deletion> {
    const workload = this.#parts.table.get(name);
    if (!workload) throw notFound("endpoints", name);
    if (!workload.deleting) {
      await this.#parts.store.markDeleting(name);
      this.begin(workload);
    }
    return workload.deleting!;
  }

  /** Begins one that is marked on disk. Repeatable. */
  begin(workload: Workload): void {
    workload.deleting ??= {
      kernel: Promise.withResolvers(),
      whole: Promise.withResolvers(),
      kernelGone: false,
    };
    this.#parts.table.setState(workload, "DISCONNECTING");
    this.#parts.onBegun(workload);
  }

  /** The kernel has let go of it. */
  goOn(workload: Workload): void {
    this.#parts.table.setState(workload, "DISCONNECTED");
    this.#queue.add(workload.spec.name);
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

  async #withdraw(name: string): Promise<void> {
    const { table, announcer, identities, store, onGone } = this.#parts;
    const workload = table.get(name);
    if (!workload?.deleting?.kernelGone) return;
    await announcer.withdraw(workload);
    await identities.release(name);
    await store.remove(name);
    onGone(workload);
    workload.deleting.whole.resolve();
  }

  /** True when it came in time. */
  async #within(ms: number, what: Promise<void>): Promise<boolean> {
    const stop = new AbortController();
    const late = this.#parts.clock.sleep(ms, stop.signal).then(() => false);
    const inTime = await Promise.race([what.then(() => true), late]);
    stop.abort();
    return inTime;
  }
}
