/**
 * The commands of CNI on this node.
 *
 *     ADD ─▶ queue played back ─▶ who is it (Kubernetes, or its runtime) ─▶ endpoint READY ─▶ result
 *     DEL ─▶ the container's endpoint goes; an older container's DEL finds nothing
 *
 * @module
 */
import type { Clock } from "@weir/common";
import { Turns } from "@weir/common/turns";
import { CniAnswer, type CniRequest, type Endpoint } from "@weir/proto/endpoint";
import { type Attachment, readAttachment } from "./attachment.ts";
import { Attacher } from "./attacher.ts";
import { CniError, cniErrorText, toCniError } from "./cni_error.ts";
import { containerSpec } from "./container_spec.ts";
import { DeletionQueue } from "./deletion_queue.ts";
import type { Described } from "./described.ts";
import { ignoreNotFound, waitForEndpoint } from "./endpoint_waiter.ts";
import { type NetworkConfig, readNetworkConfig, versionOf } from "./network_config.ts";
import type { CniNode } from "./node.ts";
import { addressesIn, resultOf } from "./result.ts";
import { has } from "./versions.ts";

/** How long ADD waits for the node to be able to, milliseconds. */
const NODE_MS_MAX = 20_000, LOOK_MS = 100;
/** How often the queue is looked at: one that nobody answered as this process came up. */
const QUEUE_MS = 5_000;
/** How long DEL waits for the kernel, milliseconds. */
const KERNEL_MS_MAX = 10_000;
/** Deletions of GC at once. */
const GC_AT_ONCE = 8;

/** Who describes pods, where that is not their runtime. */
export interface PodDirectory {
  /** Undefined: no pod of Kubernetes. Waits a while for one that is not known yet. @throws {CniError} */
  describe(attachment: Attachment, signal: AbortSignal): Promise<Described | undefined>;
  /** What keeps it from knowing pods, for people. */
  waitingFor(): string[];
  /** Says beside the pod why it has no network; nobody waits for that. */
  tell(described: Described, error: CniError): void;
}

/** What {@link CniService} is made of. */
export interface CniServiceParts {
  node: CniNode;
  clock: Clock;
  /** Directory of the queue of deletions. */
  deletions: string;
  /** Absent: whatever a runtime says of a container is true. */
  pods?: PodDirectory;
  log: (message: string, fields?: Record<string, unknown>) => void;
}

type Command = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS";

/** Does what runtimes ask. */
export class CniService {
  readonly #parts: CniServiceParts;
  readonly #attacher: Attacher;
  readonly #queue: DeletionQueue;
  /** ADDs that run, by container: a DEL ends them. */
  readonly #adding = new Map<string, Set<AbortController>>();

  constructor(parts: CniServiceParts) {
    this.#parts = parts;
    this.#attacher = new Attacher(parts);
    this.#queue = new DeletionQueue({
      ...parts,
      directory: parts.deletions,
      handle: (request) => this.#begin(request),
    });
  }

  /** Plays back what waits, and looks again now and then, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts;
    while (!signal.aborted) {
      const played = await this.#queue.play().catch((error) => {
        log("Cannot read the queue of deletions", { error: error.message });
        return 0;
      });
      if (played > 0) log("Deletions that were queued are played back", { count: played });
      await clock.sleep(QUEUE_MS, signal);
    }
  }

  /** Answers one request. Never rejects: failures are answers. */
  async handle(command: Command, request: CniRequest): Promise<CniAnswer> {
    try {
      return CniAnswer.create({ exitCode: 0, output: await this.#do(command, request) });
    } catch (error) {
      const failure = toCniError(error);
      // A node that is not ready is asked again and again.
      if (command !== "STATUS") {
        const { containerId: container, pluginVersion: plugin } = request;
        this.#parts.log("CNI request failed", {
          command,
          container,
          plugin,
          code: failure.number,
          error: failure.message,
        });
      }
      return CniAnswer.create({ exitCode: 1, output: cniErrorText(versionOf(request.config), failure) });
    }
  }

  async #do(command: Command, request: CniRequest): Promise<string> {
    const config = readNetworkConfig(request.config);
    if (!has(config.cniVersion, command)) {
      throw new CniError(
        "INCOMPATIBLE_VERSION",
        `Cannot ${command}: CNI ${config.cniVersion} does not have it`,
      );
    }
    switch (command) {
      case "ADD":
        return await this.#add(readAttachment(request, true), config);
      case "DEL":
        await this.#delete(readAttachment(request, false));
        return "";
      case "CHECK":
        this.#check(readAttachment(request, true), config);
        return "";
      case "GC":
        await this.#collect(config);
        return "";
      case "STATUS":
        this.#assertAvailable();
        return "";
    }
  }

  async #add(attachment: Attachment, config: NetworkConfig): Promise<string> {
    const { node, pods } = this.#parts;
    // What was to be deleted before this is deleted before this, and does not end this.
    await this.#queue.play();
    const stop = new AbortController(), { signal } = stop;
    const running = this.#adding.get(attachment.containerId) ?? new Set();
    this.#adding.set(attachment.containerId, running.add(stop));
    try {
      await this.#waitForNode(signal);
      const described = await pods?.describe(attachment, signal) ?? containerSpec(attachment, config);
      const endpoint = await this.#attacher.attach(described, attachment, { config, signal }).catch(
        (error) => {
          if (error instanceof CniError) pods?.tell(described, error);
          throw error;
        },
      );
      const result = config.prevResult === undefined
        ? resultOf(endpoint, node.gateways, config)
        : { ...config.prevResult, cniVersion: config.cniVersion };
      return `${JSON.stringify(result)}\n`;
    } finally {
      running.delete(stop);
      if (running.size === 0) this.#adding.delete(attachment.containerId);
    }
  }

  async #delete({ containerId, ifname }: Pick<Attachment, "containerId" | "ifname">): Promise<void> {
    this.#endAdding(containerId);
    const gone = this.#endpointsOf(containerId, ifname).map(async ({ name }) => {
      await this.#parts.node.beginDelete(name).catch(ignoreNotFound);
      await this.#waitForKernel(name);
    });
    await Promise.all(gone);
  }

  /** Whether or not it comes in time: what was begun goes on by itself, through a restart too. The cluster may hear of it later. */
  async #waitForKernel(name: string): Promise<void> {
    const hasLetGo = (endpoint: Endpoint | undefined) =>
      (endpoint?.status?.state ?? "DISCONNECTED") === "DISCONNECTED";
    const { node: { table: { view } }, clock } = this.#parts, { signal } = new AbortController();
    await waitForEndpoint(view, name, hasLetGo, { clock, msMax: KERNEL_MS_MAX, signal });
  }

  /** A deletion of the queue: begun for good, not waited for. */
  async #begin({ containerId, ifname }: CniRequest): Promise<void> {
    this.#endAdding(containerId);
    for (const { name } of this.#endpointsOf(containerId, ifname)) {
      await this.#parts.node.beginDelete(name).catch(ignoreNotFound);
    }
  }

  #check({ containerId, ifname }: Attachment, { prevResult }: NetworkConfig): void {
    const { node } = this.#parts;
    const [endpoint] = this.#endpointsOf(containerId, ifname);
    if (endpoint === undefined) {
      throw new CniError(
        "UNKNOWN_CONTAINER",
        `Cannot check container ${containerId}: it has no endpoint at ${ifname}`,
      );
    }
    const { name, status } = endpoint, kernel = node.inKernel(name);
    const wrong = (why: string) =>
      new CniError("NOT_AS_ADDED", `Endpoint ${name} is not as it was added: ${why}`);
    if (status?.state !== "READY") {
      throw wrong(`it is ${status?.state}${status?.error ? `: ${status.error.error}` : ""}`);
    }
    if (kernel?.status?.ready !== true) throw wrong("the datapath does not have it");
    const has = [status.ipv4, status.ipv6];
    const lacking = addressesIn(prevResult ?? {}).filter((address) => !has.includes(address));
    if (prevResult !== undefined && lacking.length > 0) {
      throw wrong(`it does not have ${lacking.join(" and ")}`);
    }
  }

  async #collect({ name: network, validAttachments }: NetworkConfig): Promise<void> {
    if (validAttachments === undefined) {
      throw new CniError(
        "INVALID_NETWORK_CONFIG",
        "Cannot collect garbage: cni.dev/valid-attachments is missing",
      );
    }
    const valid = new Set(validAttachments.map(({ containerId, ifname }) => `${containerId}/${ifname}`));
    const gone = this.#parts.node.table.view.list().filter(({ containerId, containerDevice, cniNetwork }) =>
      containerId !== "" && cniNetwork === network && !valid.has(`${containerId}/${containerDevice}`) &&
      !this.#adding.has(containerId)
    );
    const turns = new Turns(GC_AT_ONCE);
    const ended = await Promise.allSettled(
      gone.map(({ containerId, containerDevice }) =>
        turns.run(() => this.#delete({ containerId, ifname: containerDevice }))
      ),
    );
    for (const one of ended) if (one.status === "rejected") throw one.reason;
    if (gone.length > 0) {
      this.#parts.log("Endpoints that no container has are deleted", { count: gone.length, network });
    }
  }

  #assertAvailable(): void {
    const waits = this.#waitingFor();
    if (waits.length === 0) return;
    throw new CniError(
      "NOT_AVAILABLE",
      `Weir cannot add pods on this node yet: it waits for ${waits.join(", ")}`,
    );
  }

  async #waitForNode(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const deadlineMs = clock.monotonicMs() + NODE_MS_MAX;
    for (;;) {
      const waits = this.#waitingFor();
      if (waits.length === 0) return;
      if (signal.aborted || clock.monotonicMs() >= deadlineMs) {
        throw new CniError(
          "TRY_AGAIN_LATER",
          `Cannot add pods on this node yet: it waits for ${waits.join(", ")}`,
        );
      }
      await clock.sleep(LOOK_MS, signal);
    }
  }

  #waitingFor(): string[] {
    const { node, pods } = this.#parts;
    return [...node.waitingFor(), ...pods?.waitingFor() ?? []];
  }

  #endAdding(containerId: string): void {
    for (const stop of this.#adding.get(containerId) ?? []) stop.abort();
  }

  /** Of one container; without a device all of them. */
  #endpointsOf(containerId: string, ifname: string): Endpoint[] {
    return this.#parts.node.table.view.list().filter((endpoint) =>
      endpoint.containerId === containerId && (ifname === "" || endpoint.containerDevice === ifname)
    );
  }
}
