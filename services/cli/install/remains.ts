/**
 * What Weir's operator wrote at the API server, and what is taken back when Weir goes: objects of its own, the taints that keep pods
 * from nodes, its fields in the status of others' objects, and, where that is asked for, the definitions of custom resources.
 *
 * @module
 */
import { type ApiClient, ApiServerError, type Resource, RESOURCES } from "@weir/kubernetes/api";
import { customResources, FIELD_MANAGER, MANAGED_BY, NOT_READY_TAINT, WEIR } from "@weir/kubernetes/operator";

const OWN = [
  RESOURCES.CiliumEndpoint,
  RESOURCES.CiliumEndpointSlice,
  RESOURCES.CiliumIdentity,
  RESOURCES.CiliumNode,
];
/** What a status is that has nothing of Weir: of custom resources it must stay an object, and an empty one is none. */
const WITH_STATUS: readonly (readonly [Resource, Record<string, unknown>])[] = [
  [RESOURCES.Node, {}],
  [RESOURCES.Service, {}],
  [RESOURCES.CiliumNetworkPolicy, { conditions: [] }],
  [RESOURCES.CiliumClusterwideNetworkPolicy, { conditions: [] }],
  [RESOURCES.CiliumLoadBalancerIPPool, { conditions: [] }],
];
/** Failures that are told one by one. */
const FAILURES_MAX = 10;

/** How much was taken back. */
export interface Remains {
  /** Objects that were Weir's own. */
  readonly objects: number;
  /** Objects of others whose status had something of Weir. */
  readonly statuses: number;
  /** Nodes whose taint was taken off. */
  readonly taints: number;
  /** Why something stays, the first ten: one object that cannot be changed keeps Weir from nothing else. */
  readonly failures: readonly string[];
}

/** Takes back all but the definitions. Repeatable; the operator must not run any more. @throws {ApiServerError} */
export async function removeRemains(client: ApiClient): Promise<Remains> {
  const failures: string[] = [];
  const failed = (error: Error) => {
    if (failures.length < FAILURES_MAX) failures.push(error.message);
  };
  let taints = 0, objects = 0, statuses = 0;
  for await (const { items } of client.pages(RESOURCES.Node)) {
    for (const { metadata: { name, resourceVersion }, spec } of items) {
      const all = (spec?.taints ?? []) as { key: string }[];
      const left = all.filter(({ key }) => key !== NOT_READY_TAINT);
      if (left.length === all.length) continue;
      // The list is one field: it is replaced as it was seen.
      const patch = { metadata: { resourceVersion }, spec: { taints: left.length === 0 ? null : left } };
      try {
        await client.patch(RESOURCES.Node, name, patch, { fieldManager: FIELD_MANAGER });
        taints++;
      } catch (error) {
        failed(error as Error);
      }
    }
  }
  for (const [resource, status] of WITH_STATUS) {
    await eachOf(client, resource, {}, failed, async ({ name, namespace, managedFields }) => {
      if (!hasStatusOfOurs(managedFields)) return;
      // Fields that a manager applies no more go, unless somebody else has them too.
      await client.apply(resource, { metadata: { name, namespace }, status }, {
        subresource: "status",
        fieldManager: FIELD_MANAGER,
        force: true,
      });
      statuses++;
    });
  }
  const selection = { labelSelector: `${MANAGED_BY}=${WEIR}` };
  for (const resource of OWN) {
    await eachOf(client, resource, selection, failed, async ({ name, namespace }) => {
      if (await client.delete(resource, name, { namespace })) objects++;
    });
  }
  return { objects, statuses, taints, failures };
}

/**
 * Deletes the definitions of custom resources that are Weir's, and with them every object of those kinds, policies too.
 * @returns names of those that are somebody else's, and stay
 */
export async function removeDefinitions(client: ApiClient): Promise<{ removed: number; left: string[] }> {
  const left: string[] = [];
  let removed = 0;
  for (const { metadata: { name } } of customResources()) {
    const found = await orMissing(() => client.get(RESOURCES.CustomResourceDefinition, name));
    if (found === undefined) continue;
    if (found.metadata.labels?.[MANAGED_BY] !== WEIR) left.push(name);
    else if (await client.delete(RESOURCES.CustomResourceDefinition, name, { uid: found.metadata.uid })) {
      removed++;
    }
  }
  return { removed, left };
}

/** What a request answers; undefined: there is no such object, or no such kind. */
export async function orMissing<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof ApiServerError && error.code === "NOT_FOUND") return undefined;
    throw error;
  }
}

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly managedFields?: unknown;
}

/** Every object of a kind, if there is the kind; one that goes meanwhile is done. */
async function eachOf(
  client: ApiClient,
  resource: Resource,
  selection: { labelSelector?: string },
  failed: (error: Error) => void,
  act: (metadata: Metadata) => Promise<void>,
): Promise<void> {
  await orMissing(async () => {
    for await (const { items } of client.pages(resource, { ...selection, metadataOnly: true })) {
      for (const { metadata } of items) await orMissing(() => act(metadata as Metadata)).catch(failed);
    }
  });
}

function hasStatusOfOurs(managedFields: unknown): boolean {
  return Array.isArray(managedFields) &&
    managedFields.some((one) => one?.manager === FIELD_MANAGER && one?.subresource === "status");
}
