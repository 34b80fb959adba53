/**
 * Which version of an object something is said of. Weir's services know objects by what they say; the digest of that ties it to a
 * generation, so that a verdict on one version never stands at another.
 * @module
 */
import type { ObjectFault } from "@weir/proto/kubernetes";
import type { KubernetesObject } from "../api/mod.ts";
import { type Condition, reasonOf } from "./conditions.ts";

/** An object as the API server shows it. */
export interface ObservedVersion {
  name: string;
  namespace?: string;
  uid?: string;
  generation: number;
  /** Of the text that a service of Weir gets of it. */
  digest: string;
}

/** @param handed what a service of Weir gets of the object */
export function observedVersion(object: KubernetesObject, handed: { digest: string }): ObservedVersion {
  const { name, namespace, uid, generation = 0 } = object.metadata;
  return { name, namespace, uid, generation, digest: handed.digest };
}

/** The condition `Valid` of this version. */
export function validCondition(
  { generation }: Pick<ObservedVersion, "generation">,
  status: Condition["status"],
  reason: string,
  message: string,
): Condition {
  return { type: "Valid", status, reason, message, observedGeneration: generation };
}

/** That this version was refused; undefined: the fault, if there is one, is of an older version. */
export function faultOfVersion(
  observed: Pick<ObservedVersion, "generation">,
  fault: ObjectFault | undefined,
): Condition | undefined {
  if (fault === undefined) return undefined;
  const { code, error, generation } = fault;
  const condition = validCondition(observed, "False", reasonOf(code), error?.error ?? "It was refused");
  if (generation === observed.generation) return condition;
  // Of what nobody could read no version is known.
  return generation === 0 ? { ...condition, observedGeneration: undefined } : undefined;
}
