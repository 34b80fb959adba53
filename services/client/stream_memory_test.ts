import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { delimit } from "@weir/common/framing";
import { WeirClient } from "./client.ts";

/** As large as what Deno reads from a socket into, whatever comes. */
const CHUNK_BYTES = 64 * 1024;
const EVENTS = 512;

Deno.test("a stream keeps nothing of what was read from it", async () => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  const externalBytes = async () => {
    for (let turn = 0; turn < 3; turn++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return Deno.memoryUsage().external;
  };
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent++ === EVENTS) return; // the stream goes on, and says nothing
      const buffer = new Uint8Array(CHUNK_BYTES), frame = delimit(new Uint8Array([1, 2, 3]));
      buffer.set(frame);
      controller.enqueue(buffer.subarray(0, frame.length));
    },
  }, { highWaterMark: 0 });
  const client = new WeirClient({ handler: () => Promise.resolve(new Response(body)) });
  const stop = new AbortController();
  const before = await externalBytes();
  let read = 0, keptBytes = 0;
  try {
    for await (const frame of client.frames("/v1/things?watch=true", stop.signal)) {
      assert.equal(frame.length, 3);
      if (++read < EVENTS) continue;
      keptBytes = await externalBytes() - before;
      setTimeout(() => stop.abort(), 20);
    }
  } catch {
    // It was told to.
  }
  assert.equal(read, EVENTS);
  assert.ok(keptBytes < EVENTS * CHUNK_BYTES / 8, `${keptBytes} bytes are kept`);
});
