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
  formatFault,
  kindsTakenBy,
  type ManifestDocument,
  type ManifestNode,
  readDocuments,
  toValue,
} from "@weir/common/manifest";
import { readManifests } from "../manifest.ts";
import type { NamedPort } from "../named_ports.ts";
import type { Policy } from "../policy.ts";
import { type PlacedValue, SERVICE_KINDS, servicesNamed } from "./services.ts";

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
  readonly file: string;
  readonly line: number;
}

/** What some texts hold. */
export interface Inventory {
  /** With the objects that they name: CIDR groups, services. */
  readonly policies: readonly Policy[];
  readonly workloads: readonly Workload[];
  /** Objects that say nothing here, by kind; "" is for documents without one. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** What could not be read, with its place: `web.yaml:3:5: spec.ingress: ...`. */
  readonly faults: readonly string[];
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
  const pods: PlacedValue[] = [], services: PlacedValue[] = [];
  const namespaces = new Map<string, Record<string, string>>(), faults: string[] = [];
  for (const { file, text } of texts) {
    const found = new FaultList();
    const add = (root: ManifestNode, { text, line }: Pick<ManifestDocument, "text" | "line">) => {
      const kind = root.fields.get("kind")?.value.scalar;
      // No object of Kubernetes: values of a chart, settings of another program.
      if (typeof kind !== "string") return void leftOut.set("", (leftOut.get("") ?? 0) + 1);
      if (POLICY_KINDS.includes(kind)) {
        const read = readManifests(text, { file, line, namespace, cluster });
        for (const fault of read.faults) faults.push(formatFault(fault, file));
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
      else leftOut.set(kind, (leftOut.get(kind) ?? 0) + 1);
    };
    for (const document of readDocuments(text, found, 1, LIMITS)) {
      const items = listedItems(document.root);
      if (items === undefined) add(document.root, document);
      for (const item of items ?? []) add(item, { text: JSON.stringify(toValue(item)), line: item.line });
    }
    faults.push(...found.faults.map((fault: Fault) => formatFault(fault, file)));
  }
  const written = [...policies.values()];
  return {
    policies: [...written, ...servicesNamed(services, written, { namespace, cluster })],
    workloads: workloadsOf(pods, namespaces, { namespace, cluster }),
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
    const template = TEMPLATES[kind].reduce<unknown>((node, key) => fieldOf(node, key), value);
    const spec = fieldOf(template, "spec");
    // On the node's network it has the node's addresses, and no policy of its own.
    if (fieldOf(spec, "hostNetwork") === true) continue;
    const namespace = own.namespace ?? unnamed, owner = ownerOf(value);
    const texts = podLabels(
      {
        namespace,
        labels: metadataOf(template).labels,
        serviceAccountName: textOf(fieldOf(spec, "serviceAccountName")) ?? "default",
      },
      namespaces.get(namespace) ?? {},
      cluster,
    );
    const labels = filter.apply(LabelSet.parse(texts));
    const name = owner?.name ?? own.name ?? "?", shown = owner?.kind ?? kind;
    const key = `${namespace}/${labels.key}/${name}`;
    if (!found.has(key)) {
      found.set(key, { kind: shown, namespace, name, labels, ports: portsOf(spec), file, line });
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
  const [owner] = listOf(fieldOf(fieldOf(value, "metadata"), "ownerReferences"));
  const kind = textOf(fieldOf(owner, "kind")), name = textOf(fieldOf(owner, "name"));
  if (kind === undefined || name === undefined) return undefined;
  const deployment = kind === "ReplicaSet" ? /^(.+)-[a-z0-9]{6,10}$/.exec(name)?.[1] : undefined;
  return deployment === undefined ? { kind, name } : { kind: "Deployment", name: deployment };
}

function portsOf(spec: unknown): NamedPort[] {
  return listOf(fieldOf(spec, "containers")).flatMap((container) => listOf(fieldOf(container, "ports")))
    .flatMap((port) => {
      const name = textOf(fieldOf(port, "name")), number = fieldOf(port, "containerPort");
      if (name === undefined || typeof number !== "number") return [];
      return [{ name, port: number, protocol: textOf(fieldOf(port, "protocol")) ?? "TCP" }];
    });
}

function metadataOf(value: unknown): { name?: string; namespace?: string; labels: Record<string, string> } {
  const metadata = fieldOf(value, "metadata"), labels: Record<string, string> = {};
  const given = fieldOf(metadata, "labels");
  if (typeof given === "object" && given !== null) {
    for (const [key, label] of Object.entries(given)) if (typeof label === "string") labels[key] = label;
  }
  return {
    name: textOf(fieldOf(metadata, "name")),
    namespace: textOf(fieldOf(metadata, "namespace")),
    labels,
  };
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Orders texts by their UTF-16 units, whatever the locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
