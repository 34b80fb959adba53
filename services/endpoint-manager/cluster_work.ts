/**
 * What of the cluster the datapath is told: the ipcache, the other nodes, the services. Each has a queue of its own.
 * @module
 */
import type { Clock } from "@weir/common";
import type { IpcacheReconciler } from "./ipcache_reconciler.ts";
import type { RemoteNodes } from "./node_datapath.ts";
import type { ServiceReconciler } from "./service_reconciler.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** Key of the ipcache's work. */
export const IPCACHE = "ipcache";
const REMOTE_NODES = "other nodes", SERVICES = "services";
const SERVICES_FAILED = "services that failed";

/** What {@link ClusterWork} is made of. */
export interface ClusterWorkParts {
  ipcache: IpcacheReconciler;
  remoteNodes: RemoteNodes;
  services: ServiceReconciler;
  clock: Clock;
  /** Whether everything that the ipcache is joined from was received: half of it would remove. */
  isJoinWhole: () => boolean;
  /** Whether what an earlier process left in the datapath is known. */
  isFound: () => boolean;
  /** Whether every other node is known. */
  areNodesKnown: () => boolean;
  /** Whether the datapath knows what this node is: NodePorts need the node's addresses. */
  isConfigured: () => boolean;
  /** The datapath has what it lacked. */
  onTold: () => void;
  /** It has the addresses of names that it lacked. */
  onNamesTold: () => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Tells, in three queues. */
export class ClusterWork {
  readonly #parts: ClusterWorkParts;
  readonly #ipcache: WorkQueue;
  readonly #remoteNodes: WorkQueue;
  readonly #services: WorkQueue;

  constructor(parts: ClusterWorkParts) {
    this.#parts = parts;
    const { clock, onResult } = parts;
    const queue = (work: (key: string) => Promise<void>) => new WorkQueue({ clock, work, onResult });
    this.#ipcache = queue(() => this.#tellIpcache());
    this.#remoteNodes = queue(() => this.#tellRemoteNodes());
    this.#services = queue((key) => key === SERVICES ? this.#tellServices() : parts.services.retryFailed());
  }

  /** `isUrgent`: also where that was just tried in vain. */
  tellIpcache(isUrgent = false): void {
    if (isUrgent) this.#ipcache.add(IPCACHE);
    else this.#ipcache.suggest(IPCACHE);
  }
  tellRemoteNodes(): void {
    this.#remoteNodes.suggest(REMOTE_NODES);
  }
  tellServices(): void {
    this.#services.add(SERVICES);
  }

  /** The datapath is there anew: everything is told. */
  forgetApplied(): void {
    this.#parts.ipcache.forget();
    this.#parts.remoteNodes.forget();
    this.#parts.services.forget();
    this.#ipcache.add(IPCACHE);
    this.#remoteNodes.add(REMOTE_NODES);
    this.#services.add(SERVICES);
  }

  /** True once the datapath has all of it. */
  get complete(): boolean {
    const { ipcache, remoteNodes, services } = this.#parts;
    return ipcache.complete && remoteNodes.complete && services.complete;
  }

  /** What the datapath could not be told, the first of them. */
  failure(): Failure | undefined {
    return this.#ipcache.failureOf(IPCACHE) ?? this.#remoteNodes.failureOf(REMOTE_NODES) ??
      this.#services.failureOf(SERVICES);
  }

  /** Its queues, to be waited for and stopped. */
  get queues(): WorkQueue[] {
    return [this.#ipcache, this.#remoteNodes, this.#services];
  }

  async #tellIpcache(): Promise<void> {
    const { ipcache, isJoinWhole, isFound, onTold, onNamesTold } = this.#parts;
    if (isJoinWhole()) {
      await ipcache.reconcile();
      onTold();
    } else if (isFound() && ipcache.join.areNamesDirty) {
      await ipcache.tellNames();
      onNamesTold();
    }
  }

  async #tellRemoteNodes(): Promise<void> {
    const { remoteNodes, areNodesKnown, onTold } = this.#parts;
    try {
      await remoteNodes.reconcile(areNodesKnown());
    } finally {
      onTold();
    }
  }

  async #tellServices(): Promise<void> {
    const { services, isConfigured, onTold } = this.#parts;
    if (!isConfigured()) return;
    const frontends = await services.reconcile();
    // One that failed may find room where a frontend went.
    if (services.failures > 0 && (frontends || !this.#services.failureOf(SERVICES_FAILED))) {
      this.#services.add(SERVICES_FAILED);
    }
    onTold();
  }
}
