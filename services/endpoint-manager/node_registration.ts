/**
 * This node in the cluster's directory: written, compared with what the directory shows, and kept alive by a heartbeat;
 * and the address pools that it was given.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { type Clock, IpAddress, Prefix, ProblemError } from "@weir/common";
import type { Node } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";
import { PodAddresses } from "./ipam.ts";
import { PodPools } from "./pod_pools.ts";
import type { PodCidrPair } from "./kubernetes_node.ts";
import type { NodeStore } from "./node_file.ts";
import type { Peer } from "./peer.ts";
import type { Directory, HeartbeatAnswer } from "./sources.ts";
import { type Failure, WorkQueue } from "./work_queue.ts";

/** How often a node says that it is alive, milliseconds. */
export const HEARTBEAT_MS = 10_000;
const ZONE_LABEL = "topology.kubernetes.io/zone";
/** Longest wait for the directory's answer, milliseconds. */
const ASKED_MS_MAX = 5_000;
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
  /** Who gives the pod CIDRs, where not the directory does; undefined: it has not said yet. */
  podCidrs?: () => PodCidrPair | undefined;
  /** What Kubernetes says of the node's place; `""` and none: nothing. */
  kubernetesZone?: () => string;
  kubernetesLabels?: () => string[];
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
  /** Named pools, beside the node's pod CIDRs. */
  readonly pools: PodPools;
  readonly #parts: NodeRegistrationParts;
  readonly #queue: WorkQueue;
  readonly #stop = new AbortController();
  /** The directory knows this node, as far as is known here. */
  registered = false;
  #lastGiven: string[] = [];
  #writing = Promise.resolve();
  #forgotten = false;
  #epoch = "";

  constructor(parts: NodeRegistrationParts) {
    this.#parts = parts;
    this.pools = new PodPools({ clock: parts.clock, onNeed: () => this.#queue.suggest(REGISTER) });
    this.#queue = new WorkQueue({
      clock: parts.clock,
      work: (key) => key === REGISTER ? this.#register() : this.#beat(),
      onResult: parts.onResult,
    });
  }

  /** Takes up what was kept, registers, and begins to beat. */
  async start(): Promise<void> {
    const kept = await this.#parts.store.load();
    this.#lastGiven = await this.#parts.store.loadLastGiven();
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
    return this.#ownZone || zoneOf(this.node?.labels ?? []);
  }

  /** "key=value", whatever source they come from: those of the directory, and those that Kubernetes gives. */
  get labels(): string[] {
    return [...this.node?.labels ?? [], ...this.#parts.kubernetesLabels?.() ?? []];
  }

  /** "key=value": what is said on this node and by Kubernetes, whatever the directory says; that may be lost. */
  get hostLabels(): string[] {
    return [...this.#parts.config.nodeLabels ?? [], ...this.#parts.kubernetesLabels?.() ?? []];
  }

  /** The zone that is said on this node, or by Kubernetes. */
  get #ownZone(): string {
    return this.#parts.config.zone || (this.#parts.kubernetesZone?.() ?? "");
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

  /** Who gives the pod CIDRs, the zone or the labels has said something. */
  reconsider(): void {
    const given = this.#parts.podCidrs?.();
    const hasZone = this.#ownZone === "" || this.#ownZone === zoneOf(this.node?.labels ?? []);
    const isNew = given !== undefined && !(this.registered && hasCidrs(this.node, given));
    const told = new Set(this.node?.labels);
    const hasLabels = this.hostLabels.every((label) => told.has(label));
    if (isNew || (this.registered && !(hasZone && hasLabels))) this.#queue.add(REGISTER);
    if (this.node !== undefined) this.#parts.onNode();
  }

  /** Resolves when the directory has answered what it is being asked, or after a while. */
  async asked(): Promise<void> {
    const over = new AbortController();
    await Promise.race([
      this.#queue.idle(),
      this.#parts.clock.sleep(ASKED_MS_MAX, AbortSignal.any([over.signal, this.#stop.signal])),
    ]);
    over.abort();
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
    await this.#writing;
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
    if (this.pools.isDue) this.#queue.suggest(REGISTER);
    this.#parts.onHeartbeat(answer);
  }

  #registerAnew(): void {
    this.#forgotten = true;
    this.registered = false;
    this.#queue.suggest(REGISTER);
  }

  async #register(): Promise<void> {
    const { directory, peer, config, store } = this.#parts;
    const { nodeName: name, nodeIpv4: ipv4, nodeIpv6: ipv6, cluster } = config;
    const zone = this.#ownZone;
    const cidrs = this.#wantedCidrs();
    // No labels: the node keeps those that it has there.
    const labels = [...new Set([...zone === "" ? [] : [`${ZONE_LABEL}=${zone}`], ...this.hostLabels])];
    const requestedPools = this.pools.requests(), releasedCidrs = this.pools.release();
    const pools = (this.node?.pools ?? []).map((pool) => ({ ...pool, error: "" }));
    let answer: Node;
    try {
      answer = await peer.call(
        "register this node",
        () =>
          directory.putNode({
            ...{ name, ipv4, ipv6, cluster, labels, requestedPools, pools, releasedCidrs },
            ...cidrs,
          }),
      );
    } catch (error) {
      // An answer that was lost may have given them away: they are asked for again, and nothing is taken from them meanwhile.
      if (error instanceof ProblemError) this.pools.keep();
      throw error;
    }
    // The directory fills a family in that Kubernetes does not have.
    const node = this.#parts.podCidrs === undefined ? answer : { ...answer, ...cidrs };
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

  /** Pod CIDRs to ask for; "": the directory gives free ones. @throws {Error} nobody has said which */
  #wantedCidrs(): PodCidrPair {
    const { podCidrs } = this.#parts;
    const given = podCidrs?.();
    if (given !== undefined) return given;
    if (podCidrs !== undefined && this.node === undefined) {
      throw new Error("Cannot register this node: Kubernetes has given it no pod CIDR (Node.spec.podCIDRs)");
    }
    const { podCidrV4 = "", podCidrV6 = "" } = this.node ?? {};
    return { podCidrV4, podCidrV6 };
  }

  #take(node: Node): void {
    const before = this.node;
    this.node = node;
    this.poolV4 = this.#poolOf(this.poolV4, node.podCidrV4);
    this.poolV6 = this.#poolOf(this.poolV6, node.podCidrV6);
    this.pools.take(node.pools);
    if (!before || !isDeepStrictEqual(withoutHeartbeat(before), withoutHeartbeat(node))) this.#parts.onNode();
  }

  /** The pool stays while the node runs, unless Kubernetes gives another one: endpoints keep the addresses that they have. */
  #poolOf(pool: PodAddresses | undefined, cidr: string): PodAddresses | undefined {
    const stays = pool !== undefined && (this.#parts.podCidrs === undefined || pool.prefix.text === cidr);
    if (stays || cidr === "") return pool;
    const prefix = Prefix.parse(cidr);
    const last = this.#lastGiven.find((text) => prefix.contains(IpAddress.parse(text)));
    return new PodAddresses(cidr, last);
  }

  /** Keeps which addresses were given last: the next process goes on after them, so that one that was freed now rests. */
  keepLastGiven(): void {
    const last = [this.poolV4, this.poolV6].map((pool) => pool?.lastGiven ?? "").filter((text) =>
      text !== ""
    );
    if (String(last) === String(this.#lastGiven)) return;
    this.#lastGiven = last;
    this.#writing = this.#writing.then(() => this.#parts.store.saveLastGiven(last));
  }

  /** True when the directory shows what it has answered; labels may be another's to give. */
  #isOurs(value: Node): boolean {
    const { node } = this;
    return node !== undefined && value.state !== "NODE_DEAD" && value.ipv4 === node.ipv4 &&
      value.ipv6 === node.ipv6 &&
      value.cluster === node.cluster && hasCidrs(value, node) && hasBlocks(value, node);
  }
}

/** Whether a node has what is wanted of each family. */
function hasCidrs(node: Node | undefined, { podCidrV4, podCidrV6 }: PodCidrPair): boolean {
  return node !== undefined && (podCidrV4 === "" || node.podCidrV4 === podCidrV4) &&
    (podCidrV6 === "" || node.podCidrV6 === podCidrV6);
}

/** Whether a node has every block of the other. */
function hasBlocks(node: Node, { pools }: Node): boolean {
  const has = new Set(node.pools.flatMap(({ cidrs }) => cidrs));
  return pools.every(({ cidrs }) => cidrs.every((cidr) => has.has(cidr)));
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
