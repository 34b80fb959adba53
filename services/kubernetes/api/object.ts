/** Objects of the API server as far as every kind has it. @module */

/** `metadata` of an object. */
export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  [field: string]: unknown;
}

/** Whose object goes when the owner goes. */
export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

/** An object of any kind. What it has beside `metadata` nobody has checked. */
export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  // deno-lint-ignore no-explicit-any
  spec?: any;
  // deno-lint-ignore no-explicit-any
  status?: any;
  [field: string]: unknown;
}

/** One page of a list. */
export interface ObjectList {
  items: KubernetesObject[];
  /** Of the whole list, the same in each of its pages; from here a watch goes on. */
  resourceVersion: string;
  /** Leads to the next page; "" in the last one. */
  continue: string;
}

/** "NAMESPACE/NAME", or "NAME" of what is in no namespace. */
export function keyOf({ metadata }: KubernetesObject): string {
  return metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;
}

/** Whether a value from outside has what every object has. */
export function isObject(value: unknown): value is KubernetesObject {
  const { metadata } = (value ?? {}) as { metadata?: Partial<ObjectMeta> };
  return typeof metadata === "object" && metadata !== null && typeof metadata.name === "string" &&
    metadata.name !== "" && (metadata.namespace === undefined || typeof metadata.namespace === "string");
}
