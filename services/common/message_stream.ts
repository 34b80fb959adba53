/** Answers that go on and are not watches: messages from any source. @module */
import type { Message } from "@weir/proto";
import { type Clock, systemClock } from "./clock.ts";
import { concatBytes, delimit, type Encoding, NDJSON_TYPE, PROTOBUF_TYPE } from "./framing.ts";
import { STREAM_CHUNK_BYTES } from "./watch_encoder.ts";
import { STREAM_STALLED_MS, WATCH_HEARTBEAT_MS } from "./watch_hub.ts";
import { streamStalled } from "./watch_stream.ts";

const encoder = new TextEncoder();

/** One message of a stream on the wire. */
export function encodeStreamed<T>(value: T, message: Message<T>, encoding: Encoding): Uint8Array {
  return encoding === "protobuf"
    ? delimit(message.encode(value as never))
    : encoder.encode(JSON.stringify(message.toJson(value as never)) + "\n");
}

/** An empty frame: readers pass over it, and know that the peer lives. */
const HEARTBEAT: Record<Encoding, Uint8Array> = { protobuf: Uint8Array.of(0), json: Uint8Array.of(10) };

/**
 * An answer whose body is `batches`, pulled only as fast as the client reads. When the client goes the source is ended
 * with `return()`. An error of the source ends the stream abruptly, which the client sees as loss. A silent source has a
 * heartbeat, and a reader that takes nothing for {@link STREAM_STALLED_MS} loses the stream.
 */
export function streamResponse(
  batches: AsyncGenerator<Uint8Array[]>,
  encoding: Encoding,
  onEnd?: (error: unknown) => void,
  clock: Clock = systemClock,
): Response {
  let ended = false;
  const over = new AbortController();
  const end = (error: unknown) => {
    if (!ended) onEnd?.(error);
    ended = true;
    over.abort();
  };
  let isPulled = false, pulledMs = clock.monotonicMs();
  const watchReader = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    while (!ended) {
      await clock.sleep(STREAM_STALLED_MS / 3, over.signal);
      if (ended || isPulled || clock.monotonicMs() - pulledMs < STREAM_STALLED_MS) continue;
      const error = streamStalled("messages", STREAM_STALLED_MS);
      end(error);
      controller.error(error);
      await batches.return(undefined).catch(() => {});
    }
  };
  let next: Promise<IteratorResult<Uint8Array[]>> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      void watchReader(controller);
    },
    async pull(controller) {
      isPulled = true;
      const timer = new AbortController();
      try {
        next ??= batches.next();
        const beat = clock.sleep(WATCH_HEARTBEAT_MS, timer.signal).then(() => undefined);
        const found = await Promise.race([next, beat]);
        if (ended) return;
        if (found === undefined) return controller.enqueue(HEARTBEAT[encoding].slice());
        next = undefined;
        if (found.done) {
          end(undefined);
          return controller.close();
        }
        const { value } = found;
        for (let i = 0, from = 0, bytes = 0; i < value.length; i++) {
          bytes += value[i].length;
          if (bytes < STREAM_CHUNK_BYTES && i + 1 < value.length) continue;
          controller.enqueue(concatBytes(value.slice(from, i + 1)));
          from = i + 1;
          bytes = 0;
        }
      } catch (error) {
        end(error);
        controller.error(error);
      } finally {
        timer.abort();
        isPulled = false;
        pulledMs = clock.monotonicMs();
      }
    },
    async cancel() {
      end(undefined);
      await batches.return(undefined);
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: {
      "content-type": encoding === "protobuf" ? PROTOBUF_TYPE : NDJSON_TYPE,
      "cache-control": "no-store",
    },
  });
}
