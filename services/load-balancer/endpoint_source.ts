/**
 * Endpoints as sources of backends: the cluster's ipcache names every endpoint that is ready, with its node, labels and
 * port names. An endpoint that selectors mean is a backend without anybody putting a pod.
 *
 * The labels are those of its identity, so a selector on a label that is not security-relevant does not find it; a pod
 * that is put with all its labels counts before the endpoint of its name.
 * @module
 */
import { type Clock, type Health, type Logger, parseLabel, Prefix } from "@weir/common";
import { Reflector, type WeirClient } from "@weir/client";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { Pod } from "@weir/proto/loadbalancer";

/** Kubernetes' label of a node's zone. */
const LABEL_ZONE = "topology.kubernetes.io/zone";
/** Namespace of workloads that have none. */
const NAMESPACE_IMPLIED = "default";

/** Options of {@link EndpointSource}. */
export interface EndpointSourceOptions {
  identityAllocator: WeirClient;
  clock: Clock;
  log: Logger;
  health: Health;
  /** A pod appeared, changed or (undefined) went. */
  onPod: (name: string, pod: Pod | undefined) => void;
  onZone: (node: string, zone: string) => void;
  /** Everything there is was told once. */
  onSynced: () => void;
}

/** Endpoints as sources of backends. */
export class EndpointSource {
  readonly #ipcache: Reflector<IpcacheEntry>;
  readonly #nodes: Reflector<Node>;
  /** Pod -> its prefixes with their entries. */
  readonly #pods = new Map<string, Map<string, IpcacheEntry>>();
  readonly #options: EndpointSourceOptions;

  constructor(options: EndpointSourceOptions) {
    this.#options = options;
    const { identityAllocator, clock, log, health } = options;
    health.waitFor("endpoints", `waiting for the endpoints of ${identityAllocator.address}`);
    this.#ipcache = new Reflector(identityAllocator.collection("ipcache", IpcacheEntry), {
      clock,
      log,
      onChange: (prefix, value, previous) => this.#onEntry(prefix, value, previous),
      onSynced: () => {
        health.ok("endpoints", "in sync");
        options.onSynced();
      },
    });
    this.#nodes = new Reflector(identityAllocator.collection("nodes", Node), {
      clock,
      log,
      onChange: (name, node) => options.onZone(name, zoneOf(node)),
    });
  }

  start(): void {
    this.#ipcache.start();
    this.#nodes.start();
  }
  async stop(): Promise<void> {
    await Promise.all([this.#ipcache.stop(), this.#nodes.stop()]);
  }
  get synced(): boolean {
    return this.#ipcache.synced;
  }

  /** Resolves when the ipcache was seen whole, or `signal` aborts. */
  waitSynced(signal: AbortSignal): Promise<void> {
    return this.#ipcache.waitSynced(signal);
  }

  #onEntry(prefix: string, value: IpcacheEntry | undefined, previous: IpcacheEntry | undefined): void {
    const before = previous && podName(previous), after = value && podName(value);
    if (before !== undefined && before !== after) this.#update(before, prefix, undefined);
    if (after !== undefined) this.#update(after, prefix, value);
  }

  #update(name: string, prefix: string, entry: IpcacheEntry | undefined): void {
    const entries = this.#pods.get(name) ?? new Map<string, IpcacheEntry>();
    if (entry) entries.set(prefix, entry);
    else entries.delete(prefix);
    if (entries.size === 0) this.#pods.delete(name);
    else this.#pods.set(name, entries);
    this.#options.onPod(name, entries.size === 0 ? undefined : podOf(name, [...entries.values()]));
  }
}

/** "NAMESPACE/NAME" of an entry's endpoint; undefined for prefixes that are no workload's. */
function podName(entry: IpcacheEntry): string | undefined {
  if (entry.endpoint === "" || entry.node === "") return undefined;
  if (!Prefix.tryParse(entry.prefix)?.isHost) return undefined;
  return `${entry.namespace || NAMESPACE_IMPLIED}/${entry.podName || entry.endpoint}`;
}

function podOf(name: string, entries: IpcacheEntry[]): Pod {
  const [entry] = entries;
  const labels: Record<string, string> = {};
  for (const text of entry.labels) {
    const { key, value } = parseLabel(text);
    labels[key] = value;
  }
  return Pod.create({
    name,
    namespace: name.slice(0, name.indexOf("/")),
    labels,
    addresses: entries.map((one) => one.prefix.slice(0, one.prefix.indexOf("/"))).sort(),
    node: entry.node,
    ports: entry.namedPorts.map((port) => ({ ...port, hostPort: 0, hostIp: "" })),
    state: "ACTIVE",
  });
}

function zoneOf(node: Node | undefined): string {
  for (const text of node?.labels ?? []) {
    const { key, value } = parseLabel(text);
    if (key === LABEL_ZONE) return value;
  }
  return "";
}
