/**
 * Requests: their header, and the topics that they are about.
 * @module
 */

import {
  decodeMessage,
  type KafkaForm,
  KafkaFormError,
  type KafkaReader,
  type KafkaStruct,
  type KafkaValue,
} from "./codec.ts";
import { KAFKA_APIS } from "./gen/messages.ts";
import { TOPIC_LENGTH_MAX } from "./limits.ts";
import { hasVersion, type KafkaApi, type KafkaField } from "./schema.ts";

const APIS: ReadonlyMap<number, KafkaApi> = new Map(KAFKA_APIS.map((api) => [api.key, api]));

/** Numbers of kinds that are treated for themselves. */
export const ApiKey = { PRODUCE: 0, FETCH: 1, METADATA: 3, API_VERSIONS: 18 } as const;

/** A request's header. */
export interface KafkaHeader {
  readonly apiKey: number;
  readonly version: number;
  readonly correlationId: number;
  readonly clientId: string;
  /** Undefined: this kind, or this version of it, is not read. */
  readonly api: KafkaApi | undefined;
  readonly form: KafkaForm;
}

/** The kind with this number. */
export function kafkaApi(key: number): KafkaApi | undefined {
  return APIS.get(key);
}

/** Reads the header; of a kind or version that is not read only what each has. Throws KafkaFormError. */
export function readKafkaHeader(reader: KafkaReader): KafkaHeader {
  const apiKey = reader.int16(), version = reader.int16(), correlationId = reader.int32();
  const known = APIS.get(apiKey);
  const api = known !== undefined && hasVersion(known.versions, version) ? known : undefined;
  const flexible = api !== undefined && version >= api.flexibleFrom;
  // Its length is never compact.
  const clientId = reader.text(false) ?? "";
  if (flexible) reader.skipTags();
  return { apiKey, version, correlationId, clientId, api, form: { version, flexible } };
}

/** Bytes behind a request's end: librdkafka leaves 3 behind a Metadata for all topics. Brokers do not look at them. */
const BYTES_BEHIND_MAX = 16;

/** Reads a whole request behind its header. Throws KafkaFormError. */
export function readKafkaBody(api: KafkaApi, form: KafkaForm, reader: KafkaReader): KafkaStruct {
  const body = decodeMessage(api.request, form, reader);
  if (reader.rest > BYTES_BEHIND_MAX) {
    throw new KafkaFormError(`${api.name} has ${reader.rest} bytes too many`);
  }
  return body;
}

/** Topics of a request, each once; undefined: requests of this kind are about none. */
export function topicsOf(api: KafkaApi, form: KafkaForm, body: KafkaStruct): string[] | undefined {
  if (!isAboutTopics(api, form.version)) return undefined;
  const found = new Set<string>();
  collect(api.request.fields, form.version, body, found);
  return [...found];
}

/** By version; found out once. */
const aboutTopics = new WeakMap<KafkaApi, boolean[]>();

function isAboutTopics(api: KafkaApi, version: number): boolean {
  let known = aboutTopics.get(api);
  if (known === undefined) aboutTopics.set(api, known = []);
  return known[version] ??= namesTopics(api.request.fields, version);
}

function namesTopics(fields: readonly KafkaField[], version: number): boolean {
  return fields.some(({ versions, entity, fields }) =>
    hasVersion(versions, version) && (entity === "topicName" || namesTopics(fields ?? [], version))
  );
}

function collect(
  fields: readonly KafkaField[],
  version: number,
  struct: KafkaStruct,
  found: Set<string>,
): void {
  for (const field of fields) {
    const value = struct[field.name];
    if (value === undefined || value === null || !hasVersion(field.versions, version)) continue;
    const all: KafkaValue[] = Array.isArray(value) ? value : [value];
    if (field.entity === "topicName") {
      for (const each of all) if (typeof each === "string") found.add(topicName(each));
    } else if (field.type === "struct") {
      for (const each of all) collect(field.fields ?? [], version, each as KafkaStruct, found);
    }
  }
}

/** Names go into records and texts. Throws {@link KafkaFormError}. */
function topicName(name: string): string {
  if (name.length <= TOPIC_LENGTH_MAX) return name;
  throw new KafkaFormError(
    `a topic's name of ${name.length} characters, at most ${TOPIC_LENGTH_MAX} are read`,
  );
}

/**
 * The topic of a Produce of which only the beginning is there, if it is about one alone; undefined: it is about several, or more is
 * needed to tell.
 */
export function onlyTopicOf(form: KafkaForm, start: KafkaReader): string | undefined {
  try {
    start.text(form.flexible);
    start.int16();
    start.int32();
    const topics = form.flexible ? start.varint() - 1 : start.int32();
    const topic = topics === 1 ? start.text(form.flexible) : null;
    return topic === null ? undefined : topicName(topic);
  } catch (error) {
    if (!(error instanceof KafkaFormError)) throw error;
    return undefined;
  }
}
