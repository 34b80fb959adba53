/**
 * The inventory of a cluster as it is now, in place of pods' and nodes' manifests: its endpoints by their labels, port names, and addresses.
 * Which ports they listen on nobody says there.
 * @module
 */
import { LABEL_NAMESPACE, LabelError, LabelSet, Prefix, SOURCE_KUBERNETES } from "@weir/common";
import type { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { withImpliedLabels } from "../implied_labels.ts";
import type { ClusterAddress, ClusterFacts } from "../offline/cluster_facts.ts";
import type { Inventory, Workload } from "../offline/inventory.ts";

/** What the identity allocator says. */
export interface ClusterObjects {
  readonly identities: readonly Identity[];
  readonly addresses: readonly IpcacheEntry[];
  readonly nodes: readonly Node[];
}

/** An inventory with the cluster's endpoints and addresses beside those of the files. Identities whose labels cannot be read are left out. */
export function withCluster(inventory: Inventory, objects: ClusterObjects, cluster: string): Inventory {
  const labels = new Map<number, LabelSet>();
  for (const { number, labels: texts } of objects.identities) {
    try {
      labels.set(number, withImpliedLabels(number, LabelSet.parse(texts), cluster));
    } catch (error) {
      if (!(error instanceof LabelError)) throw error;
    }
  }
  const workloads: Workload[] = [], addresses: ClusterAddress[] = [], seen = new Set<string>();
  const add = (kind: ClusterAddress["kind"], text: string, what: string) => {
    const prefix = text === "" ? undefined : Prefix.tryParse(text, { bare: true });
    if (prefix !== undefined) addresses.push({ kind, prefix, what });
  };
  for (const { identity, endpoint, prefix, namedPorts } of objects.addresses) {
    const own = labels.get(identity);
    if (endpoint === "" || own === undefined) continue;
    add("pod", prefix, `pod ${endpoint}`);
    if (seen.has(endpoint)) continue;
    seen.add(endpoint);
    const namespace = own.get(SOURCE_KUBERNETES, LABEL_NAMESPACE) ?? "";
    const name = endpoint.startsWith(`${namespace}/`) ? endpoint.slice(namespace.length + 1) : endpoint;
    workloads.push({
      kind: "Pod",
      namespace,
      name,
      labels: own,
      ports: namedPorts.map(({ name, port, protocol }) => ({ name, port, protocol: protocol || "TCP" })),
      declared: [],
      file: "",
      line: 0,
    });
  }
  for (const { name, ipv4, ipv6, podCidrV4, podCidrV6, pools } of objects.nodes) {
    for (const text of [ipv4, ipv6]) add("node", text, `node ${name}`);
    for (const text of [podCidrV4, podCidrV6, ...pools.flatMap(({ cidrs }) => cidrs)]) {
      add("pod", text, `pods of node ${name}`);
    }
  }
  const facts: ClusterFacts = {
    ...inventory.cluster,
    addresses: [...inventory.cluster.addresses, ...addresses],
    namespaces: new Set([...inventory.cluster.namespaces, ...workloads.map(({ namespace }) => namespace)]),
  };
  return { ...inventory, workloads: [...inventory.workloads, ...workloads], cluster: facts };
}
