/** Definitions of custom resources as the API server takes them. @module */
import type { KubernetesObject, Resource } from "../../api/mod.ts";
import { apiVersionOf, resourceName, RESOURCES } from "../../api/resource.ts";
import { object, type Schema, text } from "./schema.ts";

/** A column of `kubectl get`. */
export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date" | "boolean";
  readonly jsonPath: string;
  readonly description?: string;
  /** 0: always; 1: with `-o wide`. */
  readonly priority?: number;
}

/** What a kind of objects is. */
export interface Definition {
  /** Its version is the one that is stored. */
  readonly resource: Resource;
  readonly shortNames: readonly string[];
  /** Further versions that are served, of the same schema. */
  readonly olderVersions?: readonly string[];
  /** Has the subresource `status`. */
  readonly status?: boolean;
  readonly columns: readonly PrinterColumn[];
  readonly description: string;
  /** Fields beside `apiVersion`, `kind` and `metadata`. */
  readonly properties: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

/** The column that every kind has. */
export const AGE: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

/** Version of these definitions; a definition of a newer one is left alone, so that an older replica does not undo it. */
export const SCHEMA_VERSION = 1;
/** Where a definition says its {@link SCHEMA_VERSION}. */
export const SCHEMA_VERSION_LABEL = "weir.dev/crd-schema-version";

/** The CustomResourceDefinition of a kind. */
export function customResource(definition: Definition): KubernetesObject {
  const { resource, shortNames, olderVersions = [], columns, description, properties, required } = definition;
  const { group, version, kind, plural, namespaced } = resource;
  const schema = object({
    apiVersion: text(),
    kind: text(),
    metadata: { type: "object" },
    ...properties,
  }, { description, required: ["metadata", ...required ?? []] });
  const versionOf = (name: string) => ({
    name,
    served: true,
    storage: name === version,
    schema: { openAPIV3Schema: plain(schema) },
    ...(definition.status ? { subresources: { status: {} } } : {}),
    additionalPrinterColumns: columns.map((column) => ({ ...column })),
  });
  return {
    apiVersion: apiVersionOf(RESOURCES.CustomResourceDefinition),
    kind: "CustomResourceDefinition",
    metadata: {
      name: resourceName(resource),
      labels: {
        "app.kubernetes.io/managed-by": "weir",
        [SCHEMA_VERSION_LABEL]: String(SCHEMA_VERSION),
      },
    },
    spec: {
      group,
      scope: namespaced ? "Namespaced" : "Cluster",
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames: [...shortNames],
        categories: ["cilium", "weir"],
      },
      conversion: { strategy: "None" },
      versions: [version, ...olderVersions].map(versionOf),
    },
  };
}

/** The same without fields that are undefined, as a document of YAML or JSON has it. */
function plain(schema: Schema): unknown {
  return JSON.parse(JSON.stringify(schema));
}
