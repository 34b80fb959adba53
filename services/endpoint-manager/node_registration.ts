/**
 * This node in the cluster's directory: written, compared with what the directory shows, and kept alive by a heartbeat;
 * and the address pools that it was given.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "@weir/common";
import type { Node } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";
import { PodAddresses } from "./ipam.ts";
import type { NodeStore } from "./node_file.ts";
import type { Peer } from "./peer.ts";
import type { Directory, HeartbeatAnswer } from "./sources.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** How often a node says that it is alive, milliseconds. */
export const HEARTBEAT_MS = 10_000;
const ZONE_LABEL = "topology.kubernetes.io/zone";
const REGISTER = "node", HEARTBEAT = "heartbeat";

/** The zone that a node's labels name, whatever source they come from; `""` if none does. */
export function zoneOf(labels: readonly string[]): string {
  for (const label of labels) {
    const [key, zone = ""] = label.split("=");
    if (key.slice(key.indexOf(":") + 1) === ZONE_LABEL) return zone;
  }
  return "";
}

/** What {@link NodeRegistration} is made of. */
export interface NodeRegistrationParts {
  config: EndpointManagerConfig;
  directory: Directory;
  peer: Peer;
  store: NodeStore;
  clock: Clock;
  /** What the node is has changed, or is known for the first time. */
  onNode: () => void;
  /** The directory knows the node. `forgotten`: it did not, or its tables are others: it may have forgotten more. */
  onRegistered: (forgotten: boolean) => void;
  onHeartbeat: (answer: HeartbeatAnswer) => void;
  onResult: (key: string, failure: Failure | undefined) => void;
}

/** Registers and keeps alive, in a queue of its own. */
export class NodeRegistration {
  /** What the cluster gave this node, as last heard or kept; undefined: nothing yet. */
  node: Node | undefined;
  poolV4: PodAddresses | undefined;
  poolV6: PodAddresses | undefined;
  readonly #parts: NodeRegistrationParts;
  readonly #queue: WorkQueue;
  readonly #stop = new AbortController();
  /** The directory knows this node, as far as is known here. */
  registered = false;
  #forgotten = false;
  #epoch = "";

  constructor(parts: NodeRegistrationParts) {
    this.#parts = parts;
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (key) => key === REGISTER ? this.#register() : this.#beat(),
      onResult: parts.onResult,
    });
  }

  /** Takes up what was kept, registers, and begins to beat. */
  async start(): Promise<void> {
    const kept = await this.#parts.store.load();
    if (kept?.name === this.#parts.config.nodeName) this.#take(kept);
    this.#queue.add(REGISTER);
    void this.#beats();
  }

  /** Router addresses that the endpoints use. */
  get gateways(): string[] {
    return [this.poolV4, this.poolV6].filter((p) => p !== undefined).map((p) => p.gateway.text);
  }

  /** The zone that this node is in, `""` if nobody said. */
  get zone(): string {
    return this.#parts.config.zone || zoneOf(this.node?.labels ?? []);
  }

  /** What the directory shows of the nodes: this one as somebody else has it is written again. */
  change(name: string, value: Node | undefined): void {
    if (name !== this.#parts.config.nodeName || !this.registered) return;
    if (!value) this.#registerAnew();
    else if (this.node && !this.#isOurs(value)) this.#queue.suggest(REGISTER);
    else if (!isDeepStrictEqual(value.labels, this.node?.labels)) {
      // Labels may be another's to give, e.g. the zone.
      this.node = value;
      this.#parts.onNode();
    }
  }

  /** The directory's tables are of this epoch. Another one than before: it may have forgotten the node. */
  setEpoch(epoch: string): void {
    const before = this.#epoch;
    this.#epoch = epoch;
    if (before !== "" && epoch !== before) this.#registerAnew();
  }

  failure(): Failure | undefined {
    return this.#queue.failureOf(REGISTER);
  }
  async idle(): Promise<void> {
    await this.#queue.idle();
  }
  get isIdle(): boolean {
    return this.#queue.isIdle;
  }
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#queue.stop();
  }

  async #beats(): Promise<void> {
    const { clock, config } = this.#parts;
    const { heartbeatMs = HEARTBEAT_MS, nodeName } = config;
    const { signal } = this.#stop;
    // Nodes that start together do not beat together.
    let waitMs = phaseOf(nodeName) * heartbeatMs;
    while (!signal.aborted) {
      await clock.sleep(waitMs, signal);
      if (!signal.aborted) this.#queue.add(HEARTBEAT);
      waitMs = heartbeatMs;
    }
  }

  async #beat(): Promise<void> {
    if (!this.registered) return void this.#queue.suggest(REGISTER);
    const { directory, peer } = this.#parts;
    const answer = await peer.call("say that this node is alive", () => directory.heartbeat());
    this.setEpoch(answer.epoch);
    // First the node, then what it holds.
    if (!answer.known) return this.#registerAnew();
    this.#parts.onHeartbeat(answer);
  }

  #registerAnew(): void {
    this.#forgotten = true;
    this.registered = false;
    this.#queue.suggest(REGISTER);
  }

  async #register(): Promise<void> {
    const { directory, peer, config, store } = this.#parts;
    const { nodeName: name, nodeIpv4: ipv4, nodeIpv6: ipv6, cluster, zone } = config;
    const { podCidrV4 = "", podCidrV6 = "" } = this.node ?? {};
    // No labels: the node keeps those that it has there.
    const labels = zone === "" ? [] : [`${ZONE_LABEL}=${zone}`];
    const node = await peer.call(
      "register this node",
      () => directory.putNode({ name, ipv4, ipv6, cluster, labels, podCidrV4, podCidrV6 }),
    );
    const before = this.node;
    this.#take(node);
    this.registered = true;
    const forgotten = this.#forgotten;
    this.#forgotten = false;
    this.#parts.onRegistered(forgotten);
    if (!before || !isDeepStrictEqual(withoutHeartbeat(before), withoutHeartbeat(node))) {
      await store.save(node);
    }
  }

  #take(node: Node): void {
    const before = this.node;
    this.node = node;
    if (node.podCidrV4 !== "") this.poolV4 ??= new PodAddresses(node.podCidrV4);
    if (node.podCidrV6 !== "") this.poolV6 ??= new PodAddresses(node.podCidrV6);
    if (!before || !isDeepStrictEqual(withoutHeartbeat(before), withoutHeartbeat(node))) this.#parts.onNode();
  }

  /** True when the directory shows what it has answered; labels may be another's to give. */
  #isOurs(value: Node): boolean {
    const { node } = this;
    return node !== undefined && value.state !== "NODE_DEAD" && value.ipv4 === node.ipv4 &&
      value.ipv6 === node.ipv6 &&
      value.cluster === node.cluster && value.podCidrV4 === node.podCidrV4 &&
      value.podCidrV6 === node.podCidrV6;
  }
}

/** A part of 0 to 1 that is a name's own (FNV-1a). */
function phaseOf(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0) / 2 ** 32;
}

function withoutHeartbeat(node: Node): Partial<Node> {
  const { heartbeatUnixS: _, state: _state, stateSinceUnixS: _since, ...rest } = node;
  return rest;
}
