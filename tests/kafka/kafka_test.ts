import assert from "node:assert/strict";
import { KAFKA_ROLES } from "../../services/l7-rules/mod.ts";
import { L7Relay } from "../l7_relay.ts";
import { isBuilt, npmClient } from "../java_server.ts";
import { CLASSES, KAFKAJS, PYTHON, startKafka } from "./kafka_server.ts";

const PORTS = { server: 19_192, proxy: 19_193, direct: 19_194, controller: 19_195 };

const RULES = {
  kind: "KAFKA" as const,
  kafka: ["produce", "consume"].map((role, at) => ({
    apiKeys: [...KAFKA_ROLES[role]],
    topic: "orders",
    cookie: 10 + at,
  })),
};

async function run(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  const decoder = new TextDecoder();
  assert.equal(code, 0, decoder.decode(stderr));
  return decoder.decode(stdout) + decoder.decode(stderr);
}

const script = (name: string) => new URL(`clients/${name}`, import.meta.url).pathname;

Deno.test({
  name: "KafkaConnection between a real broker and real clients",
  ignore: !isBuilt("kafka"),
  async fn(t) {
    await using _server = await startKafka(PORTS);
    await run(PYTHON, [script("topics.py"), `${PORTS.direct}`, "orders", "secret"]);
    for (const [client, expected] of Object.entries(EXPECTED)) {
      await t.step(client, async () => {
        await using relay = new L7Relay(PORTS.server, RULES, PORTS.proxy);
        const group = `group-${client}`;
        const output = await run(...commandOf(client, group));
        const found = JSON.parse(output.split("\n").find((line) => line.startsWith("{")) ?? "{}");
        assert.deepEqual(found, expected, output);
        const ends = relay.ends();
        assert.ok(ends.every((why) => ["reset", "server-closed", "client-closed"].includes(why)), `${ends}`);
        assert.ok(
          relay.records.some(({ verdict, kafka }) =>
            verdict === "DENIED" && kafka?.topics?.includes("secret")
          ),
        );
        assert.ok(
          relay.records.every(({ verdict, kafka }) =>
            verdict === "DENIED" || !kafka?.topics?.includes("secret")
          ),
        );
      });
    }
  },
});

/** Program and arguments of a client. */
function commandOf(client: string, group: string): [string, string[]] {
  const to = [`${PORTS.proxy}`, group];
  switch (client) {
    case "java":
      return ["java", ["-XX:TieredStopAtLevel=1", "-cp", CLASSES, script("Client.java"), ...to]];
    case "kafkajs":
      return [Deno.execPath(), [...npmClient(script("client.mjs"), KAFKAJS), ...to]];
    default:
      return [PYTHON, [script("client.py"), client, ...to]];
  }
}

const PRODUCED = {
  "topics": ["orders"],
  "produce": ["ok", 20],
  "produce again": ["ok", 20],
  "produce large": ["ok", 3],
  "consume": 43,
};
const EXPECTED: Record<string, unknown> = {
  "java": {
    "produce": "ok 10",
    "produce denied": "TopicAuthorizationException",
    "produce again": "ok 10",
    "transaction": "ok",
    "topics": "orders",
    "consume": "ok 21",
    "consume denied": "TopicAuthorizationException",
    "consume by the new protocol": "ok 21",
  },
  "librdkafka": {
    ...PRODUCED,
    "produce denied": ["TOPIC_AUTHORIZATION_FAILED", 1],
    "consume denied": "TOPIC_AUTHORIZATION_FAILED",
    "transaction": "ok",
    "transaction denied": "TOPIC_AUTHORIZATION_FAILED",
  },
  "kafkajs": {
    ...PRODUCED,
    "produce denied": "TOPIC_AUTHORIZATION_FAILED",
    "consume denied": "TOPIC_AUTHORIZATION_FAILED",
    "transaction": "ok",
    "transaction denied": "TOPIC_AUTHORIZATION_FAILED",
  },
  "kafka-python": { ...PRODUCED, "produce denied": ["TopicAuthorizationFailedError", 1] },
};
