/** Kinds that an installation consists of. @module */
import { type Resource, RESOURCES } from "@weir/kubernetes/api";
import type { KubernetesObject } from "./objects.ts";

const kind = (group: string, kind: string, plural: string, namespaced = true): Resource => ({
  group,
  version: "v1",
  kind,
  plural,
  namespaced,
});

/** By their names. */
export const KINDS = {
  ...RESOURCES,
  Deployment: kind("apps", "Deployment", "deployments"),
  DaemonSet: kind("apps", "DaemonSet", "daemonsets"),
  PodDisruptionBudget: kind("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
  ClusterRole: kind("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
  ClusterRoleBinding: kind("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", false),
  Role: kind("rbac.authorization.k8s.io", "Role", "roles"),
  RoleBinding: kind("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
} as const satisfies Record<string, Resource>;

/** The kind of an object of ours. */
export function kindOf(object: KubernetesObject): Resource {
  const found = (KINDS as Record<string, Resource>)[object.kind];
  if (found === undefined) throw new Error(`Cannot tell where objects of kind ${object.kind} are`);
  return found;
}
