/** Words for the structural schemas of custom resources (OpenAPI v3 as the API server takes it). @module */

/** A structural schema. */
export interface Schema {
  readonly type?: "object" | "array" | "string" | "integer" | "boolean" | "number";
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly format?: string;
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly not?: Schema;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-list-type"?: "atomic" | "set" | "map";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
}

type More = Omit<Schema, "type" | "properties" | "items">;

/** An object of these fields. */
export function object(properties: Record<string, Schema>, more: More = {}): Schema {
  return { type: "object", properties, ...more };
}

/** An object whose keys anybody may choose. */
export function mapOf(additionalProperties: Schema, more: More = {}): Schema {
  return { type: "object", additionalProperties, ...more };
}

/** An object whose fields nobody checks. */
export function anything(description: string): Schema {
  return { type: "object", "x-kubernetes-preserve-unknown-fields": true, description };
}

/** A list. */
export function listOf(items: Schema, more: More = {}): Schema {
  return { type: "array", items, ...more };
}

/** A text. */
export function text(more: More = {}): Schema {
  return { type: "string", ...more };
}

/** One of these words. */
export function oneWordOf(words: readonly string[], more: More = {}): Schema {
  return { type: "string", enum: words, ...more };
}

/** A whole number. */
export function integer(minimum?: number, maximum?: number, more: More = {}): Schema {
  return { type: "integer", minimum, maximum, ...more };
}

/** True or false. */
export function flag(description?: string): Schema {
  return { type: "boolean", description };
}

/** Exactly one of these fields is there. */
export function exactlyOneOf(...fields: string[]): Pick<Schema, "oneOf"> {
  return { oneOf: fields.map((field) => ({ required: [field] })) };
}

/** At least one of these fields is there. */
export function anyOneOf(...fields: string[]): Pick<Schema, "anyOf"> {
  return { anyOf: fields.map((field) => ({ required: [field] })) };
}

/** `status.conditions`: one of each type, so that several may write theirs. */
export const CONDITIONS: Schema = listOf(
  object({
    type: text(),
    status: oneWordOf(["True", "False", "Unknown"]),
    reason: text(),
    message: text(),
    lastTransitionTime: text({ format: "date-time" }),
    lastUpdateTime: text({ format: "date-time" }),
    observedGeneration: integer(0, undefined, { format: "int64" }),
  }, { required: ["type", "status"] }),
  { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] },
);

/** Selects by labels. Keys may begin with a source: `k8s:app`, `any:app`. */
export function labelSelector(description?: string): Schema {
  return object({
    matchLabels: mapOf(text({ maxLength: 63, pattern: LABEL_VALUE })),
    matchExpressions: listOf(object({
      key: text(),
      operator: oneWordOf(["In", "NotIn", "Exists", "DoesNotExist"]),
      values: listOf(text()),
    }, { required: ["key", "operator"] })),
  }, { description });
}

const LABEL_VALUE = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
