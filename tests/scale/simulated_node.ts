/**
 * One node as the services see it: it registers, asks for identities, announces its pods' prefixes, follows nodes, ipcache,
 * map states and CIDR identities, acknowledges policies and says that it lives. What cannot be done is tried again, for ever.
 * @module
 */
import { Reflector, WeirClient } from "@weir/client";
import { Backoff } from "@weir/common";
import {
  AllocateRequest,
  AllocateResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
} from "@weir/proto/identity";
import { NodePolicy } from "@weir/proto/policy";
import { repeatMsOf } from "../../services/endpoint-manager/policy_acknowledger.ts";
import { FollowedWatch, type Watched } from "./followed_watch.ts";
import type { WorkerLoad } from "./worker_messages.ts";

/** As a real node waits before it looks whether policies are in force, milliseconds. */
const LOOK_MS = 20;

/** What the nodes of one worker share. */
export interface NodeSurroundings {
  load: WorkerLoad;
  allocator: WeirClient;
  engine: WeirClient;
  /** Identities by label set, where nodes share them. */
  numbers: Map<number, Promise<number>>;
  failed: (what: string, error: unknown) => void;
  cut: (why: string) => void;
}

/** One simulated node. */
export class SimulatedNode {
  readonly name: string;
  /** Acknowledgements that were sent. */
  acknowledgements = 0;
  readonly #index: number;
  readonly #around: NodeSurroundings;
  #addresses: FollowedWatch[] = [];
  #policies: FollowedWatch[] = [];
  #mirror: Reflector<IpcacheEntry> | undefined;
  #endpoints = 0;
  #acknowledged = "";
  /** When it is said again. */
  #nextMs = 0;
  #newestPolicyRevision = 0;
  #isTelling = false;

  constructor(index: number, around: NodeSurroundings) {
    this.name = `node-${index}`;
    this.#index = index;
    this.#around = around;
  }

  /** Begins; resolves when it was told of all that there is. */
  async begin(isMirror: boolean): Promise<void> {
    const { load, numbers } = this.#around, isAnnouncing = this.#index < load.announcing;
    const own = isAnnouncing
      ? await this.#retried("begin", () => this.#announce())
      : new Set((await Promise.all([...numbers.values()].slice(0, 10))).map(String));
    this.#endpoints = own.size;
    this.#followPolicies([...own]);
    await this.#followAddresses(isMirror);
    // Each node has its own moment for heartbeats.
    if (isAnnouncing) setTimeout(() => this.#beat(), this.#index * 7919 % load.heartbeatMs);
  }

  /** What it has of the ipcache: "count sum", or "not synced". */
  get ipcache(): string {
    if (this.#mirror !== undefined) return this.#mirror.synced ? `mirror ${this.#mirror.size}` : "not synced";
    const counted = this.#counted;
    return counted?.isSynced ? `${counted.puts - counted.deletes} ${counted.sum}` : "not synced";
  }

  /** Newest revision of the ipcache that it was told; 0: not all that there was. */
  get revision(): number {
    if (this.#mirror !== undefined) return this.#mirror.synced ? this.#mirror.revision : 0;
    const counted = this.#counted;
    return counted?.isSynced ? counted.revision : 0;
  }

  get taken(): { bytes: number; reads: number; reopened: number } {
    const taken = { bytes: 0, reads: 0, reopened: 0 };
    for (const watch of [...this.#addresses, ...this.#policies]) {
      const { bytes, reads, opened } = watch.taken;
      taken.bytes += bytes;
      taken.reads += reads;
      taken.reopened += Math.max(0, opened - 1);
    }
    return taken;
  }

  get #counted() {
    return this.#addresses.at(-1)?.counted("ipcache");
  }

  async #retried<T>(what: string, action: () => Promise<T>): Promise<T> {
    const backoff = new Backoff({ delayMsMin: 100, delayMsMax: 5000, jitter: 0.7 });
    while (true) {
      try {
        return await action();
      } catch (error) {
        this.#around.failed(what, error);
        await new Promise((resolve) => setTimeout(resolve, backoff.nextMs()));
      }
    }
  }

  async #beat(): Promise<void> {
    const { allocator, load, failed } = this.#around;
    await allocator.call("/v1/nodes:heartbeat", {
      request: { message: HeartbeatRequest, value: { node: this.name } },
      response: HeartbeatResponse,
    }).catch((error) => failed("heartbeat", error));
    setTimeout(() => this.#beat(), load.heartbeatMs);
  }

  /** Registers, gives its pods identities and announces them; answers the identities. Repeatable. */
  async #announce(): Promise<Set<string>> {
    const { load, allocator, numbers } = this.#around, { name } = this, index = this.#index;
    const ipv4 = `172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
    const node = await allocator.collection("nodes", Node).put(name, { name, ipv4 });
    const base = node.podCidrV4.split("/")[0].split(".").slice(0, 3).join(".");
    const upserts = [];
    const own = new Set<string>();
    for (let pod = index, k = 2; pod < load.pods; pod += load.announcing, k++) {
      const set = (Math.imul(pod + 1, 2_654_435_761) + load.seed >>> 0) % load.labelSets;
      const labels = [`k8s:app=a${set}`, "k8s:io.kubernetes.pod.namespace=default"];
      const allocate = () =>
        this.#retried("allocate", async () => {
          const { identity } = await allocator.call("/v1/identities:allocate", {
            request: { message: AllocateRequest, value: { labels, node: name, holder: `default/p${pod}` } },
            response: AllocateResponse,
          });
          return identity!.number;
        });
      if (load.allocatesEach || !numbers.has(set)) numbers.set(set, allocate());
      const number = await numbers.get(set)!;
      own.add(String(number));
      upserts.push({
        prefix: `${base}.${k}/32`,
        identity: number,
        node: name,
        nodeIpv4: ipv4,
        endpoint: `default/p${pod}`,
      });
    }
    const { refused } = await allocator.call("/v1/ipcache:update", {
      request: { message: IpcacheBatch, value: { node: name, upserts } },
      response: IpcacheBatchResponse,
    });
    for (const { code } of refused) throw new Error(`ipcache refused: ${code}`);
    return own;
  }

  /** Nodes and ipcache, until it has been told of all that there is. */
  async #followAddresses(isMirror: boolean): Promise<void> {
    const { load } = this.#around;
    if (isMirror) return this.#mirrorAddresses();
    const synced = Promise.withResolvers<void>();
    this.#addresses = this.#follow(load.allocator, [{ collection: "nodes" }, { collection: "ipcache" }], {
      onSynced: (collection) => collection === "ipcache" && synced.resolve(),
      cut: "allocator",
    });
    await synced.promise;
  }

  /** The same, kept whole by the product's client. */
  async #mirrorAddresses(): Promise<void> {
    const { load, cut } = this.#around;
    const client = new WeirClient({ socket: load.allocator }, { joint: load.isJoint });
    const onState = (error: unknown) =>
      error !== undefined && cut(`mirror: ${(error as { code: string }).code}`);
    new Reflector(client.collection("nodes", Node), { onState }).start();
    this.#mirror = new Reflector(client.collection("ipcache", IpcacheEntry), { onState }).start();
    await this.#mirror.waitSynced();
  }

  /** Map states of its identities and CIDR identities; acknowledges what both are complete up to. */
  #followPolicies(own: readonly string[]): void {
    const { load } = this.#around;
    let isDue = false;
    const onSynced = () => {
      if (isDue) return;
      isDue = true;
      setTimeout(() => {
        isDue = false;
        void this.#acknowledge();
      }, LOOK_MS);
    };
    const watched = [{ collection: "mapstates", names: own }, { collection: "cidridentities" }];
    this.#policies = this.#follow(load.engine, watched, { onSynced, cut: "engine" });
  }

  /** Says what is in force: when it is news, and again after a while. */
  async #acknowledge(): Promise<void> {
    const counted = (collection: string) =>
      this.#policies.map((watch) => watch.counted(collection)).find((one) => one !== undefined);
    const states = counted("mapstates"), cidrs = counted("cidridentities");
    if (!states?.isSynced || !cidrs?.isSynced || states.epoch !== cidrs.epoch || this.#isTelling) return;
    const { epoch } = states, revision = Math.min(states.revision, cidrs.revision);
    const position = `${epoch} ${revision}`;
    if (position === this.#acknowledged && performance.now() < this.#nextMs) return;
    const { engine } = this.#around, node = this.name;
    this.#isTelling = true;
    this.acknowledgements++;
    const { policyRevision, repeatS } = await this.#retried(
      "acknowledge",
      () =>
        engine.collection("nodepolicies", NodePolicy).put(node, {
          node,
          epoch,
          revision,
          endpoints: this.#endpoints,
          newestPolicyRevision: this.#newestPolicyRevision,
        }),
    );
    this.#isTelling = false;
    this.#newestPolicyRevision = Math.max(this.#newestPolicyRevision, policyRevision);
    this.#acknowledged = position;
    const repeatMs = repeatMsOf(repeatS);
    this.#nextMs = performance.now() + repeatMs;
    setTimeout(() => void this.#acknowledge(), repeatMs);
    // Something may have come meanwhile.
    void this.#acknowledge();
  }

  /** One watch for all, or one for each. */
  #follow(
    socket: string,
    watched: readonly Watched[],
    options: { onSynced: (collection: string) => void; cut: string },
  ): FollowedWatch[] {
    const { load, cut } = this.#around;
    const more = {
      socket,
      onSynced: options.onSynced,
      onCut: (why: string) => cut(`${options.cut}: ${why}`),
    };
    if (load.isJoint) return [new FollowedWatch({ ...more, watched })];
    return watched.map((one) => new FollowedWatch({ ...more, watched: [one], isApart: true }));
  }
}
