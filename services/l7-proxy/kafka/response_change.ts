/**
 * The two answers that are changed: ApiVersions offers what is read here, Metadata shows the topics that may be seen.
 * @module
 */

import {
  decodeMessage,
  encodeMessage,
  KafkaFormError,
  KafkaReader,
  type KafkaStruct,
  KafkaWriter,
} from "./codec.ts";
import { encodeResponse, KafkaErrorCode } from "./denial.ts";
import { ANSWER_ELEMENTS_MAX } from "./limits.ts";
import { kafkaApi, type KafkaHeader } from "./request.ts";

/** What of a Metadata may be seen. */
export interface MetadataChange {
  /** Topics that were asked for and are shown with the error. */
  readonly denied: readonly string[];
  readonly sees: (topic: string) => boolean;
}

const LENGTH_AND_ID_BYTES = 8;

/** The answer to ApiVersions with the kinds and versions that both read. Throws KafkaFormError. */
export function cappedVersions(header: KafkaHeader, frame: Uint8Array): Uint8Array {
  const api = header.api!;
  // A broker that does not know the version answers in the first one's form.
  const version = new DataView(frame.buffer, frame.byteOffset).getInt16(LENGTH_AND_ID_BYTES) ===
      KafkaErrorCode.UNSUPPORTED_VERSION
    ? 0
    : header.version;
  const flexible = version >= api.flexibleFrom;
  const response = read(header, frame, { version, flexible });
  const offered = response.ApiKeys as KafkaStruct[];
  response.ApiKeys = offered.flatMap((each) => {
    const known = kafkaApi(each.ApiKey as number);
    if (known === undefined) return [];
    const MinVersion = Math.max(each.MinVersion as number, known.versions[0]);
    const MaxVersion = Math.min(each.MaxVersion as number, known.versions[1]);
    return MinVersion > MaxVersion ? [] : [{ ...each, MinVersion, MaxVersion }];
  });
  return encodeResponse(header, api, response, version);
}

/** The request without the topics that are denied. */
export function metadataRequest(
  header: KafkaHeader,
  body: KafkaStruct,
  denied: readonly string[],
): Uint8Array {
  const topics = (body.Topics as KafkaStruct[]).filter(({ Name }) => !denied.includes(Name as string));
  const writer = new KafkaWriter();
  writer.int32(0);
  writer.int16(header.apiKey);
  writer.int16(header.version);
  writer.int32(header.correlationId);
  const clientId = new TextEncoder().encode(header.clientId);
  writer.int16(clientId.length);
  writer.raw(clientId);
  if (header.form.flexible) writer.varint(0);
  encodeMessage(header.api!.request, header.form, { ...body, Topics: topics }, writer);
  const { bytes } = writer;
  new DataView(bytes.buffer).setInt32(0, bytes.length - 4);
  return bytes;
}

/** The answer to Metadata without the topics that may not be seen. Throws KafkaFormError. */
export function metadataResponse(
  header: KafkaHeader,
  frame: Uint8Array,
  { denied, sees }: MetadataChange,
): Uint8Array {
  const response = read(header, frame, header.form);
  const topics = response.Topics as KafkaStruct[];
  const seen = topics.filter(({ Name }) =>
    Name === null || (!denied.includes(Name as string) && sees(Name as string))
  );
  if (seen.length === topics.length && denied.length === 0) return frame;
  const refused = denied.map((Name) => ({
    ErrorCode: KafkaErrorCode.TOPIC_AUTHORIZATION_FAILED,
    Name,
    Partitions: [],
  }));
  return encodeResponse(header, header.api!, { ...response, Topics: [...seen, ...refused] });
}

function read(header: KafkaHeader, frame: Uint8Array, form: KafkaHeader["form"]): KafkaStruct {
  const reader = new KafkaReader(frame, ANSWER_ELEMENTS_MAX);
  reader.at = LENGTH_AND_ID_BYTES;
  const api = header.api!;
  if (form.flexible && api.key !== 18) reader.skipTags();
  const response = decodeMessage(api.response, form, reader);
  if (reader.rest > 0) {
    throw new KafkaFormError(`the answer to ${api.name} has ${reader.rest} bytes too many`);
  }
  return response;
}
