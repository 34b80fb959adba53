import assert from "node:assert/strict";
import { streamResponse } from "./message_stream.ts";
import { FakeClock } from "./testing/fake_clock.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("streamResponse() lets a silent source be heard, with frames that readers pass over", async () => {
  const clock = new FakeClock();
  async function* source() {
    yield [Uint8Array.of(1, 7)];
    await clock.sleep(25_000);
    yield [Uint8Array.of(1, 8)];
  }
  const chunks: number[][] = [];
  const done = (async () => {
    for await (const chunk of streamResponse(source(), "protobuf", undefined, clock).body!) {
      chunks.push([...chunk]);
    }
  })();
  for (let s = 0; s < 26; s++) {
    await turn();
    await clock.advance(1000);
  }
  await turn();
  await done;
  assert.deepEqual(chunks, [[1, 7], [0], [0], [1, 8]]);
});

Deno.test("streamResponse() ends its source when the reader takes nothing, with a reason", async () => {
  const clock = new FakeClock();
  let ended = false;
  async function* source() {
    try {
      while (true) {
        yield [Uint8Array.of(1, 7)];
        await turn();
      }
    } finally {
      ended = true;
    }
  }
  const reasons: unknown[] = [];
  const { body } = streamResponse(
    source(),
    "protobuf",
    (error) => reasons.push((error as { code: string }).code),
    clock,
  );
  const reader = body!.getReader();
  await reader.read();
  for (let s = 0; s < 45; s++) {
    await turn();
    await clock.advance(1000);
  }
  assert.deepEqual([reasons, ended], [["STREAM_STALLED"], true]);
  await assert.rejects(reader.read(), { code: "STREAM_STALLED" });
});
