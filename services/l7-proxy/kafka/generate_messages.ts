/**
 * Writes gen/messages.ts from the message definitions in Kafka's own client library (`common/message/*.json` of the Maven package
 * org.apache.kafka:kafka-clients), for a newer Kafka:
 *
 *     deno run -A services/l7-proxy/kafka/generate_messages.ts DIRECTORY
 *
 * @module
 */

import type { KafkaApi, KafkaField, VersionRange } from "./schema.ts";

/**
 * What is read, and up to which version: up to where topics have names. Beyond (Produce and Fetch 13, DeleteTopics 6, ...) they are
 * numbers that only the brokers can tell. SaslHandshake 0 has frames without a header behind it.
 */
const READ: Record<number, { from?: number; to?: number }> = {
  0: { to: 12 },
  1: { to: 12 },
  8: { to: 9 },
  // Beyond, several groups, keys or transactions share one request.
  9: { to: 7 },
  10: { to: 3 },
  24: { to: 3 },
  17: { from: 1 },
  20: { to: 5 },
};
for (const key of "2 3 11 12 13 14 15 16 18 19 21 22 23 25 26 28 36 37 42 47 60 61 68 69 71 72".split(" ")) {
  READ[Number(key)] = {};
}

interface Definition {
  apiKey: number;
  name: string;
  validVersions: string;
  flexibleVersions: string;
  fields: DefinedField[];
  commonStructs?: { name: string; fields: DefinedField[] }[];
}
interface DefinedField {
  name: string;
  type: string;
  versions: string;
  nullableVersions?: string;
  taggedVersions?: string;
  tag?: number;
  entityType?: string;
  default?: string | number;
  fields?: DefinedField[];
}

const BEYOND = 32_767;
const PRIMITIVES = new Set(
  "bool int8 int16 uint16 int32 uint32 int64 float64 uuid string bytes records".split(" "),
);
const KEPT_ENTITIES = new Set(["topicName", "groupId", "transactionalId"]);

function range(text: string): VersionRange {
  if (text === "none") return [1, 0];
  if (text.endsWith("+")) return [Number(text.slice(0, -1)), BEYOND];
  const [from, to = from] = text.split("-").map(Number);
  return [from, to];
}

function fieldOf(field: DefinedField, structs: Map<string, DefinedField[]>): KafkaField {
  const array = field.type.startsWith("[]");
  const type = array ? field.type.slice(2) : field.type;
  const isStruct = !PRIMITIVES.has(type);
  const fields = isStruct
    ? (field.fields ?? structs.get(type)!).map((it) => fieldOf(it, structs))
    : undefined;
  let initial: number | null | undefined;
  if (field.default === "null") initial = null;
  else if (field.default !== undefined && /^-?\d+$/.test(`${field.default}`)) initial = Number(field.default);
  return {
    name: field.name,
    type: isStruct ? "struct" : type,
    array: array ? true : undefined,
    versions: range(field.versions),
    nullable: field.nullableVersions === undefined ? undefined : range(field.nullableVersions),
    tagged: field.taggedVersions === undefined ? undefined : range(field.taggedVersions),
    tag: field.tag,
    entity: KEPT_ENTITIES.has(field.entityType ?? "") ? field.entityType : undefined,
    default: initial,
    fields,
  };
}

function read(directory: string, name: string): Definition {
  const text = Deno.readTextFileSync(`${directory}/${name}`);
  return JSON.parse(text.split("\n").filter((line) => !/^\s*\/\//.test(line)).join("\n"));
}

function messageOf({ name, fields, commonStructs = [] }: Definition) {
  const structs = new Map<string, DefinedField[]>(commonStructs.map((it) => [it.name, it.fields]));
  const walk = (all: DefinedField[]) => {
    for (const each of all) {
      if (each.fields === undefined) continue;
      structs.set(each.type.replace("[]", ""), each.fields);
      walk(each.fields);
    }
  };
  walk(fields);
  return { name, fields: fields.map((it) => fieldOf(it, structs)) };
}

const [directory] = Deno.args;
const apis: KafkaApi[] = [];
for (const { name: file } of Deno.readDirSync(directory)) {
  if (!file.endsWith("Request.json")) continue;
  const request = read(directory, file);
  const read_ = READ[request.apiKey];
  if (read_ === undefined) continue;
  const response = read(directory, file.replace("Request", "Response"));
  const [from, to] = range(request.validVersions);
  apis.push({
    key: request.apiKey,
    name: request.name.replace(/Request$/, ""),
    versions: [Math.max(from, read_.from ?? 0), Math.min(to, read_.to ?? BEYOND)],
    flexibleFrom: request.flexibleVersions === "none" ? BEYOND : range(request.flexibleVersions)[0],
    request: messageOf(request),
    response: messageOf(response),
  });
}
apis.sort((a, b) => a.key - b.key);
const out = new URL("gen/messages.ts", import.meta.url);
Deno.writeTextFileSync(
  out,
  `// Written by services/l7-proxy/kafka/generate_messages.ts from the definitions of Kafka's client library. Do not edit.\n` +
    `import type { KafkaApi } from "../schema.ts";\n\n` +
    `/** Requests that are read, by number. */\nexport const KAFKA_APIS: readonly KafkaApi[] = [\n` +
    apis.map((api) => JSON.stringify(api)).join(",\n") + ",\n];\n",
);
console.log(`${apis.length} kinds of requests`);
