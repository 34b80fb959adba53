import assert from "node:assert/strict";
import { KafkaRule } from "@weir/proto/l7";
import { compileKafkaRule, judgeKafka, KAFKA_API_KEYS, KAFKA_ROLES, kafkaApiName } from "./kafka_rules.ts";
import { RuleFault } from "./pattern.ts";
import type { KafkaRequest } from "./request.ts";

const request = (api: string, topics?: string[], more: Partial<KafkaRequest> = {}): KafkaRequest => ({
  kind: "KAFKA",
  apiKey: KAFKA_API_KEYS.get(api)!,
  apiVersion: 9,
  clientId: "me",
  topics,
  ...more,
});
const judge = (rules: Partial<KafkaRule>[], one: KafkaRequest) =>
  judgeKafka(
    rules.map((rule, at) => compileKafkaRule(KafkaRule.create({ cookie: at + 1, ...rule }))),
    one,
    99,
  );
const { produce, consume } = KAFKA_ROLES as Record<string, number[]>;

Deno.test("judgeKafka() takes role, key, version, client and topic exactly", () => {
  const table: [Partial<KafkaRule>[], KafkaRequest, boolean, string[]?][] = [
    [[{}], request("createtopics", ["a"]), true],
    [[{ apiKeys: produce, topic: "a" }], request("produce", ["a"]), true],
    [[{ apiKeys: produce, topic: "a" }], request("produce", ["b"]), false, ["b"]],
    [[{ apiKeys: produce, topic: "a" }], request("produce", ["A"]), false, ["A"]],
    [[{ apiKeys: produce, topic: "a" }], request("fetch", ["a"]), false, ["a"]],
    [[{ apiKeys: consume, topic: "a" }], request("fetch", ["a"]), true],
    [[{ apiKeys: consume, topic: "a" }], request("produce", ["a"]), false, ["a"]],
    // Producers of today ask for an id first, consumers of the new protocol beat otherwise.
    [[{ apiKeys: produce, topic: "a" }], request("initproducerid"), true],
    [[{ apiKeys: consume, topic: "a" }], request("consumergroupheartbeat"), true],
    [[{ apiKeys: consume }], request("initproducerid"), false],
    [[{ apiKeys: consume, topic: "a" }], request("heartbeat"), true],
    [[{ apiKeys: consume, topic: "a" }], request("metadata", []), true],
    [[{ apiKeys: [0], apiVersion: 9 }], request("produce", ["a"]), true],
    [[{ apiKeys: [0], apiVersion: 8 }], request("produce", ["a"]), false, ["a"]],
    [[{ apiKeys: [0], apiVersion: 0 }], request("produce", ["a"], { apiVersion: 0 }), true],
    [[{ clientId: "me" }], request("produce", ["a"]), true],
    [[{ clientId: "Me" }], request("produce", ["a"]), false, ["a"]],
    // Topics of several rules together, but each with all else that its rule asks.
    [[{ topic: "a" }, { topic: "b" }], request("produce", ["a", "b", "a"]), true],
    [[{ topic: "a" }, { topic: "b" }], request("produce", ["a", "c"]), false, ["c"]],
    [[{ topic: "a" }, { apiKeys: consume, topic: "b" }], request("produce", ["a", "b"]), false, ["b"]],
    [[{ topic: "a" }, { apiKeys: produce }], request("produce", ["a", "b"]), true],
    [[], request("apiversions"), false],
  ];
  for (const [rules, one, allowed, denied = []] of table) {
    const judgement = judge(rules, one);
    assert.deepEqual([judgement.allowed, judgement.denied], [allowed, denied], JSON.stringify([rules, one]));
    if (!allowed) assert.equal(judgement.cookie, 99);
  }
});

Deno.test("KAFKA_ROLES has what the field's roles have, and numbers have the names of the protocol", () => {
  for (const key of [0, 3, 18]) assert(produce.includes(key));
  for (const key of [1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18]) assert(consume.includes(key));
  assert.deepEqual(
    ["alterconfigs", "saslauthenticate", "deletegroups", "alteruserscramcredentials"].map((name) =>
      KAFKA_API_KEYS.get(name)
    ),
    [33, 36, 42, 51],
  );
  assert.deepEqual([kafkaApiName(22), kafkaApiName(999)], ["initproducerid", "999"]);
});

Deno.test("compileKafkaRule() refuses a topic that is none", () => {
  for (const topic of ["a*", "a b", "a".repeat(256)]) {
    assert.throws(() => compileKafkaRule(KafkaRule.create({ topic })), RuleFault);
  }
});
