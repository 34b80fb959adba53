import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { decodeMessage, encodeMessage, KafkaFormError, KafkaReader, KafkaWriter } from "./codec.ts";
import { filled } from "./filled_message.ts";
import { KAFKA_APIS } from "./gen/messages.ts";
import type { KafkaMessage } from "./schema.ts";

Deno.test("decodeMessage() reads what encodeMessage() writes, in every version of every message", () => {
  const random = seededRandom(7);
  for (const api of KAFKA_APIS) {
    for (const message of [api.request, api.response] as KafkaMessage[]) {
      for (let version = api.versions[0]; version <= api.versions[1]; version++) {
        const form = { version, flexible: version >= api.flexibleFrom };
        for (let round = 0; round < 3; round++) {
          const struct = filled(message.fields, form, random);
          const writer = new KafkaWriter();
          encodeMessage(message, form, struct, writer);
          const reader = new KafkaReader(writer.bytes);
          const again = decodeMessage(message, form, reader);
          assert.equal(reader.rest, 0, `${message.name} ${version}`);
          const once = new KafkaWriter();
          encodeMessage(message, form, again, once);
          assert.deepEqual(once.bytes, writer.bytes, `${message.name} ${version}`);
        }
      }
    }
  }
});

Deno.test("decodeMessage() fails in one way, whatever it is given", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
  const random = seededRandom(seed);
  let refused = 0;
  for (let round = 0; round < 8000; round++) {
    const api = KAFKA_APIS[Math.floor(random() * KAFKA_APIS.length)];
    const version = api.versions[0] + Math.floor(random() * (api.versions[1] - api.versions[0] + 1));
    const form = { version, flexible: version >= api.flexibleFrom };
    const writer = new KafkaWriter();
    encodeMessage(api.request, form, filled(api.request.fields, form, random), writer);
    const bytes = writer.bytes.slice();
    for (let count = 1 + Math.floor(random() * 3); count > 0 && bytes.length > 0; count--) {
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    }
    try {
      decodeMessage(api.request, form, new KafkaReader(bytes));
    } catch (error) {
      if (!(error instanceof KafkaFormError)) {
        throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      }
      refused++;
    }
  }
  assert.ok(refused > 500, `seed ${seed}: ${refused}`);
});
