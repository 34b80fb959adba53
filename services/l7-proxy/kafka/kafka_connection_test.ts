import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { decodeMessage, encodeMessage, KafkaReader, type KafkaStruct, KafkaWriter } from "./codec.ts";
import { encodeResponse } from "./denial.ts";
import { KafkaConnection } from "./kafka_connection.ts";
import {
  KafkaShared,
  PENDING_MAX,
  PRODUCE_HELD_BYTES,
  REQUEST_ELEMENTS_MAX,
  REQUEST_HELD_BYTES_MAX,
} from "./limits.ts";
import { kafkaApi } from "./request.ts";
import type { KafkaEvent, KafkaQuestion } from "./verdict.ts";

const concat = (...parts: Uint8Array[]) => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

function request(key: number, version: number, correlationId: number, body: KafkaStruct): Uint8Array {
  const api = kafkaApi(key);
  const flexible = api !== undefined && version >= api.flexibleFrom;
  const writer = new KafkaWriter();
  writer.int32(0);
  writer.int16(key);
  writer.int16(version);
  writer.int32(correlationId);
  writer.int16(4);
  writer.raw(new TextEncoder().encode("shop"));
  if (flexible) writer.varint(0);
  if (api !== undefined) encodeMessage(api.request, { version, flexible }, body, writer);
  const bytes = writer.bytes.slice();
  new DataView(bytes.buffer).setInt32(0, bytes.length - 4);
  return bytes;
}

const headerOf = (key: number, version: number, correlationId: number) => {
  const api = kafkaApi(key)!;
  return {
    apiKey: key,
    version,
    correlationId,
    clientId: "shop",
    api,
    form: { version, flexible: version >= api.flexibleFrom },
  };
};

function response(key: number, version: number, correlationId: number, body: KafkaStruct = {}): Uint8Array {
  return encodeResponse(headerOf(key, version, correlationId), kafkaApi(key)!, body);
}

/** Reads frames: correlation id and body. */
function answers(
  bytes: Uint8Array,
  kinds: Record<number, [key: number, version: number]>,
): [number, KafkaStruct][] {
  const found: [number, KafkaStruct][] = [];
  for (let at = 0; at < bytes.length;) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at);
    const length = view.getInt32(0), id = view.getInt32(4);
    const [key, version] = kinds[id];
    const api = kafkaApi(key)!;
    const flexible = version >= api.flexibleFrom;
    const reader = new KafkaReader(bytes.subarray(at + 8, at + 4 + length));
    if (flexible && key !== 18) reader.skipTags();
    found.push([id, decodeMessage(api.response, { version, flexible }, reader)]);
    assert.equal(reader.rest, 0);
    at += 4 + length;
  }
  return found;
}

class Bed {
  readonly events: KafkaEvent[] = [];
  readonly asked: KafkaQuestion[] = [];
  readonly shared = new KafkaShared();
  readonly connection: KafkaConnection;
  toServer = new Uint8Array(0);
  toClient = new Uint8Array(0);
  close: string | null = null;

  constructor(
    public allow: (question: KafkaQuestion) => boolean = ({ topics }) =>
      (topics ?? []).every((it) => it === "orders"),
  ) {
    this.connection = new KafkaConnection({
      shared: this.shared,
      judge: (question) => {
        this.asked.push(question);
        return {
          allowed: this.allow(question),
          ends: [{ side: "EGRESS", allowed: this.allow(question), cookie: 7 }],
          text: "no",
          closes: "",
        };
      },
      now: () => 5,
      record: (event) => this.events.push(event),
    });
  }
  client(...parts: Uint8Array[]): this {
    return this.#take(this.connection.fromClient(concat(...parts)));
  }
  server(...parts: Uint8Array[]): this {
    return this.#take(this.connection.fromServer(concat(...parts)));
  }
  #take({ toServer, toClient, close }: ReturnType<KafkaConnection["fromClient"]>): this {
    this.toServer = concat(...toServer);
    this.toClient = concat(...toClient);
    this.close = close;
    return this;
  }
}

const produce = (topics: string[], acks = -1, bytes = 10): KafkaStruct => ({
  TransactionalId: null,
  Acks: acks,
  TimeoutMs: 1000,
  TopicData: topics.map((Name) => ({
    Name,
    PartitionData: [{ Index: 1, Records: new Uint8Array(bytes) }, {
      Index: 3,
      Records: new Uint8Array(bytes),
    }],
  })),
});
const fetch = (topics: string[], SessionEpoch: number): KafkaStruct => ({
  SessionId: SessionEpoch > 0 ? 9 : 0,
  SessionEpoch,
  Topics: topics.map((Topic) => ({ Topic, Partitions: [{ Partition: 2 }] })),
});

Deno.test("KafkaConnection forwards what is allowed and answers what is not, in every version and in the order of requests", () => {
  for (let version = 3; version <= 12; version++) {
    const bed = new Bed();
    const good = request(0, version, 1, produce(["orders"]));
    bed.client(good);
    assert.deepEqual(bed.toServer, good);
    bed.client(
      request(0, version, 2, produce(["orders", "secret"])),
      request(0, version, 3, produce(["secret"], 0)),
    );
    assert.equal(bed.toServer.length, 0);
    assert.equal(bed.toClient.length, 0, "its turn comes behind the first");
    const first = response(0, version, 1, { Responses: [{ Name: "orders", PartitionResponses: [] }] });
    bed.server(first.subarray(0, 9));
    bed.server(first.subarray(9));
    const [, [id, denied]] = answers(concat(first, bed.toClient.subarray(first.length - 9)), {
      1: [0, version],
      2: [0, version],
    });
    assert.equal(id, 2);
    const topics = denied.Responses as KafkaStruct[];
    assert.deepEqual(topics.map(({ Name }) => Name), ["orders", "secret"]);
    const partitions = topics[1].PartitionResponses as KafkaStruct[];
    assert.deepEqual(partitions.map(({ Index, ErrorCode, BaseOffset }) => [Index, ErrorCode, BaseOffset]), [[
      1,
      29,
      -1n,
    ], [3, 29, -1n]]);
    assert.equal(bed.connection.pending, 0, "acks 0 has no answer");
    assert.deepEqual(bed.events.map(({ type, verdict, errorCode }) => [type, verdict, errorCode]), [
      ["request", "forwarded", 0],
      ["request", "denied", 29],
      ["request", "denied", 29],
      ["response", "forwarded", 0],
    ]);
    bed.connection.end();
    assert.equal(bed.shared.heldBytes, 0);
  }
});

Deno.test("KafkaConnection answers each kind that is denied with a response that its client can read", () => {
  for (let key = 0; key < 80; key++) {
    const api = kafkaApi(key);
    if (api === undefined) continue;
    for (let version = api.versions[0]; version <= api.versions[1]; version++) {
      const bed = new Bed(() => false);
      bed.client(request(key, version, 4, key === 0 ? produce(["secret"]) : {}));
      assert.equal(bed.toServer.length, 0, api.name);
      assert.equal(answers(bed.toClient, { 4: [key, version] })[0][0], 4, api.name);
    }
  }
});

Deno.test("KafkaConnection offers the versions that it reads", () => {
  for (let version = 0; version <= 4; version++) {
    const bed = new Bed().client(
      request(18, version, 1, { ClientSoftwareName: "x", ClientSoftwareVersion: "1" }),
    );
    const offered = [[0, 0, 13], [1, 4, 18], [3, 0, 13], [18, 0, 4], [33, 0, 2], [75, 0, 0], [1000, 0, 9]];
    bed.server(
      response(18, version, 1, {
        ApiKeys: offered.map(([ApiKey, MinVersion, MaxVersion]) => ({ ApiKey, MinVersion, MaxVersion })),
      }),
    );
    const [[, { ApiKeys }]] = answers(bed.toClient, { 1: [18, version] });
    assert.deepEqual((ApiKeys as KafkaStruct[]).map((it) => [it.ApiKey, it.MinVersion, it.MaxVersion]), [
      [0, 3, 12],
      [1, 4, 12],
      [3, 0, 13],
      [18, 0, 4],
    ]);
  }
  const newer = new Bed().client(request(18, 9, 1, {}));
  const [[, { ErrorCode }]] = answers(newer.toClient, { 1: [18, 0] });
  assert.equal(ErrorCode, 35);
});

Deno.test("KafkaConnection shows in Metadata the topics that may be seen, and the error of those that were asked for", () => {
  for (let version = 0; version <= 13; version++) {
    const at = { 1: [3, version], 2: [3, version] } as Record<number, [number, number]>;
    const bed = new Bed().client(
      request(3, version, 1, { Topics: ["orders", "secret"].map((Name) => ({ Name })) }),
    );
    const reader = new KafkaReader(bed.toServer);
    reader.at = 4 + 2 + 2 + 4 + 2 + 4;
    const { form, api } = headerOf(3, version, 1);
    if (form.flexible) reader.skipTags();
    assert.deepEqual(
      (decodeMessage(api.request, form, reader).Topics as KafkaStruct[]).map(({ Name }) => Name),
      ["orders"],
    );
    const shown = (names: string[]) => ({
      Topics: names.map((Name) => ({ ErrorCode: 0, Name, Partitions: [] })),
      Brokers: [{ NodeId: 1, Host: "a", Port: 9 }],
    });
    bed.server(response(3, version, 1, shown(["orders"])));
    const [[, asked]] = answers(bed.toClient, at);
    assert.deepEqual((asked.Topics as KafkaStruct[]).map(({ Name, ErrorCode }) => [Name, ErrorCode]), [[
      "orders",
      0,
    ], ["secret", 29]]);
    assert.equal((asked.Brokers as KafkaStruct[])[0].Host, "a");
    // All topics.
    bed.client(request(3, version, 2, { Topics: version === 0 ? [] : null }));
    bed.server(response(3, version, 2, shown(["a", "orders", "secret"])));
    const [[, all]] = answers(bed.toClient, at);
    assert.deepEqual((all.Topics as KafkaStruct[]).map(({ Name }) => Name), ["orders"]);
  }
});

Deno.test("KafkaConnection passes a large Produce to one topic as it comes", () => {
  for (const version of [8, 9]) {
    const bed = new Bed();
    const large = request(0, version, 1, produce(["orders"], 1, 2_000_000));
    let passed = 0;
    for (let at = 0; at < large.length; at += 65_536) {
      bed.client(large.subarray(at, at + 65_536));
      passed += bed.toServer.length;
      assert.ok(bed.shared.heldBytes <= 2 * PRODUCE_HELD_BYTES);
    }
    assert.equal(passed, large.length);
    assert.equal(bed.connection.pending, 1);
    bed.client(request(0, version, 2, produce(["secret"], 1, 1_000_000)));
    assert.equal(bed.toServer.length, 0);
    bed.server(response(0, version, 1, { Responses: [] }));
    assert.deepEqual(answers(bed.toClient, { 1: [0, version], 2: [0, version] }).map(([id]) => id), [1, 2]);
    assert.equal(
      bed.client(request(0, version, 3, produce(["orders"], 0, 100_000))).connection.pending,
      0,
      "acks 0",
    );
  }
});

Deno.test("KafkaConnection judges a fetch session by all that it has", () => {
  const bed = new Bed();
  bed.client(request(1, 12, 1, fetch([], 5)));
  assert.equal(answers(bed.toClient, { 1: [1, 12] })[0][1].ErrorCode, 70, "of another connection");
  bed.client(request(1, 12, 2, fetch(["orders"], 0))).server(response(1, 12, 2, { SessionId: 9 }));
  const more = request(1, 12, 3, fetch([], 1));
  assert.deepEqual(bed.client(more).toServer, more);
  bed.server(response(1, 12, 3));
  bed.allow = ({ topics }) => !topics?.includes("orders");
  bed.client(request(1, 12, 4, fetch([], 2)));
  assert.deepEqual([bed.toServer.length, bed.close], [0, "fetch-session-denied"]);
});

Deno.test("KafkaConnection closes where it is confused, and says why", () => {
  const int32 = (value: number) => new Uint8Array([value >> 24, value >> 16, value >> 8, value]);
  const cases: [RegExp, (bed: Bed) => Bed][] = [
    [/TLS on a port/, (bed) => bed.client(new Uint8Array([0x16, 3, 1, 2, 0, 1]))],
    [/a request of 3 bytes/, (bed) => bed.client(int32(3))],
    [/a request of -1 bytes/, (bed) => bed.client(int32(-1))],
    [/a request of 104857601 bytes/, (bed) => bed.client(int32(100 * 1024 * 1024 + 1))],
    [/request 7 of version 0 is not read/, (bed) => bed.client(request(7, 0, 1, {}))],
    [/Produce of version 13 is not read/, (bed) => bed.client(request(0, 13, 1, produce([])))],
    [
      /it ends at byte/,
      (bed) => bed.client(int32(10), request(0, 9, 1, produce(["orders"])).subarray(4, 14)),
    ],
    [/Heartbeat has 20 bytes too many/, (bed) => {
      const frame = concat(request(12, 0, 1, {}), new Uint8Array(20));
      frame.set(int32(frame.length - 4));
      return bed.client(frame);
    }],
    [
      /at most 4194304 are held/,
      (bed) =>
        bed.client(
          request(19, 2, 1, { Topics: [] }).subarray(4, 4),
          int32(REQUEST_HELD_BYTES_MAX + 9),
          new Uint8Array(PRODUCE_HELD_BYTES).fill(1),
        ),
    ],
    [/it has over 65536 elements/, (bed) => {
      const topics = Array.from({ length: REQUEST_ELEMENTS_MAX + 1 }, () => ({ Name: "" }));
      return bed.client(request(3, 12, 1, { Topics: topics }));
    }],
    [/a topic's name of 256 characters/, (bed) => bed.client(request(0, 12, 1, produce(["x".repeat(256)])))],
    [
      /a topic's name of 256 characters/,
      (bed) => bed.client(request(0, 12, 1, produce(["x".repeat(256)], 1, 100_000))),
    ],
    // A client that keeps the broker waiting must not make us remember answers without end.
    [/over 4194304 bytes of answers wait/, (bed) => {
      bed.client(request(12, 0, 0, {}));
      const topics = Array.from({ length: 10_000 }, (_, at) => ({ Name: `secret-${at}`.padEnd(200, "x") }));
      const denied = request(19, 7, 1, { Topics: topics });
      for (let count = 0; bed.close === null && count < 10; count++) bed.client(denied);
      return bed;
    }],
    [/4096 requests wait/, (bed) => {
      for (let id = 0; id < PENDING_MAX; id++) bed.client(request(12, 0, id, {}));
      assert.equal(bed.close, null);
      return bed.client(request(0, 12, 1, produce(["orders"], 1, 40_000)).subarray(0, 70_000));
    }],
    [/an answer to 5, expected none/, (bed) => bed.server(response(12, 0, 5))],
    [
      /an answer to 5, expected one to 1/,
      (bed) => bed.client(request(12, 0, 1, {})).server(response(12, 0, 5)),
    ],
    [/4096 requests wait/, (bed) => {
      for (let id = 0; id <= PENDING_MAX; id++) bed.client(request(12, 0, id, {}));
      return bed;
    }],
  ];
  for (const [reason, play] of cases) {
    const bed = play(new Bed());
    assert.match(bed.close ?? "it goes on", reason);
    bed.connection.end();
    assert.equal(bed.shared.heldBytes, 0);
  }
});

Deno.test("KafkaConnection neither fails nor grows, whatever either side sends, cut anywhere", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  let forwarded = 0, closed = 0;
  for (let round = 0; round < 1500; round++) {
    const bed = new Bed();
    for (let id = 1; id < 8 && bed.close === null; id++) {
      const kinds: [number, number, KafkaStruct][] = [
        [0, 3 + whole(10), produce(["orders"])],
        [0, 3 + whole(10), produce(["secret"])],
        [1, 4 + whole(9), fetch(["orders"], whole(3))],
        [3, whole(14), { Topics: [{ Name: "orders" }, { Name: "secret" }] }],
        [18, whole(5), { ClientSoftwareName: "x", ClientSoftwareVersion: "1" }],
        [12, whole(5), {}],
      ];
      const [key, version, body] = kinds[whole(kinds.length)];
      for (
        const [bytes, give] of [[request(key, version, id, body), "client"], [
          response(key, version, id),
          "server",
        ]] as const
      ) {
        const sent = bytes.slice();
        if (random() < 0.15) sent[whole(sent.length)] = whole(256);
        for (let at = 0; at < sent.length && bed.close === null;) {
          const to = at + 1 + whole(random() < 0.5 ? 9 : 900);
          try {
            bed[give](sent.subarray(at, to));
          } catch (error) {
            throw new Error(`seed ${seed}, round ${round}`, { cause: error });
          }
          forwarded += bed.toServer.length;
          at = to;
        }
        if (bed.connection.pending === 0) break;
      }
    }
    if (bed.close !== null) closed++;
    bed.connection.end();
    assert.equal(bed.shared.heldBytes, 0, `seed ${seed}, round ${round}`);
  }
  assert.ok(forwarded > 10_000 && closed > 100, `seed ${seed}: ${forwarded} ${closed}`);
});
