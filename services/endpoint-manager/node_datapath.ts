/**
 * What this node's datapath is told of the node itself and of the other nodes: only what changed.
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { ProblemError } from "@weir/common";
import type { Init } from "@weir/proto";
import type { NodeConfig, RemoteNode } from "@weir/proto/datapath";
import type { Node } from "@weir/proto/identity";
import type { EndpointManagerConfig } from "./config.ts";
import type { NodeRegistration } from "./node_registration.ts";
import type { Peer } from "./peer.ts";
import type { Datapath } from "./sources.ts";

/** The node's own configuration. */
export class NodeConfigurator {
  readonly #config: EndpointManagerConfig;
  readonly #registration: NodeRegistration;
  readonly #datapath: Datapath;
  readonly #peer: Peer;
  #applied: Init<NodeConfig> | undefined;

  constructor(
    parts: { config: EndpointManagerConfig; registration: NodeRegistration; datapath: Datapath; peer: Peer },
  ) {
    this.#config = parts.config;
    this.#registration = parts.registration;
    this.#datapath = parts.datapath;
    this.#peer = parts.peer;
  }

  /** True once the datapath knows what the node is. */
  get configured(): boolean {
    return this.#applied !== undefined;
  }

  /** The datapath is there anew. */
  forget(): void {
    this.#applied = undefined;
  }

  /** Tells the datapath what the node is; true when that was news to it. */
  async apply(): Promise<boolean> {
    const { node, poolV4, poolV6, zone } = this.#registration;
    if (!node) return false;
    const { nodeIpv4, nodeIpv6, heartbeatMs: _, holdMs: _held, ...same } = this.#config;
    const wanted: Init<NodeConfig> = {
      ...same,
      ipv4: nodeIpv4,
      ipv6: nodeIpv6,
      podCidrV4: node.podCidrV4,
      podCidrV6: node.podCidrV6,
      gatewayV4: poolV4?.gateway.text ?? "",
      gatewayV6: poolV6?.gateway.text ?? "",
      zone,
    };
    if (isDeepStrictEqual(wanted, this.#applied)) return false;
    await this.#peer.call("configure the node", () => this.#datapath.putNodeConfig(wanted));
    this.#applied = wanted;
    return true;
  }
}

/** Routes to the other nodes. */
export class RemoteNodes {
  readonly #nodeName: string;
  readonly #datapath: Datapath;
  readonly #peer: Peer;
  readonly #wanted = new Map<string, Init<RemoteNode>>();
  readonly #applied = new Map<string, Init<RemoteNode>>();
  readonly #dirty = new Set<string>();
  #complete = false;

  constructor(parts: { nodeName: string; datapath: Datapath; peer: Peer }) {
    this.#nodeName = parts.nodeName;
    this.#datapath = parts.datapath;
    this.#peer = parts.peer;
  }

  /** True once the datapath was told of every node: only then it may sweep routes. */
  get complete(): boolean {
    return this.#complete;
  }

  /** A node that is there, has changed or is gone. True when there is something to tell. */
  change(name: string, node: Node | undefined): boolean {
    if (name === this.#nodeName) return false;
    if (node) {
      const { ipv4, ipv6, podCidrV4, podCidrV6 } = node;
      const poolCidrs = node.pools.flatMap(({ cidrs }) => cidrs);
      this.#wanted.set(name, { name, ipv4, ipv6, podCidrV4, podCidrV6, poolCidrs });
    } else this.#wanted.delete(name);
    if (isDeepStrictEqual(this.#wanted.get(name), this.#applied.get(name))) {
      return this.#dirty.delete(name), false;
    }
    this.#dirty.add(name);
    return true;
  }

  /** The datapath is there anew. */
  forget(): void {
    this.#applied.clear();
    this.#complete = false;
    for (const name of this.#wanted.keys()) this.#dirty.add(name);
  }

  /**
   * Tells what the datapath lacks; those that are gone only when `all` nodes are known. One that fails does not keep the
   * others from being told. @throws {Error} what the first failed with
   */
  async reconcile(all: boolean): Promise<void> {
    let first: unknown, missed = false;
    for (const name of [...this.#dirty]) {
      const wanted = this.#wanted.get(name);
      if (!wanted && !all) continue;
      this.#dirty.delete(name);
      try {
        if (wanted) await this.#peer.call(`add node ${name}`, () => this.#datapath.putRemoteNode(wanted));
        else await this.#peer.call(`remove node ${name}`, () => this.#datapath.deleteRemoteNode(name));
        if (wanted) this.#applied.set(name, wanted);
        else this.#applied.delete(name);
      } catch (error) {
        this.#dirty.add(name);
        first ??= error;
        // Whom the datapath refuses has no routes to keep.
        missed ||= !(error instanceof ProblemError) || error.status >= 500;
        if (this.#peer.state !== "OK") break;
      }
    }
    if (all && !missed) this.#complete = true;
    if (first) throw first;
  }
}
