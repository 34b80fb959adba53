/**
 * The lab's pods as the load balancer is told of them: where they are, whether they are ready, and that they end. What
 * a kubelet and the endpoint controllers are in a cluster, this is in a lab.
 *
 * A pod is ready for services when its endpoint is, its commands run, and its ports are listened on: those of its
 * readinessProbe for as long as it takes, other container ports for a few seconds at most.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Pod as ServicePod } from "@weir/proto/loadbalancer";
import type { ClusterApi } from "./apis.ts";
import { listenersOf } from "./listeners.ts";
import type { Pod } from "./pod.ts";

/** How often pods are looked at that are not ready. */
const LOOK_MS = 50;
/** How often pods with a readinessProbe are looked at once they are ready. */
const PROBE_MS = 500;
/** A pod without a readinessProbe counts as ready after this time, whether anybody listens or not. */
const LISTEN_MS_MAX = 5000;
/** How long `lab apply` waits for pods to be used by services. */
const SETTLE_MS_MAX = LISTEN_MS_MAX + 1000;

/** Whether a pod takes connections. */
interface Readiness {
  readonly ready: boolean;
  /** Why it does not; "" where it does. */
  readonly message: string;
}

interface Told {
  /** What the load balancer was told last, JSON. */
  text: string;
  readiness: Readiness;
  lookedMs: number;
  /** When the endpoint and the commands were first seen to be there. */
  runningMs: number;
}

/** The lab's pods as the load balancer is told of them. Begins with `start()`. */
export class ServicePods {
  readonly #told = new Map<string, Told>();
  /** Pods that are being deleted: told so already. */
  readonly #ending = new Set<string>();
  /** Pods of which the load balancer still has to learn that they are gone. */
  readonly #gone = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = true;
  readonly #cluster: ClusterApi;
  readonly #pods: () => Pod[];

  constructor(cluster: ClusterApi, pods: () => Pod[]) {
    this.#cluster = cluster;
    this.#pods = pods;
  }

  /** Begins to look by itself. */
  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    const next = () => {
      if (this.#stopped) return;
      this.#timer = setTimeout(() => this.look().catch(() => {}).then(next), LOOK_MS);
    };
    next();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** A new pod: known, and not ready, before its address is anywhere. A load balancer that is away learns it later. */
  async announce(pod: Pod): Promise<void> {
    this.#gone.delete(pod.name);
    await this.#tell(pod, { ready: false, message: "it is being created" }).catch(() => {});
  }

  /** Waits until services use these pods, or it is clear that they will not for now. */
  async settle(pods: readonly Pod[]): Promise<void> {
    const deadlineMs = performance.now() + SETTLE_MS_MAX;
    while (performance.now() < deadlineMs) {
      await this.look().catch(() => {});
      if (pods.every((pod) => this.#told.get(pod.name)?.readiness.ready || this.#ending.has(pod.name))) {
        return;
      }
      await delay(LOOK_MS);
    }
  }

  /** Looks at every pod once and tells what changed. */
  look(): Promise<void> {
    const next = this.#looking.then(() => this.#look());
    this.#looking = next.catch(() => {});
    return next;
  }

  /** The pod ends: it gets no new connections. Resolves when the load balancer has published it, or is away. */
  async end(pod: Pod): Promise<void> {
    this.#ending.add(pod.name);
    await this.#looking;
    await this.#cluster.putPod({ ...podOf(pod), state: "TERMINATING" }).catch(() => {});
  }

  /** The pod is gone. */
  async forget(name: string): Promise<void> {
    this.#told.delete(name);
    this.#ending.delete(name);
    this.#gone.add(name);
    await this.#tellGone().catch(() => {});
  }

  async #tellGone(): Promise<void> {
    for (const name of [...this.#gone]) {
      // Taken first: two who tell at once would say it twice.
      if (!this.#gone.delete(name)) continue;
      try {
        await this.#cluster.deletePod(name);
      } catch (error) {
        if (!this.#told.has(name)) this.#gone.add(name);
        throw error;
      }
    }
  }

  async #look(): Promise<void> {
    if (this.#gone.size > 0) await this.#tellGone();
    await Promise.all(
      this.#pods().map(async (pod) => {
        if (this.#ending.has(pod.name)) return;
        const told = this.#told.get(pod.name);
        const nowMs = performance.now();
        const probed = pod.manifest.readyPorts.length > 0;
        const due = told === undefined || !told.readiness.ready || !pod.running ||
          (probed && nowMs - told.lookedMs > PROBE_MS);
        let readiness = told?.readiness;
        if (due || readiness === undefined) {
          if (told) told.lookedMs = nowMs;
          readiness = await this.#readiness(pod, told, nowMs);
        }
        await this.#tell(pod, readiness);
      }),
    );
  }

  async #readiness(pod: Pod, told: Told | undefined, nowMs: number): Promise<Readiness> {
    if (pod.state !== "ready" || !pod.running) {
      if (told) told.runningMs = 0;
      const message = pod.state === "ready" ? "its process ended" : pod.message || `it is ${pod.state}`;
      return { ready: false, message };
    }
    if (told && told.runningMs === 0) told.runningMs = nowMs;
    const { readyPorts, containerPorts, commands } = pod.manifest;
    if (commands.length === 0) return { ready: true, message: "" };
    const wanted = readyPorts.length > 0
      ? readyPorts.map((port) => ({ port, protocol: "TCP" }))
      : containerPorts.filter(({ protocol }) => protocol !== "SCTP");
    const open = await listenersOf(pod.pids);
    const missing = wanted.map((port) => open.missing(port)).find((message) => message !== "") ?? "";
    if (missing === "") return { ready: true, message: "" };
    const ready = readyPorts.length === 0 && nowMs - (told?.runningMs ?? nowMs) > LISTEN_MS_MAX;
    return { ready, message: readyPorts.length > 0 ? `its readinessProbe fails: ${missing}` : missing };
  }

  async #tell(pod: Pod, readiness: Readiness): Promise<void> {
    const { ready, message } = readiness;
    const state = ready ? "ACTIVE" as const : "BACKEND_STATE_UNSPECIFIED" as const;
    const value = { ...podOf(pod), state, message };
    const text = JSON.stringify(value);
    const told = this.#told.get(pod.name) ?? { text: "", readiness, lookedMs: 0, runningMs: 0 };
    this.#told.set(pod.name, told);
    if (told.text === text || this.#ending.has(pod.name)) return;
    await this.#cluster.putPod(value);
    told.text = text;
    told.readiness = readiness;
  }
}

function podOf(pod: Pod): Partial<ServicePod> & { name: string } {
  const { manifest, ipv4, ipv6 } = pod;
  return {
    name: pod.name,
    namespace: manifest.namespace,
    labels: { ...manifest.labels },
    addresses: [ipv4, ipv6].filter((address) => address !== ""),
    node: pod.around.node,
    // What listens on the node needs no way in from there.
    ports: manifest.containerPorts.map((port) => manifest.hostNetwork ? { ...port, hostPort: 0 } : port),
  };
}
