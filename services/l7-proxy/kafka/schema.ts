/**
 * The form of Kafka's messages: fields with the versions that have them. `gen/messages.ts` has them all, made from the definitions
 * that Kafka's own clients are made from.
 * @module
 */

/** Versions from, and to, inclusive. */
export type VersionRange = readonly [from: number, to: number];

/** One field of a struct. */
export interface KafkaField {
  readonly name: string;
  /** bool int8 int16 uint16 int32 uint32 int64 float64 uuid string bytes records struct. */
  readonly type: string;
  /** Of an array: `type` is its elements'. */
  readonly array?: true;
  readonly versions: VersionRange;
  readonly nullable?: VersionRange;
  /** Versions in which it is not in its place but among the tagged ones. */
  readonly tagged?: VersionRange;
  readonly tag?: number;
  /** topicName, groupId, transactionalId. */
  readonly entity?: string;
  /** What it is where nobody says anything, if that is not 0, "", false or empty. */
  readonly default?: number | null;
  /** Of a struct. */
  readonly fields?: readonly KafkaField[];
}

/** A request or response. */
export interface KafkaMessage {
  readonly name: string;
  readonly fields: readonly KafkaField[];
}

/** One kind of request, with its answer. */
export interface KafkaApi {
  readonly key: number;
  readonly name: string;
  /** Versions that are read. */
  readonly versions: VersionRange;
  /** The first version with compact lengths and tagged fields; none: beyond all. */
  readonly flexibleFrom: number;
  readonly request: KafkaMessage;
  readonly response: KafkaMessage;
}

/** Whether a range has a version. */
export function hasVersion(range: VersionRange | undefined, version: number): boolean {
  return range !== undefined && version >= range[0] && version <= range[1];
}
