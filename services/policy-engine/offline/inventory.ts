/**
 * What manifests say by themselves: policies, and the pods that they are about. Any kind of object may be among them, as in the
 * directory of an application; what is neither a policy, a namespace, a service nor something that has pods is counted and left
 * out. Pure.
 * @module
 */
import { LabelFilter, LabelSet, podLabels } from "@weir/common";
import {
  type Fault,
  FaultList,
  findKind,
  kindsTakenBy,
  type ManifestDocument,
  type ManifestNode,
  readDocuments,
  toValue,
} from "@weir/common/manifest";
import { readManifests } from "../manifest.ts";
import type { NamedPort } from "../named_ports.ts";
import type { Policy } from "../policy.ts";
import { type ClusterFacts, clusterFacts } from "./cluster_facts.ts";
import { SERVICE_KINDS, servicesNamed } from "./services.ts";
import { listOf, metadataOf, type PlacedValue, recordOf, textsOf } from "./value.ts";

/** A text and where it came from. */
export interface ManifestText {
  readonly file: string;
  readonly text: string;
}

/** Pods that are alike: of one controller, or of one name. */
export interface Workload {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Those that make the identity: what controllers count by is not among them. */
  readonly labels: LabelSet;
  readonly ports: readonly NamedPort[];
  /** All that its containers say they listen on, those without a name too. */
  readonly declared: readonly NamedPort[];
  readonly file: string;
  readonly line: number;
}

/** What cannot be read, and in which file. */
export interface FileFault extends Fault {
  readonly file: string;
}

/** What some texts hold. */
export interface Inventory {
  /** With the objects that they name: CIDR groups, services. */
  readonly policies: readonly Policy[];
  readonly workloads: readonly Workload[];
  /** Objects that say nothing here, by kind; "" is for documents without one. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Namespaces, and addresses of the cluster, as far as objects say them. */
  readonly cluster: ClusterFacts;
  /** What could not be read. */
  readonly faults: readonly FileFault[];
}

/** Options of {@link readInventory}. */
export interface InventoryOptions {
  /** Namespace of objects that name none; default `default`. */
  readonly namespace?: string;
  /** Name of the cluster; default `default`. */
  readonly cluster?: string;
}

/** Where the template of a kind's pods stands; [] where the object is a pod itself. */
const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  Pod: [],
  Deployment: ["spec", "template"],
  ReplicaSet: ["spec", "template"],
  ReplicationController: ["spec", "template"],
  StatefulSet: ["spec", "template"],
  DaemonSet: ["spec", "template"],
  Job: ["spec", "template"],
  CronJob: ["spec", "jobTemplate", "spec", "template"],
};
const LIMITS = { bytesMax: 16 << 20, documentsMax: 20_000, nodesMax: 2_000_000 };
const POLICY_KINDS: readonly string[] = kindsTakenBy("policy-engine");

/** Reads what the texts hold. Never throws. */
export function readInventory(texts: readonly ManifestText[], options: InventoryOptions = {}): Inventory {
  const { namespace = "default", cluster = "default" } = options;
  const policies = new Map<string, Policy>(), leftOut = new Map<string, number>();
  const pods: PlacedValue[] = [], services: PlacedValue[] = [], nodes: PlacedValue[] = [];
  const namespaces = new Map<string, Record<string, string>>(), faults: FileFault[] = [];
  for (const { file, text } of texts) {
    const found = new FaultList();
    const add = (root: ManifestNode, { text, line }: Pick<ManifestDocument, "text" | "line">) => {
      const kind = root.fields.get("kind")?.value.scalar;
      // No object of Kubernetes: values of a chart, settings of another program.
      if (typeof kind !== "string") return void leftOut.set("", (leftOut.get("") ?? 0) + 1);
      if (POLICY_KINDS.includes(kind)) {
        const read = readManifests(text, { file, line, namespace, cluster });
        for (const fault of read.faults) faults.push({ ...fault, file });
        for (const policy of read.policies) {
          const earlier = policies.get(policy.name);
          if (earlier === undefined) policies.set(policy.name, policy);
          else found.add("invalid", root, `${policy.name} is already in ${earlier.file}:${earlier.line}`);
        }
        return;
      }
      const value = toValue(root) as Record<string, unknown>;
      const { name, labels } = metadataOf(value);
      if (kind === "Namespace" && name !== undefined) namespaces.set(name, labels);
      else if (Object.hasOwn(TEMPLATES, kind)) pods.push({ value, file, line });
      else if (SERVICE_KINDS.includes(kind)) services.push({ value, file, line });
      else if (kind === "Node") nodes.push({ value, file, line });
      else leftOut.set(kind, (leftOut.get(kind) ?? 0) + 1);
    };
    for (const document of readDocuments(text, found, 1, LIMITS)) {
      const items = listedItems(document.root);
      if (items === undefined) add(document.root, document);
      for (const item of items ?? []) add(item, { text: JSON.stringify(toValue(item)), line: item.line });
    }
    faults.push(...found.faults.map((fault) => ({ ...fault, file })));
  }
  const written = [...policies.values()];
  return {
    policies: [...written, ...servicesNamed(services, written, { namespace, cluster })],
    workloads: workloadsOf(pods, namespaces, { namespace, cluster }),
    cluster: clusterFacts([...pods, ...services, ...nodes], {
      namespaces: namespaces.keys(),
      unnamed: namespace,
    }),
    leftOut,
    faults,
  };
}

/** Items of a list as `kubectl get -o yaml` prints it. */
function listedItems(root: ManifestNode): readonly ManifestNode[] | undefined {
  const kind = root.fields.get("kind")?.value.scalar;
  if (typeof kind !== "string" || !kind.endsWith("List") || findKind(kind) !== undefined) return undefined;
  return root.fields.get("items")?.value.items;
}

function workloadsOf(
  pods: readonly PlacedValue[],
  namespaces: ReadonlyMap<string, Record<string, string>>,
  { namespace: unnamed, cluster }: Required<InventoryOptions>,
): Workload[] {
  const filter = new LabelFilter(), found = new Map<string, Workload>();
  for (const { value, file, line } of pods) {
    const kind = String(value.kind), own = metadataOf(value);
    const template = TEMPLATES[kind].reduce<unknown>((node, key) => recordOf(node)[key], value);
    const spec = recordOf(recordOf(template).spec);
    // On the node's network it has the node's addresses, and no policy of its own.
    if (spec.hostNetwork === true) continue;
    const namespace = own.namespace ?? unnamed, owner = ownerOf(value);
    const texts = podLabels(
      {
        namespace,
        labels: metadataOf(template).labels,
        serviceAccountName: textsOf([spec.serviceAccountName])[0] ?? "default",
      },
      namespaces.get(namespace) ?? {},
      cluster,
    );
    const labels = filter.apply(LabelSet.parse(texts));
    const name = owner?.name ?? own.name ?? "?", shown = owner?.kind ?? kind;
    const key = `${namespace}/${labels.key}/${name}`;
    if (!found.has(key)) {
      const declared = portsOf(spec), ports = declared.filter(({ name }) => name !== "");
      found.set(key, { kind: shown, namespace, name, labels, ports, declared, file, line });
    }
  }
  return [...found.values()].sort((a, b) => compareText(nameOf(a), nameOf(b)));
}

/** `NAMESPACE/NAME` */
export function nameOf({ namespace, name }: Pick<Workload, "namespace" | "name">): string {
  return `${namespace}/${name}`;
}

/** Who a pod belongs to; of a replica set, whose name ends in a hash, the deployment. */
function ownerOf(value: Record<string, unknown>): { kind: string; name: string } | undefined {
  const [owner] = listOf(recordOf(value.metadata).ownerReferences);
  const [kind] = textsOf([recordOf(owner).kind]), [name] = textsOf([recordOf(owner).name]);
  if (kind === undefined || name === undefined) return undefined;
  const deployment = kind === "ReplicaSet" ? /^(.+)-[a-z0-9]{6,10}$/.exec(name)?.[1] : undefined;
  return deployment === undefined ? { kind, name } : { kind: "Deployment", name: deployment };
}

function portsOf(spec: unknown): NamedPort[] {
  return listOf(recordOf(spec).containers).flatMap((container) => listOf(recordOf(container).ports))
    .flatMap((value) => {
      const { name, containerPort, protocol } = recordOf(value);
      if (typeof containerPort !== "number") return [];
      return [{
        name: textsOf([name])[0] ?? "",
        port: containerPort,
        protocol: textsOf([protocol])[0] ?? "TCP",
      }];
    });
}

/** Orders texts by their UTF-16 units, whatever the locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
