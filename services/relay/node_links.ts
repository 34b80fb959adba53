/** All nodes of the cluster, one connection each. @module */
import type { Clock, Logger } from "@weir/common";
import type { Node } from "@weir/proto/identity";
import { NodeLink, type NodeTarget } from "./node_link.ts";

/** A request waits so long for nodes that the relay has not reached before. */
const FIRST_MS = 1500;

/** What the links are made of. */
export interface LinksParts {
  /** How a node is reached. @throws {ProblemError} no way leads there */
  readonly targetOf: (node: Node) => NodeTarget;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Hears of nodes that come, go and change. */
export type LinkListener = (link: NodeLink) => void;

/** Follows the nodes. */
export class NodeLinks {
  readonly #parts: LinksParts;
  readonly #links = new Map<string, { link: NodeLink; node: Node }>();
  readonly #listeners = new Set<LinkListener>();

  constructor(parts: LinksParts) {
    this.#parts = parts;
  }

  /** By name. */
  list(): NodeLink[] {
    return [...this.#links.values()].map(({ link }) => link).sort((a, b) => a.name < b.name ? -1 : 1);
  }

  get connected(): NodeLink[] {
    return this.list().filter(({ state }) => state === "connected");
  }

  /** A node as the cluster knows it now; undefined: it is gone. */
  set(name: string, node: Node | undefined): void {
    const known = this.#links.get(name);
    if (known !== undefined && node !== undefined) {
      const { ipv4, ipv6, cluster } = known.node;
      if (ipv4 === node.ipv4 && ipv6 === node.ipv6 && cluster === node.cluster) return;
    }
    this.#links.delete(name);
    known?.link.close();
    if (node === undefined) return;
    const { clock, log, targetOf } = this.#parts;
    const link = new NodeLink({
      name: node.cluster === "" ? node.name : `${node.cluster}/${node.name}`,
      target: () => targetOf(node),
      onChange: (link) => {
        for (const listener of this.#listeners) listener(link);
      },
      clock,
      log,
    });
    this.#links.set(name, { link, node });
  }

  /** Calls `listener` with each link that changes, until `signal` aborts. */
  follow(listener: LinkListener, signal: AbortSignal): void {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener));
  }

  /** Until every node was reached or missed once, but not long: of a relay that has just started. */
  async settled(signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const look = () => {
      if (this.list().every(({ state }) => state !== "connecting")) over.abort();
    };
    this.follow(look, over.signal);
    look();
    await this.#parts.clock.sleep(FIRST_MS, AbortSignal.any([over.signal, signal]));
    over.abort();
  }

  /** Somebody was removed: looks again at the certificates of those who are connected. */
  recheck(): void {
    for (const { connection } of this.connected) connection?.recheck();
  }

  close(): void {
    for (const name of [...this.#links.keys()]) this.set(name, undefined);
  }
}
