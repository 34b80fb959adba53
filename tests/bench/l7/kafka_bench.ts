/**
 * What judging Kafka's protocol takes beside passing bytes on, and beside no proxy at all: Produce and Fetch of 1 KiB, one at a time and 5 at a time on a connection, and large ones.
 * The broker answers from a recording: no JVM. All in turns, in one run; the ratios are what counts.
 *
 *     deno run -A tests/bench/l7/kafka_bench.ts [--rounds N] [--only TEXT] [--real]
 *
 * With `--real` a real broker (`tests/kafka/build`) takes records of 1 KiB instead, acknowledged one by one: what users see of a proxy between.
 *
 * @module
 */
import { encodeMessage, type KafkaStruct, KafkaWriter } from "../../../services/l7-proxy/kafka/codec.ts";
import { encodeResponse } from "../../../services/l7-proxy/kafka/denial.ts";
import { kafkaApi } from "../../../services/l7-proxy/kafka/request.ts";
import { PYTHON, startKafka } from "../../kafka/kafka_server.ts";
import type { Exchange } from "./recorded_exchange.ts";
import { type Case, measureWays } from "./ways.ts";

const option = (name: string) =>
  Deno.args.includes(name) ? Deno.args[Deno.args.indexOf(name) + 1] : undefined;
const ROUNDS = Number(option("--rounds") ?? 3),
  ONLY = option("--only") ?? "",
  REAL = Deno.args.includes("--real");
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

const produce = (records: Uint8Array) => ({
  TransactionalId: null,
  Acks: -1,
  TimeoutMs: 30_000,
  TopicData: [{ Name: "orders", PartitionData: [{ Index: 1, Records: records }] }],
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
      exchange: exchange(PRODUCE, depth, produce(new Uint8Array(1024)), produced),
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
    exchange: exchange(PRODUCE, 1, produce(new Uint8Array(MIB)), produced),
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

const crcs = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? byte >>> 1 ^ 0x82f63b78 : byte >>> 1;
  return byte;
});

/** One record of so many zeros in a batch of format 2 (Kafka's protocol guide, "Record Batch"). */
function recordBatch(valueBytes: number): Uint8Array {
  const record = new KafkaWriter(), batch = new KafkaWriter();
  const zigzag = (value: number) => record.varint(value * 2);
  record.raw(Uint8Array.of(0));
  zigzag(0);
  zigzag(0);
  // No key.
  record.varint(1);
  zigzag(valueBytes);
  record.raw(new Uint8Array(valueBytes));
  zigzag(0);
  const length = new KafkaWriter();
  length.varint(record.bytes.length * 2);
  batch.int64(0n);
  batch.int32(49 + length.bytes.length + record.bytes.length);
  batch.int32(-1);
  batch.raw(Uint8Array.of(2, 0, 0, 0, 0));
  batch.int16(0);
  batch.int32(0);
  batch.int64(0n);
  batch.int64(0n);
  batch.int64(-1n);
  batch.int16(-1);
  batch.int32(-1);
  batch.int32(1);
  batch.raw(length.bytes);
  batch.raw(record.bytes);
  const bytes = batch.bytes.slice();
  let crc = ~0;
  for (const byte of bytes.subarray(21)) crc = crc >>> 8 ^ crcs[(crc ^ byte) & 255];
  new DataView(bytes.buffer).setUint32(17, ~crc >>> 0);
  return bytes;
}

/** Of a Produce's answer for one partition of "orders", version 12. */
const ERROR_OFFSET = 22;

/** What the broker answers to so many Produce requests at once, each with the same length. Throws where it does not take the record. */
async function recordedProduce(port: number, depth: number): Promise<Exchange> {
  const socket = await Deno.connect({ hostname: "127.0.0.1", port }), buffer = new Uint8Array(64 * 1024);
  const ask = async (request: Uint8Array) => {
    await socket.write(request);
    let had = 0;
    while (had < 4 || had < 4 + new DataView(buffer.buffer).getInt32(0)) {
      const count = await socket.read(buffer.subarray(had));
      if (count === null) throw new Error("The broker hung up");
      had += count;
    }
    return buffer.slice(0, had);
  };
  const sent = produce(recordBatch(1024)), errorOf = (answer: Uint8Array) => answer[ERROR_OFFSET + 1];
  // A new partition has no leader at first.
  for (let tries = 0, error; (error = errorOf(await ask(request(PRODUCE, 0, sent)))) !== 0; tries++) {
    if (tries === 50) throw new Error(`The broker does not take the record: error ${error}`);
    await new Promise((done) => setTimeout(done, 200));
  }
  const requests = Array.from({ length: depth }, (_, id) => request(PRODUCE, id + 1, sent));
  const answers: Uint8Array[] = [];
  for (const one of requests) answers.push(await ask(one));
  socket.close();
  return { greetings: [], requests, answers };
}

if (REAL) {
  const ports = { server: 19_292, proxy: 19_293, direct: 19_294, controller: 19_295 };
  await using broker = await startKafka(ports);
  const topics = new URL("../../kafka/clients/topics.py", import.meta.url).pathname;
  const made = await new Deno.Command(PYTHON, { args: [topics, `${ports.direct}`, "orders"] }).output();
  if (!made.success) throw new Error(new TextDecoder().decode(made.stderr));
  const server = { port: ports.direct, pid: broker.process.pid };
  const real: Case[] = [];
  for (const [depth, connections] of [[1, 1], [1, 8], [5, 1], [5, 8]]) {
    real.push({
      name: `Produce of 1 KiB at a real broker, ${connections} connections, ${depth} at a time`,
      exchange: await recordedProduce(ports.direct, depth),
      server,
      connections,
      requests: 8000 / connections,
    });
  }
  await measureWays("kafka", real.filter(({ name }) => name.includes(ONLY)), ROUNDS);
} else await measureWays("kafka", cases.filter(({ name }) => name.includes(ONLY)), ROUNDS);
