/**
 * Rules about requests to Kafka brokers. All topics of a request must be in the rules together; a rule without a topic has all of them.
 * Requests that are about no topic meet a rule whatever its topic.
 * @module
 */
import type { KafkaRule } from "@weir/proto/l7";
import {
  allowedBy,
  type CompiledRule,
  type Condition,
  deniedBy,
  type Judgement,
  means,
  shown,
} from "./judgement.ts";
import { RuleFault } from "./pattern.ts";
import type { KafkaRequest } from "./request.ts";

/** Most characters of a topic. */
export const TOPIC_LENGTH_MAX = 255;

// By their numbers from 0 on.
const KEYS_FROM_0 = [
  "produce fetch offsets metadata leaderandisr stopreplica updatemetadata controlledshutdown offsetcommit offsetfetch",
  "findcoordinator joingroup heartbeat leavegroup syncgroup describegroups listgroups saslhandshake apiversions",
  "createtopics deletetopics deleterecords initproducerid offsetforleaderepoch addpartitionstotxn addoffsetstotxn",
  "endtxn writetxnmarkers txnoffsetcommit describeacls createacls deleteacls describeconfigs alterconfigs",
  "alterreplicalogdirs describelogdirs saslauthenticate createpartitions createdelegationtoken renewdelegationtoken",
  "expiredelegationtoken describedelegationtoken deletegroups electleaders incrementalalterconfigs",
  "alterpartitionreassignments listpartitionreassignments offsetdelete describeclientquotas alterclientquotas",
  "describeuserscramcredentials alteruserscramcredentials",
].join(" ").split(" ");

/** Numbers of requests by their names in lower case. */
export const KAFKA_API_KEYS: ReadonlyMap<string, number> = new Map([
  ...KEYS_FROM_0.map((name, number): [string, number] => [name, number]),
  ["updatefeatures", 57],
  ["describecluster", 60],
  ["describeproducers", 61],
  ["describetransactions", 65],
  ["listtransactions", 66],
  ["consumergroupheartbeat", 68],
  ["consumergroupdescribe", 69],
  ["gettelemetrysubscriptions", 71],
  ["pushtelemetry", 72],
  ["describetopicpartitions", 75],
]);

// SaslHandshake, SaslAuthenticate, DescribeCluster, telemetry, DescribeTopicPartitions: every client of today.
const EVERY_CLIENT = [17, 36, 60, 71, 72, 75];

/** What a role may do. More than the original lets: without InitProducerId no producer of today works. */
export const KAFKA_ROLES: Readonly<Record<string, readonly number[]>> = {
  produce: [0, 3, 10, 18, 22, 24, 25, 26, 28, ...EVERY_CLIENT],
  consume: [1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 23, 68, 69, ...EVERY_CLIENT],
};

/** The name of a request; its number where it has none here. */
export function kafkaApiName(apiKey: number): string {
  for (const [name, number] of KAFKA_API_KEYS) if (number === apiKey) return name;
  return String(apiKey);
}

/** A rule about requests to brokers, ready. */
export interface CompiledKafkaRule extends CompiledRule<KafkaRequest> {
  /** "": all of them. */
  readonly topic: string;
}

/** @throws {RuleFault} */
export function compileKafkaRule(rule: KafkaRule): CompiledKafkaRule {
  const { topic, clientId, apiVersion } = rule;
  if (topic.length > TOPIC_LENGTH_MAX || !/^[a-zA-Z0-9._-]*$/.test(topic)) {
    throw new RuleFault(
      `${
        shown(topic)
      } is no topic, want at most ${TOPIC_LENGTH_MAX} letters, digits, dots, hyphens and underscores`,
    );
  }
  const conditions: Condition<KafkaRequest>[] = [];
  if (rule.apiKeys.length > 0) {
    const keys = new Set(rule.apiKeys);
    conditions.push({
      holds: ({ apiKey }) => keys.has(apiKey),
      lacks: ({ apiKey }) => `request ${kafkaApiName(apiKey)} is not in ${keysInWords(keys)}`,
    });
  }
  if (apiVersion !== undefined) {
    conditions.push({
      holds: (request) => request.apiVersion === apiVersion,
      lacks: (request) => `version ${request.apiVersion} is not ${apiVersion}`,
    });
  }
  if (clientId !== "") {
    conditions.push({
      holds: (request) => request.clientId === clientId,
      lacks: (request) => `client ${shown(request.clientId)} is not ${shown(clientId)}`,
    });
  }
  if (topic !== "") {
    conditions.push({
      holds: ({ topics }) => topics === undefined || topics.every((one) => one === topic),
      lacks: ({ topics }) =>
        `topic ${shown(topics?.find((one) => one !== topic) ?? "")} is not ${shown(topic)}`,
    });
  }
  return { cookie: rule.cookie, conditions, topic };
}

/** Kinds of requests that a message names. */
const KEYS_NAMED_MAX = 4;

/** `role produce`, or the first few of them. */
function keysInWords(keys: ReadonlySet<number>): string {
  for (const [role, own] of Object.entries(KAFKA_ROLES)) {
    if (own.length === keys.size && own.every((key) => keys.has(key))) return `role ${role}`;
  }
  const named = [...keys].slice(0, KEYS_NAMED_MAX).map(kafkaApiName).join(", ");
  return keys.size > KEYS_NAMED_MAX ? `${named} and ${keys.size - KEYS_NAMED_MAX} more` : named;
}

/** @param deniedCookie of a request of which some topic, or all of it, is in no rule */
export function judgeKafka(
  rules: readonly CompiledKafkaRule[],
  request: KafkaRequest,
  deniedCookie: number,
): Judgement {
  const whole = rules.find((rule) => means(rule, request));
  if (whole !== undefined) return allowedBy(whole.cookie);
  const topics = [...new Set(request.topics)];
  const allowing = rules.filter((rule) => means(rule, { ...request, topics: undefined }));
  const denied = topics.filter((topic) => !allowing.some((rule) => rule.topic === topic));
  if (topics.length === 0 || denied.length > 0) return deniedBy(deniedCookie, denied);
  return allowedBy(allowing.find(({ topic }) => topic === topics[0])!.cookie);
}
