/**
 * Pods as the service `kubernetes` describes them: who a container is, before its first packet; and what of a running pod changes.
 * With that service away running pods go on with what they have, and new ones wait.
 *
 *     pods of this node ─┬─ ADD waits for its pod, of the uid that the runtime names
 *                        └─ other labels or ports ─▶ the running endpoint is relabelled
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { type Clock, ProblemError } from "@weir/common";
import { Endpoint } from "@weir/proto/endpoint";
import type { KubernetesPod } from "@weir/proto/kubernetes";
import { readEndpointSpec } from "../endpoint_spec.ts";
import type { Peer } from "../peer.ts";
import type { Kubernetes, Mirror } from "../sources.ts";
import { type Failure, WorkQueue } from "../work_queue.ts";
import { type Attachment, podOf, type PodReference } from "./attachment.ts";
import { CniError } from "./cni_error.ts";
import type { PodDirectory } from "./cni_service.ts";
import type { Described } from "./described.ts";
import type { CniNode } from "./node.ts";

/** How long ADD waits for its pod, milliseconds: the runtime may hear of it before this node does. */
const POD_MS_MAX = 15_000;
/** Of a static pod's mirror at the API server: the uid that the kubelet and the runtime know. */
const MIRROR_UID = "kubernetes.io/config.mirror";

/** What {@link KubernetesPods} are made of. */
export interface KubernetesPodsParts {
  node: CniNode;
  kubernetes: Kubernetes;
  peer: Peer;
  clock: Clock;
  onResult?: (key: string, failure: Failure | undefined) => void;
}

/** Follows this node's pods. */
export class KubernetesPods implements PodDirectory, Disposable {
  readonly #parts: KubernetesPodsParts;
  readonly #mirror: Mirror<KubernetesPod>;
  readonly #queue: WorkQueue;
  readonly #waiting = new Set<() => void>();

  constructor(parts: KubernetesPodsParts) {
    this.#parts = parts;
    const { kubernetes, peer, clock, onResult } = parts;
    this.#queue = new WorkQueue({ clock, work: (name) => this.#relabel(name), onResult });
    this.#mirror = peer.follow(kubernetes.pods({
      onChange: (name) => {
        this.#queue.add(name);
        this.#wake();
      },
      onSynced: () => {
        for (const { name } of parts.node.table.view.list()) this.#queue.add(name);
        this.#wake();
      },
    }));
  }

  waitingFor(): string[] {
    return this.#mirror.synced ? [] : ["pods from the kubernetes service"];
  }

  async describe(attachment: Attachment, signal: AbortSignal): Promise<Described | undefined> {
    const wanted = podOf(attachment);
    return wanted && describe(await this.#find(wanted, signal));
  }

  tell({ namespace, podName: name, podUid: uid }: Described, { message, cause }: CniError): void {
    if (uid === "" || !(cause instanceof ProblemError) || cause.code !== "IPAM_EXHAUSTED") return;
    const { kubernetes, peer, clock, onResult } = this.#parts;
    const reason = "AddressesExhausted";
    peer.call(
      `say that pod ${namespace}/${name} has no address`,
      () => kubernetes.tell({ kind: "Pod", namespace, name, uid, reason, message }),
    ).catch((error) =>
      onResult?.(`event of ${namespace}/${name}`, {
        error,
        attempts: 1,
        sinceMs: clock.nowMs(),
        nextRetryMs: 0,
      })
    );
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
  [Symbol.dispose](): void {
    this.#mirror[Symbol.dispose]();
  }

  async #find(wanted: PodReference, signal: AbortSignal): Promise<KubernetesPod> {
    const { clock } = this.#parts, name = `${wanted.namespace}/${wanted.pod}`;
    const deadlineMs = clock.monotonicMs() + POD_MS_MAX;
    for (;;) {
      const pod = this.#mirror.get(name);
      if (pod !== undefined && isThisPod(pod, wanted.uid)) return pod;
      const leftMs = deadlineMs - clock.monotonicMs();
      if (leftMs <= 0 || signal.aborted) throw this.#unknown(name, wanted.uid, pod);
      await this.#nextChange(leftMs, signal);
    }
  }

  async #nextChange(msMax: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController(), change = Promise.withResolvers<void>();
    this.#waiting.add(change.resolve);
    try {
      await Promise.race([
        change.promise,
        this.#parts.clock.sleep(msMax, AbortSignal.any([signal, over.signal])),
      ]);
    } finally {
      over.abort();
      this.#waiting.delete(change.resolve);
    }
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  #unknown(name: string, uid: string, found: KubernetesPod | undefined): CniError {
    const { synced, error } = this.#mirror;
    const why = !synced || error
      ? `the kubernetes service was not heard${error ? `: ${error.message}` : ""}`
      : found === undefined
      ? "it is no pod of this node"
      : `the one that is known has uid ${found.uid}, not ${uid}`;
    return new CniError("TRY_AGAIN_LATER", `Cannot add pod ${name}: ${why}`);
  }

  /** Labels and ports of a pod that runs. Its end is the runtime's to say. */
  async #relabel(name: string): Promise<void> {
    const { node } = this.#parts;
    const endpoint = node.table.view.get(name), pod = this.#mirror.get(name);
    if (!endpoint || !pod || endpoint.podUid === "" || endpoint.podUid !== pod.uid || isGoing(endpoint)) {
      return;
    }
    const { status: _, ...spec } = endpoint, { labels, namedPorts } = describe(pod);
    const wanted = readEndpointSpec(
      Endpoint.create({ ...spec, labels: [...labels], namedPorts: [...namedPorts] }),
    );
    if (isDeepStrictEqual([wanted.labels, wanted.namedPorts], [spec.labels, spec.namedPorts])) return;
    await node.put(name, wanted);
  }
}

function isThisPod({ uid, annotations }: KubernetesPod, wanted: string): boolean {
  return wanted === "" || uid === wanted || annotations[MIRROR_UID] === wanted;
}

function isGoing({ status }: Endpoint): boolean {
  return status?.state === "DISCONNECTING" || status?.state === "DISCONNECTED";
}

/** Annotations of a pod or its namespace that name the pool of its addresses; those for one family count before that for both. */
const POOL = "ipam.cilium.io/ip-pool",
  POOL_V4 = "ipam.cilium.io/ipv4-pool",
  POOL_V6 = "ipam.cilium.io/ipv6-pool";
/** The pool that everybody has: here, the node's pod CIDRs. */
const POOL_DEFAULT = "default";

function describe({ name, uid, labels, namedPorts, annotations }: KubernetesPod): Described {
  const poolOf = (key: string) => {
    const pool = annotations[key] ?? annotations[POOL] ?? "";
    return pool === POOL_DEFAULT ? "" : pool;
  };
  const slash = name.indexOf("/");
  return {
    name,
    namespace: name.slice(0, slash),
    podName: name.slice(slash + 1),
    podUid: uid,
    labels,
    namedPorts,
    poolV4: poolOf(POOL_V4),
    poolV6: poolOf(POOL_V6),
  };
}
