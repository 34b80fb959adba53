/** Pods and nodes as nodes are told of them. @module */
import { IpAddress, podLabels, WatchedTable } from "@weir/common";
import { type HostPort, KubernetesNode, type KubernetesPod } from "@weir/proto/kubernetes";
import type { NamedPort } from "@weir/proto/identity";
import type { KubernetesObject } from "../api/object.ts";
import { sameValue } from "../api/same_value.ts";

/** Annotations that mean something to Weir, of pods, namespaces and nodes; the mirror of a static pod names the uid that its node has. */
const ANNOTATIONS =
  /^((weir\.io|ipam\.cilium\.io|policy\.cilium\.io|bandwidth\.cilium\.io|cni\.cilium\.io)\/|kubernetes\.io\/((in|e)gress-bandwidth|config\.mirror)$)/;
const LABEL_ZONE = "topology.kubernetes.io/zone";
/** Most pods that are told of. */
const PODS_MAX = 500_000;

/** What is kept of a pod. */
export interface PodFacts {
  readonly uid: string;
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly namedPorts: NamedPort[];
  readonly hostPorts: HostPort[];
  readonly hostNetwork: boolean;
  readonly phase: string;
  readonly addresses: string[];
  readonly deleting: boolean;
}

/** What is kept of a namespace. */
export interface NamespaceFacts {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface ContainerPort {
  name?: string;
  containerPort?: number;
  hostPort?: number;
  hostIP?: string;
  protocol?: string;
}

/** The pod, once it has a node. */
export function prunePod({ metadata, spec, status }: KubernetesObject): PodFacts | undefined {
  if (!spec?.nodeName) return undefined;
  // Containers that are started before the others and go on beside them have ports as those do.
  const besides = (spec.initContainers ?? []).filter((one: { restartPolicy?: string }) =>
    one.restartPolicy === "Always"
  );
  const ports = [...besides, ...spec.containers ?? []].flatMap((one: { ports?: ContainerPort[] }) =>
    one.ports ?? []
  );
  const hostNetwork = spec.hostNetwork === true;
  return {
    uid: metadata.uid ?? "",
    node: spec.nodeName,
    labels: metadata.labels ?? {},
    annotations: meaningful(metadata.annotations),
    serviceAccount: spec.serviceAccountName || "default",
    namedPorts: ports.filter(({ name }) => name).map((
      { name = "", containerPort = 0, protocol = "TCP" },
    ) => ({
      name,
      port: containerPort,
      protocol,
    })),
    // On the host's network it has its ports by itself.
    hostPorts: hostNetwork ? [] : ports.filter(({ hostPort }) => hostPort).map((port) => ({
      hostPort: port.hostPort ?? 0,
      hostIp: port.hostIP ?? "",
      containerPort: port.containerPort ?? 0,
      protocol: port.protocol ?? "TCP",
    })),
    hostNetwork,
    phase: status?.phase ?? "",
    addresses: (status?.podIPs ?? []).map(({ ip }: { ip?: string }) => ip ?? "").filter((ip: string) =>
      ip !== ""
    ),
    deleting: metadata.deletionTimestamp !== undefined,
  };
}

/** What pods take from their namespace. */
export function pruneNamespace({ metadata }: KubernetesObject): NamespaceFacts {
  return { labels: metadata.labels ?? {}, annotations: meaningful(metadata.annotations) };
}

/** A node, without what changes with every heartbeat. */
export function pruneNode({ metadata, spec, status }: KubernetesObject): KubernetesNode {
  const addresses = ((status?.addresses ?? []) as { type?: string; address?: string }[])
    .filter(({ address = "" }) => IpAddress.tryParse(address) !== undefined)
    .sort((a, b) => Number(b.type === "InternalIP") - Number(a.type === "InternalIP"));
  return KubernetesNode.create({
    name: metadata.name,
    uid: metadata.uid,
    podCidrs: spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : []),
    addresses: [...new Set(addresses.map(({ address = "" }) => address))],
    zone: metadata.labels?.[LABEL_ZONE] ?? "",
    labels: metadata.labels ?? {},
    annotations: meaningful(metadata.annotations),
    providerId: spec?.providerID ?? "",
  });
}

function meaningful(annotations: Record<string, string> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(annotations ?? {}).filter(([key]) => ANNOTATIONS.test(key)));
}

/** Pods with what their namespaces say: the collection `pods`. */
export class PodTable {
  readonly table: WatchedTable<KubernetesPod>;
  readonly #cluster: string;
  readonly #pods = new Map<string, PodFacts>();
  readonly #namespaces = new Map<string, NamespaceFacts>();
  readonly #names = new Map<string, Set<string>>();

  /** @param cluster name of the cluster, which is in every pod's labels */
  constructor(cluster: string) {
    this.#cluster = cluster;
    this.table = new WatchedTable<KubernetesPod>({ name: "pods", entriesMax: PODS_MAX });
    // Until everything was read once, that a pod is not there means nothing.
    this.table.pending = true;
  }

  setPod(key: string, pod: PodFacts | undefined): void {
    const namespace = namespaceOf(key);
    const names = this.#names.get(namespace) ?? new Set();
    if (pod === undefined) {
      this.#pods.delete(key);
      names.delete(key);
      if (names.size === 0) this.#names.delete(namespace);
      this.table.delete(key);
      return;
    }
    this.#pods.set(key, pod);
    this.#names.set(namespace, names.add(key));
    this.#join(key, pod);
  }

  setNamespace(name: string, facts: NamespaceFacts | undefined): void {
    // Its pods go before it. What is said of those that are left stays as it is.
    if (facts === undefined) {
      this.#namespaces.delete(name);
      return;
    }
    this.#namespaces.set(name, facts);
    for (const key of this.#names.get(name) ?? []) this.#join(key, this.#pods.get(key)!);
  }

  /** A pod whose namespace is not known yet is told of when it is: its labels would lack those that policies mean. */
  #join(key: string, pod: PodFacts): void {
    const namespace = namespaceOf(key), facts = this.#namespaces.get(namespace);
    if (facts === undefined) return;
    const { labels, annotations, serviceAccount, ...rest } = pod;
    const value: KubernetesPod = {
      name: key,
      ...rest,
      serviceAccount,
      labels: podLabels(
        { namespace, labels, serviceAccountName: serviceAccount },
        facts.labels,
        this.#cluster,
      ),
      annotations: { ...facts.annotations, ...annotations },
    };
    if (!sameValue(this.table.get(key), value)) this.table.put(key, value);
  }
}

function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
