/**
 * Answers of our own to requests that are denied: the request's own response, with the error where its client looks for it.
 * @module
 */

import { encodeMessage, type KafkaStruct, type KafkaValue, KafkaWriter } from "./codec.ts";
import { ApiKey, type KafkaHeader } from "./request.ts";
import { hasVersion, type KafkaApi, type KafkaField } from "./schema.ts";

/** Kafka's codes of errors that we answer. */
export const KafkaErrorCode = {
  TOPIC_AUTHORIZATION_FAILED: 29,
  GROUP_AUTHORIZATION_FAILED: 30,
  CLUSTER_AUTHORIZATION_FAILED: 31,
  UNSUPPORTED_VERSION: 35,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 53,
  FETCH_SESSION_ID_NOT_FOUND: 70,
} as const;

/** Kinds about a group, and about a transaction. */
const GROUP_KEYS = new Set([8, 9, 10, 11, 12, 13, 14, 15, 42, 47, 68, 69]);
const TRANSACTION_KEYS = new Set([22, 24, 25, 26, 28]);
const PARTITION_NAME = /^(Partition|PartitionIndex|Index|PartitionIndexes|PartitionIds|Partitions)$/;

/** Topics with their partitions, as a request names them. */
interface NamedTopic {
  readonly name: string;
  readonly partitions: number[];
}

/** The error that says of a denied request what was denied. */
export function denialCode(apiKey: number, topics: readonly string[] | undefined): number {
  if (topics !== undefined && topics.length > 0) return KafkaErrorCode.TOPIC_AUTHORIZATION_FAILED;
  if (TRANSACTION_KEYS.has(apiKey)) return KafkaErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
  if (GROUP_KEYS.has(apiKey)) return KafkaErrorCode.GROUP_AUTHORIZATION_FAILED;
  return KafkaErrorCode.CLUSTER_AUTHORIZATION_FAILED;
}

/** A whole frame with the answer. */
export function encodeDenial(
  header: KafkaHeader,
  api: KafkaApi,
  body: KafkaStruct,
  code: number,
): Uint8Array {
  const topics: NamedTopic[] = [];
  gather(api.request.fields, header.version, body, topics);
  const response = mirrored(api.response.fields, header.version, topics, code);
  return encodeResponse(header, api, response);
}

/** A whole frame with a response. */
export function encodeResponse(
  header: KafkaHeader,
  api: KafkaApi,
  response: KafkaStruct,
  version = header.version,
): Uint8Array {
  const writer = new KafkaWriter();
  writer.int32(0);
  writer.int32(header.correlationId);
  const flexible = version >= api.flexibleFrom;
  // ApiVersions is answered with a plain header always: who asks does not know yet what the broker speaks.
  if (flexible && api.key !== ApiKey.API_VERSIONS) writer.varint(0);
  encodeMessage(api.response, { version, flexible }, response, writer);
  const { bytes } = writer;
  new DataView(bytes.buffer).setInt32(0, bytes.length - 4);
  return bytes;
}

function gather(
  fields: readonly KafkaField[],
  version: number,
  struct: KafkaStruct,
  found: NamedTopic[],
): void {
  for (const field of fields) {
    const value = struct[field.name];
    if (
      !hasVersion(field.versions, version) || field.type !== "struct" || value === null || value === undefined
    ) {
      if (field.entity === "topicName" && field.array && Array.isArray(value)) {
        for (const name of value) found.push({ name: name as string, partitions: [] });
      }
      continue;
    }
    const inner = field.fields ?? [];
    const named = inner.find((it) =>
      it.entity === "topicName" && !it.array && hasVersion(it.versions, version)
    );
    for (const each of (Array.isArray(value) ? value : [value]) as KafkaStruct[]) {
      if (named === undefined) gather(inner, version, each, found);
      else if (each[named.name] !== null) {
        found.push({ name: each[named.name] as string, partitions: partitionsOf(inner, each) });
      }
    }
  }
}

function partitionsOf(fields: readonly KafkaField[], topic: KafkaStruct): number[] {
  for (const field of fields) {
    const value = topic[field.name];
    if (!Array.isArray(value)) continue;
    if (field.type === "int32" && PARTITION_NAME.test(field.name)) return value as number[];
    const index = field.fields?.find((it) =>
      it.type === "int32" && !it.array && PARTITION_NAME.test(it.name)
    );
    if (index !== undefined) return (value as KafkaStruct[]).map((each) => each[index.name] as number);
  }
  return [];
}

/** The response's form with the request's topics in it, and the error in each place for one. */
function mirrored(
  fields: readonly KafkaField[],
  version: number,
  topics: readonly NamedTopic[],
  code: number,
): KafkaStruct {
  const struct: KafkaStruct = {};
  let isPlaced = false;
  for (const field of fields) {
    if (field.type !== "struct" || !field.array || !hasVersion(field.versions, version)) continue;
    const inner = field.fields ?? [];
    const named = inner.find((it) =>
      it.entity === "topicName" && !it.array && hasVersion(it.versions, version)
    );
    if (named === undefined || topics.length === 0) continue;
    struct[field.name] = topics.map(({ name, partitions }) => ({
      ...withError(inner, version, code),
      ...partitioned(inner, version, partitions, code),
      [named.name]: name,
    }));
    isPlaced = true;
  }
  // With the error on each topic, the whole is in order.
  return isPlaced ? struct : withError(fields, version, code);
}

function partitioned(
  fields: readonly KafkaField[],
  version: number,
  partitions: readonly number[],
  code: number,
): KafkaStruct {
  for (const field of fields) {
    if (field.type !== "struct" || !field.array || !hasVersion(field.versions, version)) continue;
    const inner = field.fields ?? [];
    const index = inner.find((it) => it.type === "int32" && !it.array && PARTITION_NAME.test(it.name));
    if (index === undefined) continue;
    return {
      [field.name]: partitions.map((partition) => ({
        ...withError(inner, version, code),
        [index.name]: partition,
      })),
    };
  }
  return {};
}

function withError(fields: readonly KafkaField[], version: number, code: number): KafkaStruct {
  const struct: KafkaStruct = {};
  for (const field of fields) {
    if (!hasVersion(field.versions, version)) continue;
    if (field.name === "ErrorCode") struct.ErrorCode = code;
    // Offsets and times of what was not done.
    else if (field.type === "int64" && /Offset|Timestamp|TimeMs|Watermark/.test(field.name) && !field.array) {
      struct[field.name] = -1n as KafkaValue;
    }
  }
  return struct;
}
