/** What answers of the API server hold: lists, and the events of watches. @module */
import { ApiServerError, statusError } from "./error.ts";
import { isObject, type KubernetesObject, type ObjectList } from "./object.ts";
import { type Resource, resourceName } from "./resource.ts";

/** What a watch says. BOOKMARK: nothing changed up to its object's resourceVersion. */
export interface WatchEvent {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  object: KubernetesObject;
}

/** The events of some documents, up to the first that is an error. */
export function eventsOf(
  documents: unknown[],
  action: string,
): { events: WatchEvent[]; error?: ApiServerError } {
  const events: WatchEvent[] = [];
  for (const document of documents) {
    const { type, object } = (document ?? {}) as { type?: unknown; object?: KubernetesObject };
    if (type === "ERROR") return { events, error: statusError(action, { status: 500, body: object }) };
    const isKnown = type === "ADDED" || type === "MODIFIED" || type === "DELETED"
      ? isObject(object)
      : type === "BOOKMARK" && typeof object?.metadata?.resourceVersion === "string";
    if (!isKnown) return { events, error: invalidAnswer(action, JSON.stringify(document)?.slice(0, 200)) };
    events.push({ type, object } as WatchEvent);
  }
  return { events };
}

/** @throws {ApiServerError} ANSWER_INVALID */
export function listOf(answer: unknown, resource: Resource): ObjectList {
  const { items, metadata } = (answer ?? {}) as {
    items?: unknown;
    metadata?: { resourceVersion?: unknown; continue?: unknown };
  };
  // A list of nothing may come as null.
  const all = items ?? [];
  if (!Array.isArray(all) || typeof metadata?.resourceVersion !== "string") {
    throw notAList(resource, JSON.stringify(answer)?.slice(0, 200));
  }
  if (!all.every(isObject)) throw notAList(resource, "an item without metadata");
  const { continue: next } = metadata;
  return {
    items: all,
    resourceVersion: metadata.resourceVersion,
    continue: typeof next === "string" ? next : "",
  };
}

export function notAList(resource: Resource, found: string | undefined): ApiServerError {
  return invalidAnswer(`list ${resourceName(resource)}`, found);
}

export function invalidAnswer(action: string, found: string | undefined): ApiServerError {
  return new ApiServerError("ANSWER_INVALID", {
    status: 502,
    detail: `Cannot ${action}: the answer is not one of an API server`,
    found,
  });
}
