/**
 * What can be chosen when Weir is installed on Kubernetes: the one source of `weir install`, of the Helm chart's values and their
 * schema, and of the plain manifest.
 *
 * @module
 */
import { WEIR_VERSION } from "@weir/common/version";

/** An object of JSON. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** One value or a group of them. */
export type ValueSpec =
  | {
    readonly says: string;
    readonly default: Json;
    readonly type?: string;
    readonly enum?: readonly string[];
  }
  | { readonly says: string; readonly group: Readonly<Record<string, ValueSpec>> };

const RESOURCES = { type: "object", says: "as a container's resources" } as const;

/** Every value with what it says. */
export const VALUES: Readonly<Record<string, ValueSpec>> = {
  cluster: { says: "Name of the cluster", default: "default" },
  image: {
    says: "Where the images weir-node and weir-control-plane are",
    group: {
      repository: { says: "What comes before the image's name", default: "localhost" },
      tag: { says: "Version", default: WEIR_VERSION },
      pullPolicy: {
        says: "When they are pulled",
        default: "IfNotPresent",
        enum: ["Always", "IfNotPresent", "Never"],
      },
      pullSecrets: { says: "Secrets for a registry: a list of {name}", default: [], type: "array" },
    },
  },
  config: {
    says:
      "Options of weir agent, by their names in lowerCamelCase, for nodes and control plane: the ConfigMap weir-config",
    default: { masquerade: true },
    type: "object",
  },
  apiServer: {
    says:
      "URL of the API server, where its service address does not answer before Weir serves it (no kube-proxy): https://10.0.0.1:6443. Empty: the service address",
    default: "",
  },
  controlPlane: {
    says: "The cluster's services",
    group: {
      replicas: { says: "More than one needs databaseSecret", default: 1, type: "integer" },
      databaseSecret: {
        says: "Secret with the PostgreSQL URL under the key url; without one SQLite on the node that runs it",
        default: "weir-database",
      },
      ciliumEndpoints: {
        says: "Write one CiliumEndpoint for each pod beside the slices, for tools that read only those",
        default: false,
      },
      nodeSelector: {
        says:
          "Where it runs. With SQLite name one node (kubernetes.io/hostname), as weir install does: on another one it begins with an empty database, and reads everything anew",
        default: { "kubernetes.io/os": "linux" },
        type: "object",
      },
      tolerations: {
        says: "Taints that it bears: it makes nodes ready that are not",
        default: [
          { key: "node.kubernetes.io/not-ready", operator: "Exists" },
          { key: "node.kubernetes.io/network-unavailable", operator: "Exists" },
          { key: "node.cloudprovider.kubernetes.io/uninitialized", operator: "Exists" },
          { key: "node-role.kubernetes.io/control-plane", operator: "Exists" },
          { key: "node.weir.dev/agent-not-ready", operator: "Exists" },
        ],
        type: "array",
      },
      resources: { ...RESOURCES, default: { requests: { cpu: "100m", memory: "512Mi" } } },
    },
  },
  node: {
    says: "What runs on every node",
    group: {
      ipam: {
        says: "Who gives nodes their prefixes: Weir's allocator, or Kubernetes (spec.podCIDRs)",
        default: "kubernetes",
        enum: ["kubernetes", "cluster-pool"],
      },
      cniConfDirectory: {
        says: "The container runtime's directory of CNI configurations",
        default: "/etc/cni/net.d",
      },
      cniBinaryDirectory: {
        says: "The container runtime's directory of CNI plugins",
        default: "/opt/cni/bin",
      },
      nodeSelector: { says: "Which nodes", default: { "kubernetes.io/os": "linux" }, type: "object" },
      tolerations: { says: "Taints that it bears", default: [{ operator: "Exists" }], type: "array" },
      resources: { ...RESOURCES, default: { requests: { cpu: "200m", memory: "384Mi" } } },
    },
  },
};

/** Values by their paths, "image.tag"; a template's are texts in their places. */
export type Values = Readonly<Record<string, Json>>;

/** Path, specification and default of every value, in order. */
export function valuePaths(): [path: string, spec: ValueSpec & { default: Json }][] {
  const found: [string, ValueSpec & { default: Json }][] = [];
  const visit = (specs: Readonly<Record<string, ValueSpec>>, before: string): void => {
    for (const [name, spec] of Object.entries(specs)) {
      if ("group" in spec) visit(spec.group, `${before}${name}.`);
      else found.push([`${before}${name}`, spec]);
    }
  };
  visit(VALUES, "");
  return found;
}

/** The values that hold where nothing is chosen. */
export function defaultValues(): Values {
  return Object.fromEntries(valuePaths().map(([path, spec]) => [path, spec.default]));
}

/** Last of the items that a flag decides about, in a template. */
export const CONDITION_END = "@@END@@";

/** Items that are there where the flag is true. A template's flag is a text: it stands before them, and {@link CONDITION_END} after. */
export function where(isChosen: Json, items: readonly Json[]): Json[] {
  if (typeof isChosen === "boolean") return isChosen ? [...items] : [];
  return [isChosen, ...items, CONDITION_END];
}
