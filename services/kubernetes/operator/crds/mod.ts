/**
 * The custom resources: one source for the manifest, the Helm chart, and the operator, which applies them at its start.
 * @module
 */
import type { KubernetesObject } from "../../api/object.ts";
import { ADDRESSES } from "./addresses.ts";
import { customResource, type Definition } from "./definition.ts";
import { ENDPOINTS } from "./endpoints.ts";
import { POLICIES } from "./policies.ts";

export { type Definition, type PrinterColumn, SCHEMA_VERSION, SCHEMA_VERSION_LABEL } from "./definition.ts";

/** Every kind that Weir defines. */
export const DEFINITIONS: readonly Definition[] = [...POLICIES, ...ENDPOINTS, ...ADDRESSES];

/** Their CustomResourceDefinitions, in the order of their names. */
export function customResources(): KubernetesObject[] {
  return DEFINITIONS.map(customResource).sort((a, b) => a.metadata.name < b.metadata.name ? -1 : 1);
}
