/** Conditions in the status of objects. @module */
import type { ApiClient, KubernetesObject, Resource } from "../api/mod.ts";
import type { Write } from "./write_queue.ts";
import { FIELD_MANAGER } from "./field_manager.ts";

/** What is said of an object. */
export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  /** Upper camel case. */
  reason: string;
  message: string;
  /** Of the object that it was said of; undefined where the kind has none. */
  observedGeneration?: number;
}

/** A condition as an object has it. */
export interface StoredCondition extends Condition {
  lastTransitionTime?: string;
}

const MESSAGE_CHARS_MAX = 2000;

/** The conditions of an object that is there, without those that nobody can read. */
export function conditionsOf(object: KubernetesObject): StoredCondition[] {
  const conditions: unknown = object.status?.conditions;
  return Array.isArray(conditions) ? conditions.filter((one) => typeof one?.type === "string") : [];
}

/**
 * The conditions to be written; undefined when all are there already. Their time is that of the last change of `status`.
 * @param now RFC 3339
 */
export function changedConditions(
  stored: readonly StoredCondition[],
  wanted: readonly Condition[],
  now: string,
): StoredCondition[] | undefined {
  let isChanged = false;
  const conditions = wanted.map((condition) => {
    const message = condition.message.slice(0, MESSAGE_CHARS_MAX);
    const before = stored.find(({ type }) => type === condition.type);
    const isSame = before !== undefined && before.status === condition.status &&
      before.reason === condition.reason && before.message === message &&
      before.observedGeneration === condition.observedGeneration;
    isChanged ||= !isSame;
    const lastTransitionTime = before?.status === condition.status && before.lastTransitionTime || now;
    return { ...condition, message, lastTransitionTime };
  });
  return isChanged ? conditions : undefined;
}

/**
 * Writes a part of the status of exactly this object. What others have in the status stays theirs.
 * @param status all that Weir says in it: what it said before and does not say now is taken out
 */
export function applyStatus(
  client: ApiClient,
  resource: Resource,
  { name, namespace, uid }: { name: string; namespace?: string; uid?: string },
  status: Record<string, unknown>,
): Write {
  return {
    verb: "apply",
    run: (options) =>
      client.apply(resource, { metadata: { name, namespace, uid }, status }, {
        ...options,
        subresource: "status",
        fieldManager: FIELD_MANAGER,
        force: true,
      }),
  };
}

/** "pool is empty" of "POOL_IS_EMPTY", as reasons are written: "PoolIsEmpty". */
export function reasonOf(code: string): string {
  const reason = code.split(/[^A-Za-z0-9]+/).filter((word) => word !== "")
    .map((word) => word[0].toUpperCase() + word.slice(1).toLowerCase()).join("");
  return /^[A-Za-z]/.test(reason) ? reason : `Code${reason}`;
}
