/**
 * ADD: the endpoint of a container, from nothing to READY: its policy in force here, and the cluster knows where it is. What fails
 * leaves nothing behind, and the same container again is the same endpoint again.
 * @module
 */
import type { Clock } from "@weir/common";
import { Turns } from "@weir/common/turns";
import { Endpoint } from "@weir/proto/endpoint";
import type { Attachment } from "./attachment.ts";
import { CniError, toCniError } from "./cni_error.ts";
import type { Described } from "./described.ts";
import { ignoreNotFound, waitForEndpoint } from "./endpoint_waiter.ts";
import type { NetworkConfig } from "./network_config.ts";
import type { CniNode } from "./node.ts";
import { foundDevice } from "./result.ts";

/** How long an endpoint may take to be READY, and the one before it to be gone, milliseconds. */
export const READY_MS_MAX = 45_000, GONE_MS_MAX = 12_000;
/** So often the datapath may refuse to attach it before that is final. */
const ATTEMPTS_MAX = 4;

/** What {@link Attacher} is made of. */
export interface AttacherParts {
  node: CniNode;
  clock: Clock;
}

/** Makes endpoints, one after another of each name. */
export class Attacher {
  readonly #parts: AttacherParts;
  readonly #turns = new Map<string, { turns: Turns; users: number }>();

  constructor(parts: AttacherParts) {
    this.#parts = parts;
  }

  /** The endpoint, READY. @throws {CniError} */
  async attach(
    described: Described,
    attachment: Attachment,
    { config, signal }: { config: NetworkConfig; signal: AbortSignal },
  ): Promise<Endpoint> {
    const wanted = specOf(described, attachment, config);
    return await this.#inTurn(wanted.name, async () => {
      const isThere = await this.#makeRoom(wanted, signal);
      try {
        await this.#parts.node.put(wanted.name, wanted);
        return await this.#waitUntilReady(wanted.name, signal);
      } catch (error) {
        if (!isThere) await this.#takeBack(wanted);
        throw toCniError(error);
      }
    });
  }

  /** Endpoints of other containers at this name or place go. @returns whether the container has its endpoint already */
  async #makeRoom(wanted: Endpoint, signal: AbortSignal): Promise<boolean> {
    const { node } = this.#parts;
    for (const other of node.table.view.list()) {
      const isSame = other.containerId === wanted.containerId &&
        other.containerDevice === wanted.containerDevice;
      const isAtPlace = other.netns !== "" && other.netns === wanted.netns &&
        other.containerDevice === wanted.containerDevice;
      if (other.name !== wanted.name && !isSame && !isAtPlace) continue;
      if (other.name === wanted.name && isSame && isPlacedAt(other, wanted)) {
        if (!isGoing(other)) return true;
      } else if (other.containerId === "") {
        throw new CniError(
          "TRY_AGAIN_LATER",
          `Cannot add endpoint ${wanted.name}: endpoint ${other.name} is there, and no container runtime made it`,
          { details: `weir endpoint delete ${other.name}` },
        );
      }
      await this.#remove(other.name, signal);
    }
    return false;
  }

  async #remove(name: string, signal: AbortSignal): Promise<void> {
    const { node, clock } = this.#parts;
    if (!isGoing(node.table.view.get(name))) await node.beginDelete(name).catch(ignoreNotFound);
    const isGone = (endpoint: Endpoint | undefined) => endpoint === undefined;
    if (await waitForEndpoint(node.table.view, name, isGone, { clock, msMax: GONE_MS_MAX, signal })) return;
    throw new CniError(
      "TRY_AGAIN_LATER",
      `Cannot add endpoint ${name} yet: the one of an older container is being deleted`,
    );
  }

  async #waitUntilReady(name: string, signal: AbortSignal): Promise<Endpoint> {
    const { node, clock } = this.#parts, { view } = node.table;
    const isDone = (endpoint: Endpoint | undefined) =>
      endpoint === undefined || isGoing(endpoint) || endpoint.status?.state === "READY" ||
      (endpoint.status?.error?.attempts ?? 0) >= ATTEMPTS_MAX;
    await waitForEndpoint(view, name, isDone, { clock, msMax: READY_MS_MAX, signal });
    const endpoint = view.get(name);
    if (endpoint?.status?.state === "READY") return endpoint;
    if (signal.aborted) {
      throw new CniError("TRY_AGAIN_LATER", `Cannot add endpoint ${name}: it was deleted meanwhile`);
    }
    throw new CniError(
      "TRY_AGAIN_LATER",
      `Cannot add endpoint ${name}: ${whyNot(endpoint, node.waitingFor())}`,
    );
  }

  /** Nothing stays of what could not be made. */
  async #takeBack({ name, containerId }: Endpoint): Promise<void> {
    const { node } = this.#parts;
    if (node.table.view.get(name)?.containerId !== containerId) return;
    // Its number and address are free when all is gone; the runtime's next try waits for that.
    await node.delete(name).catch(() => {});
  }

  async #inTurn<R>(name: string, work: () => Promise<R>): Promise<R> {
    let entry = this.#turns.get(name);
    if (entry === undefined) this.#turns.set(name, entry = { turns: new Turns(1), users: 0 });
    entry.users++;
    try {
      return await entry.turns.run(work);
    } finally {
      if (--entry.users === 0) this.#turns.delete(name);
    }
  }
}

/** The endpoint to be. Pure. @throws {CniError} of a result of another plugin that names no device */
function specOf(
  described: Described,
  attachment: Attachment,
  { name: cniNetwork, prevResult }: NetworkConfig,
): Endpoint {
  const { containerId, netns, ifname } = attachment;
  const place = prevResult === undefined ? { netns } : deviceOf(foundDevice(prevResult, attachment));
  return Endpoint.create({
    ...described,
    labels: [...described.labels],
    namedPorts: [...described.namedPorts],
    containerDevice: ifname,
    containerId,
    cniNetwork,
    ...place,
  });
}

function deviceOf({ hostDevice, mac, ipv4, ipv6 }: ReturnType<typeof foundDevice>) {
  return { device: hostDevice, mac, ipv4, ipv6 };
}

function isPlacedAt(a: Endpoint, b: Endpoint): boolean {
  return a.netns === b.netns && a.device === b.device;
}

function isGoing(endpoint: Endpoint | undefined): boolean {
  return endpoint?.status?.state === "DISCONNECTING" || endpoint?.status?.state === "DISCONNECTED";
}

function whyNot(endpoint: Endpoint | undefined, waits: readonly string[]): string {
  const { state = "gone", error, conditions = [] } = endpoint?.status ?? {};
  const reasons = [
    error?.error ?? "",
    ...conditions.map(({ message }) => message),
    ...waits.map((what) => `waits for ${what}`),
  ]
    .filter((reason) => reason !== "");
  return [`it is ${state}`, ...reasons].join("; ");
}
