/** A port of loopback that leads to a port of the control plane's pod, through the API server. @module */
import { once } from "node:events";
import type { Socket } from "node:net";
import { errorText } from "@weir/common/log";
import { ApiServerError, type PodPort, type PortSession, RESOURCES } from "@weir/kubernetes/api";
import type { NamedCluster } from "../install/access.ts";
import type { Lead } from "../port_forward.ts";

/** A busy API server, and the kubelet behind it, may take so long. */
const OPEN_MS_MAX = 30_000;
/** Whoever listens there says at once that there is a connection, or nobody does. */
const REFUSED_MS_MAX = 1500;
/** The same trouble is said again after so long. */
const AGAIN_MS = 10_000;
const SELECTOR = "app.kubernetes.io/name=weir,app.kubernetes.io/component=control-plane";

/** Finds the pod of the control plane: another one after an upgrade. @throws {Error} none is ready */
export async function findPlanePod({ client, namespace }: NamedCluster): Promise<string> {
  const { items } = await client.list(RESOURCES.Pod, { namespace, labelSelector: SELECTOR });
  const isTrue = (one: { type: string; status: string }) => one.type === "Ready" && one.status === "True";
  const ready = items.find(({ metadata, status }) =>
    metadata.deletionTimestamp === undefined && (status?.conditions ?? []).some(isTrue)
  );
  if (ready !== undefined) return ready.metadata.name;
  const why = items.length === 0 ? "it is not installed" : "its pod is not ready";
  throw new Error(
    `Cannot reach Weir's control plane in namespace ${namespace} of ${client.server}: ${why}; see weir status --kubernetes`,
  );
}

/** Opens connections to a port of the control plane's pod, whichever that is. */
export class PlanePort {
  #pod: Promise<string> | undefined;

  /** @param port of loopback on the control plane's node */
  constructor(readonly cluster: NamedCluster, readonly port: number) {}

  /** @throws {ApiServerError} @throws {Error} no pod is ready */
  async open(signal?: AbortSignal): Promise<PortSession> {
    try {
      return await this.#openAt(await this.#found(), signal);
    } catch (error) {
      this.lost();
      if (!(error instanceof ApiServerError) || error.code !== "NOT_FOUND") throw error;
      return await this.#openAt(await this.#found(), signal);
    }
  }

  /** The pod is looked for anew. */
  lost(): void {
    this.#pod = undefined;
  }

  /** Whether somebody listens. @throws {ApiServerError} PORT_REFUSED: nobody does */
  async check(): Promise<void> {
    using session = await this.open();
    const reader = session.bytes.getReader();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silent = new Promise<void>((resolve) => void (timer = setTimeout(resolve, REFUSED_MS_MAX)));
    try {
      await Promise.race([reader.read(), silent]);
    } finally {
      clearTimeout(timer);
      reader.releaseLock();
    }
  }

  #found(): Promise<string> {
    this.#pod ??= findPlanePod(this.cluster);
    this.#pod.catch(() => this.lost());
    return this.#pod;
  }

  async #openAt(pod: string, signal: AbortSignal | undefined): Promise<PortSession> {
    const at: PodPort = { namespace: this.cluster.namespace, pod, port: this.port };
    return await this.cluster.client.portForward(at, { deadlineMs: OPEN_MS_MAX, signal });
  }
}

/** Leads connections there. @param say is told what keeps one from it, the same at most every ten seconds */
export function toPlanePort(port: PlanePort, say: (text: string) => void): Lead {
  const told = new Map<string, number>();
  const trouble = (error: unknown) => {
    port.lost();
    const text = errorText(error), nowMs = performance.now();
    if (nowMs - (told.get(text) ?? -Infinity) < AGAIN_MS) return;
    if (told.size > 100) told.clear();
    told.set(text, nowMs);
    say(text);
  };
  return (local) => {
    const stop = new AbortController();
    carry(port, local, stop.signal).catch((error) => {
      if (!stop.signal.aborted) trouble(error);
      local.destroy();
    });
    return { [Symbol.dispose]: () => stop.abort() };
  };
}

async function carry(port: PlanePort, local: Socket, signal: AbortSignal): Promise<void> {
  using session = await port.open(signal);
  signal.addEventListener("abort", () => session.close(), { once: true });
  if (signal.aborted) return;
  const sent = (async () => {
    for await (const bytes of local) await session.write(bytes);
  })();
  // The other direction says what went wrong.
  sent.then(() => session.close(), () => session.close());
  for await (const bytes of session.bytes) {
    if (!local.write(bytes)) await once(local, "drain", { signal });
  }
  local.end(() => local.destroy());
}
