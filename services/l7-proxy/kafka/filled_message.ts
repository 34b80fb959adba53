/** Messages with something in each field, for tests. @module */
import type { KafkaForm, KafkaStruct, KafkaValue } from "./codec.ts";
import { hasVersion, type KafkaField } from "./schema.ts";

/** A struct with something in each field. */
export function filled(fields: readonly KafkaField[], form: KafkaForm, random: () => number): KafkaStruct {
  const struct: KafkaStruct = {};
  for (const field of fields) {
    if (!hasVersion(field.versions, form.version)) continue;
    if (hasVersion(field.nullable, form.version) && random() < 0.2) struct[field.name] = null;
    else if (field.array) {
      struct[field.name] = Array.from({ length: Math.floor(random() * 3) }, () => one(field, form, random));
    } else struct[field.name] = one(field, form, random);
  }
  return struct;
}

function one(field: KafkaField, form: KafkaForm, random: () => number): KafkaValue {
  const number = Math.floor(random() * 100);
  switch (field.type) {
    case "bool":
      return random() < 0.5;
    case "int64":
      return BigInt(number);
    case "string":
      return "x".repeat(number * (random() < 0.1 ? 5 : 1));
    case "uuid":
      return new Uint8Array(16).fill(number);
    case "bytes":
    case "records":
      return new Uint8Array(number);
    case "struct":
      return filled(field.fields ?? [], form, random);
  }
  return number;
}
