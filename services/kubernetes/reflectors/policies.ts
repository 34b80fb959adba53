/** Policies of Kubernetes into the policy engine. @module */
import type { WeirClient } from "@weir/client";
import { POLICY_MODE_ANNOTATION } from "@weir/common/manifest";
import { Policy } from "@weir/proto/policy";
import type { KubernetesObject } from "../api/object.ts";
import { keyOf } from "../api/object.ts";
import { apiVersionOf, type Resource, RESOURCES } from "../api/resource.ts";
import { digestOf, fileOf, type HeldOptions, HeldTarget, kindOfFile } from "../held_objects.ts";
import type { WantedObject } from "../mirror.ts";

/** A kind that is a policy, or is named by one. */
export interface PolicyKind {
  readonly resource: Resource;
  /** The first word of its names at the policy engine. */
  readonly word: string;
  /** Its definition is not Weir's to install: where the API server has none, there are no objects. */
  readonly isOptional?: true;
}

/** All of them. */
export const POLICY_KINDS: readonly PolicyKind[] = [
  { resource: RESOURCES.CiliumNetworkPolicy, word: "cnp" },
  { resource: RESOURCES.CiliumClusterwideNetworkPolicy, word: "ccnp" },
  { resource: RESOURCES.NetworkPolicy, word: "knp" },
  { resource: RESOURCES.AdminNetworkPolicy, word: "anp", isOptional: true },
  { resource: RESOURCES.BaselineAdminNetworkPolicy, word: "banp", isOptional: true },
  { resource: RESOURCES.ClusterNetworkPolicy, word: "clnp", isOptional: true },
  { resource: RESOURCES.CiliumCIDRGroup, word: "ccg" },
];

/** The policy as the engine gets it: what its rules are, and its name. */
export function prunePolicy(resource: Resource, object: KubernetesObject): WantedObject {
  const { metadata: { name, namespace, labels, uid = "", generation = 0 }, spec, specs } = object;
  const mode = object.metadata.annotations?.[POLICY_MODE_ANNOTATION];
  const annotations = mode === undefined ? undefined : { [POLICY_MODE_ANNOTATION]: mode };
  const { kind } = resource;
  // Lines of this form are those that messages name.
  const text = JSON.stringify(
    {
      apiVersion: apiVersionOf(resource),
      kind,
      metadata: { name, namespace, labels, annotations },
      spec,
      specs,
    },
    undefined,
    1,
  );
  return { kind, key: keyOf(object), uid, generation, text, digest: digestOf(text) };
}

/** The policy engine as a mirror's target. */
export class PolicyTarget extends HeldTarget<Policy> {
  readonly name = "policy-engine";
  // Each has a file of its own, which a text of several cannot say.
  readonly batchMax = 1;

  constructor(client: WeirClient, options: HeldOptions) {
    super(client, {
      collection: "policies",
      message: Policy,
      heldOf: ({ file, manifest }) => ({ kind: kindOfFile(file), digest: digestOf(manifest) }),
    }, options);
  }

  async put(objects: readonly (WantedObject & { name: string })[]): Promise<void> {
    const policies = this.client.collection("policies", Policy);
    for (const object of objects) {
      await policies.put(object.name, {
        name: object.name,
        manifest: object.text,
        file: fileOf(object),
        line: 1,
      });
    }
  }

  async delete(objects: readonly { name: string }[]): Promise<void> {
    const policies = this.client.collection("policies", Policy);
    for (const { name } of objects) await policies.delete(name);
  }
}
