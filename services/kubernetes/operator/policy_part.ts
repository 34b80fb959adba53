/** Status of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: whether they are valid, and on how many nodes in force. @module */
import type { ObjectFault } from "@weir/proto/kubernetes";
import type { NodePolicy, Policy, PolicyFault } from "@weir/proto/policy";
import { type Resource, RESOURCES } from "../api/mod.ts";
import { digestOf, kindOfFile } from "../held_objects.ts";
import { prunePolicy } from "../reflectors/policies.ts";
import {
  applyStatus,
  changedConditions,
  type Condition,
  conditionsOf,
  type StoredCondition,
} from "./conditions.ts";
import { faultOfVersion, type ObservedVersion, observedVersion, validCondition } from "./object_version.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace } from "./write_queue.ts";
import { Writer } from "./writer.ts";

/** While a change reaches thousands of nodes, how many have it is written every two seconds at most. */
const PACE: Pace = { ratePerS: 10, burst: 20, parallelMax: 4, delayMs: 2000 };

interface Observed extends ObservedVersion {
  conditions: StoredCondition[];
}

/** Kinds of policies that have a status, and what their names begin with in the policy engine. */
const KINDS: readonly { resource: Resource; prefix: string }[] = [
  { resource: RESOURCES.CiliumNetworkPolicy, prefix: "cnp:" },
  { resource: RESOURCES.CiliumClusterwideNetworkPolicy, prefix: "ccnp:" },
];

/** Writes the status of policies. */
export function policyPart(context: PartContext): Part {
  const { feeds: { policies, policyFaults, nodePolicies, objectFaults }, client, term, clock } = context;
  const inForce = new NodesInForce(() => nodePolicies.list());
  const writers = KINDS.map(({ resource, prefix }) =>
    new Writer<Observed>(client, term, {
      ...context,
      resource,
      prune: (object) => ({
        ...observedVersion(object, prunePolicy(resource, object)),
        conditions: conditionsOf(object),
      }),
      plan: (key, observed) => {
        if (observed === undefined) return undefined;
        const name = prefix + key;
        const policy = policies.get(name);
        const wanted = policyConditions({
          observed,
          // One that people applied under the same name says nothing of this one.
          policy: policy !== undefined && kindOfFile(policy.file) === resource.kind ? policy : undefined,
          policyFault: policyFaults.get(name),
          objectFault: objectFaults.get(`${resource.kind}/${key}`),
          nodes: inForce,
        });
        const now = new Date(clock.nowMs()).toISOString();
        const conditions = wanted && changedConditions(observed.conditions, wanted, now);
        return conditions && applyStatus(client, resource, observed, { conditions });
      },
      pace: PACE,
    })
  );
  const changed = (name: string) => {
    KINDS.forEach(({ prefix, resource }, i) => {
      if (name.startsWith(prefix)) writers[i].changed(name.slice(prefix.length));
      else if (name.startsWith(`${resource.kind}/`)) writers[i].changed(name.slice(resource.kind.length + 1));
    });
  };
  policies.listen(changed);
  policyFaults.listen(changed);
  objectFaults.listen(changed);
  nodePolicies.listen((_, value, previous) => {
    if (value?.policyRevision === previous?.policyRevision && value?.error === previous?.error) return;
    inForce.forget();
    for (const writer of writers) for (const [key] of writer.observed.entries()) writer.changed(key);
  });
  return { writers, needs: [policies, policyFaults, nodePolicies, objectFaults] };
}

/** How many nodes have a policy set. Counted once for all policies, after a change. */
export class NodesInForce {
  #revisions: number[] | undefined;
  constructor(readonly nodes: () => Pick<NodePolicy, "policyRevision">[]) {}

  /** A node has another policy set. */
  forget(): void {
    this.#revisions = undefined;
  }

  /** Nodes that there are, and how many have this policy set or a newer one. */
  count(policyRevision: number): { nodes: number; inForce: number } {
    this.#revisions ??= this.nodes().map((node) => node.policyRevision).sort((a, b) => a - b);
    let low = 0, high = this.#revisions.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#revisions[middle] < policyRevision) low = middle + 1;
      else high = middle;
    }
    return { nodes: this.#revisions.length, inForce: this.#revisions.length - low };
  }
}

/** What is said of a policy; undefined while nothing is known of this version of it. */
export function policyConditions({ observed, policy, policyFault, objectFault, nodes }: {
  observed: Pick<ObservedVersion, "generation" | "digest">;
  policy: Policy | undefined;
  policyFault: PolicyFault | undefined;
  objectFault: ObjectFault | undefined;
  nodes: Pick<NodesInForce, "count">;
}): Condition[] | undefined {
  const refused = faultOfVersion(observed, objectFault);
  // Until the policy engine has this version, what it says is of another one: what was said of that stays.
  const isThis = policy !== undefined && digestOf(policy.manifest) === observed.digest;
  const conditions: Condition[] = [];
  if (refused !== undefined) {
    conditions.push(refused);
  } else if (!isThis) {
    return undefined;
  } else if (policyFault !== undefined && isOfVersion(policyFault, policy)) {
    const rest = policyFault.holds
      ? "; endpoints that it may select keep what they have, or are closed"
      : "; the version before it stays in force";
    conditions.push(validCondition(observed, "False", "CannotBePutInForce", policyFault.error + rest));
  } else {
    const warnings = policy.warnings.map(({ path, detail }) => `${path}: ${detail}`);
    const message = warnings.length === 0 ? "Policy validation succeeded" : warnings.join("; ");
    const reason = warnings.length === 0 ? "Valid" : "ValidWithWarnings";
    conditions.push(validCondition(observed, "True", reason, message));
  }
  if (policy === undefined) return conditions;
  const { nodes: all, inForce } = nodes.count(policy.policyRevision);
  const isEverywhere = all > 0 && inForce === all;
  conditions.push({
    type: "InForce",
    status: all === 0 ? "Unknown" : isEverywhere ? "True" : "False",
    reason: all === 0 ? "NoNode" : isEverywhere ? "OnEveryNode" : "NotOnEveryNode",
    message: isThis
      ? `In force on ${inForce} of ${all} nodes`
      : `The version before this one: in force on ${inForce} of ${all} nodes`,
    observedGeneration: observed.generation,
  });
  return conditions;
}

/** A fault may be read later than the policy that it was of: an older version's says nothing of a newer one. */
function isOfVersion({ policyRevision }: PolicyFault, policy: Policy): boolean {
  return policyRevision === 0 || policyRevision === policy.policyRevision;
}
