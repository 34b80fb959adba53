/**
 * Keeps the datapath's ipcache equal to the join of what the cluster says, what this node has announced itself, the
 * nodes and the CIDRs of policies; and takes back what the cluster still says of endpoints that are gone.
 * @module
 */
import type { IpcacheUpsert } from "@weir/proto/datapath";
import type { IpcacheEntry, Node } from "@weir/proto/identity";
import type { CidrIdentity } from "@weir/proto/policy";
import type { EndpointManagerConfig } from "./config.ts";
import { announcementOf, type Entry, prefixesOf } from "./entry.ts";
import { diffIpcache, joinIpcache } from "./ipcache_join.ts";
import type { AllocatorPort, DatapathPort, Mirror } from "./ports.ts";

/** The mirrors that the join reads. */
export interface ClusterMirrors {
  nodes: Mirror<Node>;
  ipcache: Mirror<IpcacheEntry>;
  cidrs: Mirror<CidrIdentity>;
}

/** See the module comment. */
export class IpcacheReconciler {
  private applied: Map<string, IpcacheUpsert> | undefined;

  constructor(
    private readonly config: EndpointManagerConfig,
    private readonly allocator: AllocatorPort,
    private readonly datapath: DatapathPort,
  ) {}

  /** True once the datapath has a whole ipcache of this process. */
  get complete(): boolean {
    return this.applied !== undefined;
  }

  /** The datapath is there anew. */
  forget(): void {
    this.applied = undefined;
  }

  /** Makes the datapath's ipcache equal to the join. Does nothing before every mirror is in sync: half a join would remove. */
  async reconcile(mirrors: ClusterMirrors, gateways: string[], entries: Iterable<Entry>): Promise<void> {
    if (!mirrors.nodes.synced || !mirrors.ipcache.synced || !mirrors.cidrs.synced) return;
    const known = new Map<string, IpcacheEntry>();
    for (const entry of mirrors.ipcache.values()) known.set(entry.prefix, entry);
    const held = new Set<string>();
    for (const entry of entries) {
      for (const prefix of prefixesOf(entry)) held.add(prefix);
      // What this node has announced holds before the allocator's echo of it arrives.
      for (const prefix of entry.announced.keys()) {
        known.set(prefix, announcementOf(entry, prefix, this.config));
      }
    }
    const joined = joinIpcache({
      nodeName: this.config.nodeName,
      gateways,
      ipcache: known.values(),
      nodes: mirrors.nodes.values(),
      cidrs: mirrors.cidrs.values(),
    });
    const { upserts, deletes } = diffIpcache(this.applied ?? new Map(), joined);
    if (!this.applied || upserts.length > 0 || deletes.length > 0) {
      await this.datapath.updateIpcache({ upserts, deletes, replace: !this.applied });
      this.applied = joined;
    }
    for (const entry of mirrors.ipcache.values()) {
      // Left by an endpoint that went while nobody heard.
      if (entry.node === this.config.nodeName && !held.has(entry.prefix)) {
        await this.allocator.deleteIpcache(entry.prefix);
      }
    }
  }
}
