/** JSON schemas of messages, as protobuf's JSON mapping has them in this repository: from the same descriptors. @module */
import protobuf from "protobufjs/light";
import { INT_RANGE, LONGS, WRAPPERS } from "./codec.ts";
import { descriptions } from "./gen/descriptions.ts";
import { lookUp } from "./root.ts";

/** A JSON schema (draft 2020-12). */
export type JsonSchema = Record<string, unknown>;

/**
 * Schemas of these messages and of all that they contain, by full protobuf name. Names that are no message are left out.
 * @param refOf the `$ref` to the schema of a name
 */
export function messageSchemas(
  names: Iterable<string>,
  refOf: (name: string) => string,
): Record<string, JsonSchema> {
  const schemas: Record<string, JsonSchema> = {};
  const add = (type: protobuf.Type | protobuf.Enum): JsonSchema => {
    const name = type.fullName.slice(1);
    if (!(name in schemas)) {
      schemas[name] = {}; // a message may contain itself
      schemas[name] = type instanceof protobuf.Enum ? enumSchema(type) : objectSchema(type, add);
    }
    return { $ref: refOf(name) };
  };
  for (const name of names) {
    const found = lookUp(name);
    if (found instanceof protobuf.Type) add(found);
  }
  return schemas;
}

type Add = (type: protobuf.Type | protobuf.Enum) => JsonSchema;

function enumSchema(type: protobuf.Enum): JsonSchema {
  const values = Object.keys(type.values);
  const name = type.fullName.slice(1);
  const notes = values.filter((value) => descriptions[`${name}.${value}`] !== undefined)
    .map((value) => `${value}: ${descriptions[`${name}.${value}`]}`);
  const text = [descriptions[name] ?? "", ...notes].filter((line) => line !== "").join("\n");
  return { type: "string", enum: values, ...described(text) };
}

function objectSchema(type: protobuf.Type, add: Add): JsonSchema {
  const name = type.fullName.slice(1);
  const properties: Record<string, JsonSchema> = {};
  for (const field of type.fieldsArray) {
    field.resolve();
    const one = valueSchema(field, add);
    const schema = field.repeated
      ? { type: "array", items: one }
      : field.map
      ? { type: "object", additionalProperties: one }
      : one;
    properties[field.name] = { ...schema, ...described(descriptions[`${name}.${field.name}`]) };
  }
  // Defaults are left out, so no property is required.
  return { type: "object", properties, additionalProperties: false, ...described(descriptions[name]) };
}

function valueSchema(field: protobuf.Field, add: Add): JsonSchema {
  const type = field.resolvedType;
  if (type instanceof protobuf.Enum) return add(type);
  if (type instanceof protobuf.Type) {
    if (type.fullName === ".google.protobuf.Timestamp") return { type: "string", format: "date-time" };
    if (type.fullName === ".google.protobuf.FieldMask") return { type: "string" };
    if (WRAPPERS.test(type.fullName)) return scalarSchema(type.fields.value.type);
    return add(type);
  }
  return scalarSchema(field.type);
}

function scalarSchema(type: string): JsonSchema {
  if (LONGS.has(type)) return { type: ["string", "integer"], format: "int64", pattern: "^-?[0-9]+$" };
  if (type in INT_RANGE) {
    const [minimum, maximum] = INT_RANGE[type];
    return { type: "integer", minimum, maximum };
  }
  switch (type) {
    case "bool":
      return { type: "boolean" };
    case "bytes":
      return { type: "string", contentEncoding: "base64" };
    case "float":
    case "double":
      return { type: "number", format: type };
    default:
      return { type: "string" };
  }
}

function described(text: string | undefined): JsonSchema {
  return text ? { description: text } : {};
}
