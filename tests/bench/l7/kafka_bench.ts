/**
 * What judging Kafka's protocol takes beside passing bytes on, and beside no proxy at all: Produce and Fetch of 1 KiB, one at a time and 5 at a time on a connection, and large ones.
 * The broker answers from a recording: no JVM. All in turns, in one run; the ratios are what counts.
 *
 *     deno run -A tests/bench/l7/kafka_bench.ts [--rounds N] [--only TEXT]
 *
 * @module
 */
import { encodeMessage, type KafkaStruct, KafkaWriter } from "../../../services/l7-proxy/kafka/codec.ts";
import { encodeResponse } from "../../../services/l7-proxy/kafka/denial.ts";
import { kafkaApi } from "../../../services/l7-proxy/kafka/request.ts";
import type { Exchange } from "./recorded_exchange.ts";
import { type Case, measureWays } from "./ways.ts";

const option = (name: string) =>
  Deno.args.includes(name) ? Deno.args[Deno.args.indexOf(name) + 1] : undefined;
const ROUNDS = Number(option("--rounds") ?? 3), ONLY = option("--only") ?? "";
const MIB = 1 << 20, PRODUCE = 0, FETCH = 1, VERSION = 12;

function request(key: number, correlationId: number, body: KafkaStruct): Uint8Array {
  const api = kafkaApi(key)!, writer = new KafkaWriter(), clientId = new TextEncoder().encode("shop");
  writer.int32(0);
  writer.int16(key);
  writer.int16(VERSION);
  writer.int32(correlationId);
  writer.int16(clientId.length);
  writer.raw(clientId);
  writer.varint(0);
  encodeMessage(api.request, { version: VERSION, flexible: true }, body, writer);
  const bytes = writer.bytes.slice();
  new DataView(bytes.buffer).setInt32(0, bytes.length - 4);
  return bytes;
}

function response(key: number, correlationId: number, body: KafkaStruct): Uint8Array {
  const api = kafkaApi(key)!, form = { version: VERSION, flexible: true };
  return encodeResponse({ apiKey: key, version: VERSION, correlationId, clientId: "", api, form }, api, body);
}

const produce = (bytes: number) => ({
  TransactionalId: null,
  Acks: -1,
  TimeoutMs: 30_000,
  TopicData: [{ Name: "orders", PartitionData: [{ Index: 1, Records: new Uint8Array(bytes) }] }],
});
const fetch = {
  SessionEpoch: -1,
  Topics: [{ Topic: "orders", Partitions: [{ Partition: 1, FetchOffset: 7n, PartitionMaxBytes: MIB }] }],
};
const produced = {
  Responses: [{ Name: "orders", PartitionResponses: [{ Index: 1, ErrorCode: 0, BaseOffset: 7n }] }],
};
const fetched = (bytes: number) => ({
  Responses: [{ Topic: "orders", Partitions: [{ PartitionIndex: 1, Records: new Uint8Array(bytes) }] }],
});

function exchange(key: number, depth: number, sent: KafkaStruct, answered: KafkaStruct): Exchange {
  const ids = Array.from({ length: depth }, (_, id) => id + 1);
  return {
    greetings: [],
    requests: ids.map((id) => request(key, id, sent)),
    answers: ids.map((id) => response(key, id, answered)),
  };
}

const cases: Case[] = [];
for (const depth of [1, 5]) {
  const all = depth === 1 ? { connections: 4, requests: 4000 } : { connections: 2, requests: 10_000 };
  cases.push(
    {
      ...all,
      name: `Produce of 1 KiB, ${depth} at a time`,
      exchange: exchange(PRODUCE, depth, produce(1024), produced),
    },
    {
      ...all,
      name: `Fetch of 1 KiB, ${depth} at a time`,
      exchange: exchange(FETCH, depth, fetch, fetched(1024)),
    },
  );
}
cases.push(
  {
    name: "Produce of 1 MiB",
    exchange: exchange(PRODUCE, 1, produce(MIB), produced),
    connections: 2,
    requests: 64,
    unit: "MiB",
  },
  {
    name: "Fetch of 64 MiB",
    exchange: exchange(FETCH, 1, fetch, fetched(64 * MIB)),
    connections: 2,
    requests: 2,
    units: 256,
    unit: "MiB",
  },
);
await measureWays("kafka", cases.filter(({ name }) => name.includes(ONLY)), ROUNDS);
