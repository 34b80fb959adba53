/**
 * What this node sees of the cluster: nodes, ipcache, CIDR identities. A change goes to whoever it concerns; rows of others
 * that a lost database took along are held (`held_rows.ts`), this node's own are written again at once.
 * @module
 */
import type { Clock, Position } from "@weir/common";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";
import type { Announcer } from "./announcer.ts";
import { HeldRows, type HeldRowsOptions } from "./held_rows.ts";
import type { IdentityOrder } from "./identity_order.ts";
import type { IpcacheJoin } from "./ipcache_join.ts";
import type { RemoteNodes } from "./node_datapath.ts";
import type { NodeRegistration } from "./node_registration.ts";
import type { Peer } from "./peer.ts";
import type { PrefixOrder } from "./prefix_order.ts";
import type { Directory, Mirror, PolicySource } from "./sources.ts";

/** What {@link ClusterMirrors} is made of. */
export interface ClusterMirrorsParts {
  nodeName: string;
  directory: Directory;
  directoryPeer: Peer;
  policy: PolicySource;
  policyPeer: Peer;
  registration: NodeRegistration;
  announcer: Announcer;
  join: IpcacheJoin;
  remoteNodes: RemoteNodes;
  clock: Clock;
  holdMs?: number;
  prefixes: PrefixOrder;
  identities: IdentityOrder;
  /** The join has changed, or everything was received. */
  onJoin: () => void;
  /** Other nodes have changed, or everything was received. */
  onRemoteNodes: () => void;
}

/** Follows and passes on. */
export class ClusterMirrors implements Disposable {
  readonly #parts: ClusterMirrorsParts;
  readonly #nodes: Mirror<Node>;
  readonly #ipcache: Mirror<IpcacheEntry>;
  readonly #cidrs: Mirror<CidrIdentity>;
  readonly #held: Disposable[];

  constructor(parts: ClusterMirrorsParts) {
    this.#parts = parts;
    const { directory, directoryPeer, policy, policyPeer, registration, announcer, join, remoteNodes } =
      parts;
    const { onJoin, onRemoteNodes, nodeName, prefixes, identities } = parts;
    const heldNodes = new HeldRows<Node>({
      ...this.#holding(directoryPeer, "nodes"),
      onChange: (name, node) => {
        join.setNode(name, node);
        if (remoteNodes.change(name, node)) onRemoteNodes();
        onJoin();
      },
      keyOf: ({ ipv4, ipv6 }) => ipv4 || ipv6,
    });
    const heldEntries = new HeldRows<IpcacheEntry>({
      ...this.#holding(directoryPeer, "addresses of other nodes"),
      onChange: (name, entry, previous) => identities.change(name, entry, previous),
      // A number that now stands for other labels must not speak for those that are gone.
      keyOf: ({ identity }) => `${identity}`,
      contradicts: (held, fresh) => held.labels.join() !== fresh.labels.join(),
    });
    this.#held = [heldNodes, heldEntries];
    const onSynced = () => {
      announcer.reconcile();
      onJoin();
      onRemoteNodes();
    };
    this.#nodes = directoryPeer.follow(directory.nodes({
      onChange: (name, value, previous, lost) => {
        registration.change(name, value);
        heldNodes.change(name, value, previous, lost);
      },
      onSynced,
      onPosition: ({ epoch }) => registration.setEpoch(epoch),
    }));
    this.#ipcache = directoryPeer.follow(directory.ipcache({
      onChange: (name, value, previous, lost) => {
        announcer.change(name, value, previous);
        // What this node says of itself is not held: it is known here.
        heldEntries.change(name, value, previous, lost && previous?.node !== nodeName);
      },
      onSynced,
    }));
    announcer.compareWith(this.#ipcache);
    this.#cidrs = policyPeer.follow(policy.cidrs({
      // One that a list of another epoch lacks stays as long as a policy in force knows it.
      onChange: (name, value) => prefixes.change(name, value),
      onSynced: () => {
        prefixes.look();
        onSynced();
      },
      onPosition: onJoin,
    }));
  }

  /** True once every other node is known. */
  get nodesSynced(): boolean {
    return this.#nodes.synced;
  }
  /** True once the join has all of its sources. */
  get synced(): boolean {
    return this.#nodes.synced && this.#ipcache.synced && this.#cidrs.synced;
  }

  /** True once every prefix of policies was received. */
  get prefixesSynced(): boolean {
    return this.#cidrs.synced;
  }

  /** Up to where every prefix of policies is in the kernel; undefined while some are not. */
  get prefixPosition(): Position | undefined {
    return this.#parts.prefixes.isWaiting ? undefined : this.#cidrs.position;
  }

  /** What is missing, for people. */
  waitingFor(): string[] {
    const waits: string[] = [];
    if (!this.#nodes.synced) waits.push("nodes from the identity allocator");
    if (!this.#ipcache.synced) waits.push("the ipcache from the identity allocator");
    if (!this.#cidrs.synced) waits.push("CIDR identities from the policy engine");
    return waits;
  }

  [Symbol.dispose](): void {
    for (const part of [this.#nodes, this.#ipcache, this.#cidrs, ...this.#held]) part[Symbol.dispose]();
  }

  #holding<T>(peer: Peer, what: string): Pick<HeldRowsOptions<T>, "clock" | "graceMs" | "onHeld"> {
    const { clock, holdMs } = this.#parts;
    return {
      clock,
      graceMs: holdMs,
      onHeld: (count, untilMs) =>
        peer.setStale(
          what,
          count === 0
            ? undefined
            : `It lost ${count} ${what}; they stay until ${new Date(untilMs).toISOString()}`,
        ),
    };
  }
}
