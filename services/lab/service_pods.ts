/**
 * The lab's pods as the load balancer is told of them: where they are, whether they are ready, and that they end. What
 * a kubelet and the endpoint controllers are in a cluster, this is in a lab.
 *
 * A pod is ready for services when its endpoint is, its commands run, and its ports are listened on: those of its
 * readinessProbe for as long as it takes, other container ports for a few seconds at most.
 *
 * @module
 */
import type { Pod as ServicePod } from "@weir/proto/loadbalancer";
import type { ClusterApi } from "./apis.ts";
import type { Pod } from "./pod.ts";

/** How often pods are looked at that are not ready. */
const LOOK_MS = 50;
/** How often pods with a readinessProbe are looked at once they are ready. */
const PROBE_MS = 500;
/** A pod without a readinessProbe counts as ready after this time, whether anybody listens or not. */
const LISTEN_MS_MAX = 5000;
/** How long `lab apply` waits for pods to be used by services. */
const SETTLE_MS_MAX = LISTEN_MS_MAX + 1000;

interface Told {
  /** What the load balancer was told last, JSON. */
  text: string;
  ready: boolean;
  lookedMs: number;
  /** When the endpoint and the commands were first seen to be there. */
  runningMs: number;
}

/** See the module comment. Begins with `start()`. */
export class ServicePods {
  readonly #told = new Map<string, Told>();
  /** Pods that are being deleted: told so already. */
  readonly #ending = new Set<string>();
  /** Pods of which the load balancer still has to learn that they are gone. */
  readonly #gone = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = true;

  constructor(private readonly cluster: ClusterApi, private readonly pods: () => Pod[]) {}

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
    await this.#tell(pod, false).catch(() => {});
  }

  /** Waits until services use these pods, or it is clear that they will not for now. */
  async settle(pods: readonly Pod[]): Promise<void> {
    const deadlineMs = performance.now() + SETTLE_MS_MAX;
    while (performance.now() < deadlineMs) {
      await this.look().catch(() => {});
      if (pods.every((pod) => this.#told.get(pod.name)?.ready || this.#ending.has(pod.name))) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
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
    await this.cluster.putPod({ ...podOf(pod), state: "TERMINATING" }).catch(() => {});
  }

  /** The pod is gone. */
  async forget(name: string): Promise<void> {
    this.#told.delete(name);
    this.#ending.delete(name);
    this.#gone.add(name);
    await this.#tellGone().catch(() => {});
  }

  async #tellGone(): Promise<void> {
    for (const name of this.#gone) {
      await this.cluster.deletePod(name);
      this.#gone.delete(name);
    }
  }

  async #look(): Promise<void> {
    if (this.#gone.size > 0) await this.#tellGone();
    await Promise.all(
      this.pods().map(async (pod) => {
        if (this.#ending.has(pod.name)) return;
        const told = this.#told.get(pod.name);
        const nowMs = performance.now();
        const probed = pod.manifest.readyPorts.length > 0;
        const due = told === undefined || !told.ready || !pod.running ||
          (probed && nowMs - told.lookedMs > PROBE_MS);
        let ready = told?.ready ?? false;
        if (due) {
          if (told) told.lookedMs = nowMs;
          ready = await this.#isReady(pod, told, nowMs);
        }
        await this.#tell(pod, ready);
      }),
    );
  }

  async #isReady(pod: Pod, told: Told | undefined, nowMs: number): Promise<boolean> {
    if (pod.state !== "ready" || !pod.running) {
      if (told) told.runningMs = 0;
      return false;
    }
    if (told && told.runningMs === 0) told.runningMs = nowMs;
    const { readyPorts, containerPorts, commands } = pod.manifest;
    if (commands.length === 0) return true;
    const wanted = readyPorts.length > 0
      ? readyPorts.map((port) => ({ port, protocol: "TCP" }))
      : containerPorts.filter(({ protocol }) => protocol !== "SCTP");
    const open = await listeners(pod.pids);
    if (wanted.every(({ port, protocol }) => open.has(`${port}/${protocol}`))) return true;
    return readyPorts.length === 0 && nowMs - (told?.runningMs ?? nowMs) > LISTEN_MS_MAX;
  }

  async #tell(pod: Pod, ready: boolean): Promise<void> {
    const value = { ...podOf(pod), state: ready ? "ACTIVE" as const : "BACKEND_STATE_UNSPECIFIED" as const };
    const text = JSON.stringify(value);
    const told = this.#told.get(pod.name) ?? { text: "", ready, lookedMs: 0, runningMs: 0 };
    this.#told.set(pod.name, told);
    if (told.text === text || this.#ending.has(pod.name)) return;
    await this.cluster.putPod(value);
    told.text = text;
    told.ready = ready;
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

/** "PORT/PROTOCOL" of every socket that is listened on, or bound, in the namespace of these processes. */
async function listeners(pids: readonly number[]): Promise<Set<string>> {
  const found = new Set<string>();
  const [pid] = pids;
  if (pid === undefined) return found;
  // Sockets of the whole namespace; state 0A is LISTEN, 07 an unconnected UDP socket (include/net/tcp_states.h).
  const kinds = [["tcp", "TCP", "0A"], ["tcp6", "TCP", "0A"], ["udp", "UDP", "07"], ["udp6", "UDP", "07"]];
  await Promise.all(kinds.map(async ([file, protocol, state]) => {
    const text = await Deno.readTextFile(`/proc/${pid}/net/${file}`).catch(() => "");
    for (const line of text.split("\n").slice(1)) {
      const [, local, , is] = line.trim().split(/\s+/);
      if (is === state) found.add(`${parseInt(local.slice(local.lastIndexOf(":") + 1), 16)}/${protocol}`);
    }
  }));
  return found;
}
