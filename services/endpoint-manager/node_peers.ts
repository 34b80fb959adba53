/**
 * The processes that a node needs, with what follows from each that does not answer.
 * @module
 */
import type { Clock } from "@weir/common";
import type { PeerStatus } from "@weir/proto/endpoint";
import { Peer } from "./peer.ts";
import { effectOf, type PeerName } from "./peer_effects.ts";

/** Loading programs for a first endpoint takes the datapath longer than a common call, milliseconds. */
const DATAPATH_DEADLINE_MS = 20_000;
/** The L7 proxy only takes what it is given; endpoints wait for it, milliseconds. */
const PROXY_DEADLINE_MS = 3_000;

/** What {@link NodePeers} are made of. */
export interface NodePeersParts {
  nodeName: string;
  /** Where they are, for people. */
  addresses?: Partial<Record<PeerName, string>>;
  /** Whether services come from somewhere. */
  hasServices: boolean;
  /** Whether Kubernetes describes pods. */
  hasKubernetes: boolean;
  /** Whether an L7 proxy runs here. */
  hasProxy: boolean;
  /** Newest policy revision in force here; 0: not known. */
  policyRevision: () => number;
  clock: Clock;
}

/** One of each. */
export class NodePeers {
  readonly directory: Peer;
  readonly policy: Peer;
  readonly datapath: Peer;
  /** Absent: this node serves no services. */
  readonly services: Peer | undefined;
  /** Absent: no Kubernetes describes this node's pods. */
  readonly kubernetes: Peer | undefined;
  /** Absent: no L7 proxy runs here. */
  readonly proxy: Peer | undefined;
  readonly #parts: NodePeersParts;

  constructor(parts: NodePeersParts) {
    this.#parts = parts;
    this.directory = this.#peer("identity-allocator");
    this.policy = this.#peer("policy-engine");
    this.services = parts.hasServices ? this.#peer("load-balancer") : undefined;
    this.kubernetes = parts.hasKubernetes ? this.#peer("kubernetes") : undefined;
    this.datapath = this.#peer("datapath", DATAPATH_DEADLINE_MS);
    this.proxy = parts.hasProxy ? this.#peer("l7-proxy", PROXY_DEADLINE_MS) : undefined;
  }

  /** For people. To be asked now and then, so that "since" is when it happened. */
  status(): PeerStatus[] {
    return [this.directory, this.policy, this.services, this.kubernetes, this.datapath, this.proxy]
      .filter((peer) => peer !== undefined).map((peer) => peer.status());
  }

  #peer(name: PeerName, deadlineMs?: number): Peer {
    const { addresses, clock, nodeName, policyRevision } = this.#parts;
    return new Peer({
      name,
      address: addresses?.[name],
      clock,
      deadlineMs,
      effect: (situation) => effectOf(name, { ...situation, nodeName, policyRevision: policyRevision() }),
    });
  }
}
