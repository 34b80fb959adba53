/**
 * kafka-python's codec as the oracle of ours: what we write of every version of every message it reads, and writes again as the same bytes; of
 * bytes that are changed it reads the same texts wherever both read them.
 * @module
 */
import assert from "node:assert/strict";
import {
  decodeMessage,
  encodeMessage,
  KafkaFormError,
  KafkaReader,
  type KafkaValue,
  KafkaWriter,
} from "../../services/l7-proxy/kafka/codec.ts";
import { filled } from "../../services/l7-proxy/kafka/filled_message.ts";
import { KAFKA_APIS } from "../../services/l7-proxy/kafka/gen/messages.ts";
import type { KafkaMessage } from "../../services/l7-proxy/kafka/schema.ts";
import { isBuilt } from "../java_server.ts";
import { seededRandom } from "../seeded_random.ts";
import { PYTHON } from "./kafka_server.ts";

const SEED = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? 9092);

/** kafka-python has code of its own for this one, which leaves fields out. */
const OWN_WAY = "ApiVersionsResponse";

interface Asked {
  readonly name: string;
  readonly version: number;
  readonly hex: string;
}
interface Answer {
  readonly hex?: string;
  readonly texts?: string[];
  readonly unknown?: string;
  readonly refused?: string;
}

/** What kafka-python makes of messages. */
async function ask(messages: readonly Asked[]): Promise<Answer[]> {
  const program = new URL("clients/codec.py", import.meta.url).pathname;
  const child = new Deno.Command(PYTHON, {
    args: [program],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const input = new Blob(messages.map((one) => `${JSON.stringify(one)}\n`)).stream();
  const [{ stdout }] = await Promise.all([child.output(), input.pipeTo(child.stdin)]);
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
}

/** All texts of a struct, in order. */
function textsOf(value: KafkaValue): string[] {
  if (typeof value === "string") return [value];
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return [];
  return (Array.isArray(value) ? value : Object.values(value)).flatMap(textsOf).sort();
}

/** One message of each kind and version, so often. */
function* eachMessage(rounds: number, random: () => number) {
  for (const api of KAFKA_APIS) {
    for (const message of [api.request, api.response] as KafkaMessage[]) {
      if (message.name === OWN_WAY) continue;
      for (let version = api.versions[0]; version <= api.versions[1]; version++) {
        const form = { version, flexible: version >= api.flexibleFrom };
        for (let round = 0; round < rounds; round++) {
          const struct = filled(message.fields, form, random), writer = new KafkaWriter();
          encodeMessage(message, form, struct, writer);
          yield { message, form, struct, bytes: writer.bytes };
        }
      }
    }
  }
}

Deno.test({
  name: "kafka-python reads what we write, in every version of every message that it knows",
  ignore: !isBuilt("kafka"),
  async fn() {
    const made = [...eachMessage(3, seededRandom(SEED))];
    const answers = await ask(
      made.map(({ message: { name }, form: { version }, bytes }) => ({ name, version, hex: bytes.toHex() })),
    );
    let compared = 0;
    const wrong: string[] = [];
    for (const [index, answer] of answers.entries()) {
      if (answer.unknown !== undefined) continue;
      compared++;
      const { message, form, struct, bytes } = made[index], hex = bytes.toHex();
      const same = answer.hex === hex && String(answer.texts) === String(textsOf(struct));
      if (!same) {
        wrong.push(`${message.name} ${form.version}: ${hex}, kafka-python ${JSON.stringify(answer)}`);
      }
    }
    assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} of ${compared}, WEIR_FUZZ_SEED=${SEED}`);
    assert.ok(compared > made.length / 2, `${compared} of ${made.length}`);
    console.log(`  ${compared} of ${made.length} messages`);
  },
});

Deno.test({
  name: "kafka-python reads the same texts in changed requests, where we read them",
  ignore: !isBuilt("kafka"),
  async fn() {
    const random = seededRandom(SEED + 1), below = (limit: number) => Math.floor(random() * limit);
    const taken: (Asked & { texts: string[] })[] = [];
    for (const { message, form, bytes } of eachMessage(12, random)) {
      const changed = bytes.slice();
      for (let changes = 1 + below(2); changes > 0 && changed.length > 0; changes--) {
        changed[below(changed.length)] = random() < 0.5 ? below(4) : below(256);
      }
      const reader = new KafkaReader(changed);
      try {
        const struct = decodeMessage(message, form, reader);
        if (reader.rest > 0) continue;
        taken.push({
          name: message.name,
          version: form.version,
          hex: changed.toHex(),
          texts: textsOf(struct),
        });
      } catch (error) {
        if (!(error instanceof KafkaFormError)) throw error;
      }
    }
    const answers = await ask(taken);
    const wrong: string[] = [];
    let compared = 0;
    for (const [index, { unknown, texts, refused }] of answers.entries()) {
      if (unknown !== undefined) continue;
      compared++;
      if (String(texts) === String(taken[index].texts)) continue;
      wrong.push(`${JSON.stringify(taken[index])}: kafka-python ${refused ?? JSON.stringify(texts)}`);
    }
    assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} of ${compared}, WEIR_FUZZ_SEED=${SEED}`);
    assert.ok(compared > 300, `${compared}`);
    console.log(`  ${compared} of ${taken.length} changed messages that we read`);
  },
});
