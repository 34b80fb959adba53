/** A hundred readers that take nothing, while more flows come than anybody could read. @module */
import assert from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import { GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { FrameReader, framesOf } from "@weir/grpc";
import { FlowRing } from "../flow_ring.ts";
import type { SeenFlow } from "../seen_flow.ts";
import { observerServer } from "./testing.ts";

const READERS = 100, CONNECTIONS = 10, ROUND = 20_000, ROUNDS = 8;
const LABELS = Array.from({ length: 8 }, (_, n) => `k8s:some.label.of.a.pod/number-${n}=value-${n}`);

/** A reader's own count: what came, and what it was told that it missed. */
class Reader {
  flows = 0;
  lost = 0;
  readonly #frames = new FrameReader(1 << 20);

  take(chunk: Uint8Array): void {
    for (const bytes of this.#frames.push(chunk)) {
      const { flow, lost_events } = GetFlowsResponse.decode(bytes);
      if (flow !== undefined && flow !== null) this.flows++;
      this.lost += Number(lost_events?.num_events_lost ?? 0);
    }
  }
}

Deno.test("a hundred readers that stand still hold no memory, and who reads learns of every flow that it missed", async () => {
  const { connect } = await import("node:http2");
  const ring = new FlowRing<SeenFlow>(1023);
  const server = observerServer(ring);
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  const sessions = Array.from({ length: CONNECTIONS + 1 }, () => connect(`http://127.0.0.1:${port}`));
  const open = (session: typeof sessions[number]) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/observer.Observer/GetFlows",
      "content-type": "application/grpc",
    });
    stream.on("error", () => {});
    stream.end(framesOf([GetFlowsRequest.encode({ follow: true })]));
    return stream;
  };
  let pushed = 0, bytes = 0;
  const push = () => {
    const flow = Flow.create({
      uuid: `${++pushed}`,
      time: { seconds: pushed, nanos: 0 },
      source: { labels: LABELS },
      destination: { labels: LABELS },
    });
    if (bytes === 0) bytes = GetFlowsResponse.encode({ flow }).length;
    ring.push({ flow } as SeenFlow);
  };
  const pause = (ms = 0) => new Promise((resolve) => setTimeout(resolve, ms));
  try {
    const answered = (stream: ReturnType<typeof open>) =>
      new Promise<void>((resolve) => stream.once("response", () => resolve()));
    const stalled = await Promise.all(Array.from({ length: READERS }, async (_, n) => {
      const stream = open(sessions[n % CONNECTIONS]);
      await answered(stream);
      return stream;
    }));
    const active = open(sessions[CONNECTIONS]), reader = new Reader();
    await answered(active);
    active.on("data", (chunk: Uint8Array) => reader.take(chunk));
    // Those who follow begin to wait after their headers have gone out: a flow that nobody waits for is nobody's loss.
    await pause(200);
    const residentBytes: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (let n = 0; n < ROUND; n += 500) {
        for (let k = 0; k < 500; k++) push();
        await pause();
      }
      residentBytes.push(Deno.memoryUsage().rss);
    }
    // The first rounds fill windows and buffers; from then on it stands.
    const grown = residentBytes.at(-1)! - residentBytes[1], made = (ROUNDS - 2) * ROUND * bytes * READERS;
    assert.ok(grown < made / 20, `${grown} bytes more for readers that were not sent ${made}`);
    const settled = async (who: Reader) => {
      // A loss is told with the next flow, once a second.
      for (let tries = 0; who.flows + who.lost !== pushed; tries++) {
        assert.ok(tries < 300, `${who.flows} flows and ${who.lost} lost of ${pushed}`);
        push();
        await pause(100);
      }
    };
    await settled(reader);
    assert.ok(reader.flows > ring.size, "it read on while the others stood");
    const late = new Reader();
    stalled[0].on("data", (chunk: Uint8Array) => late.take(chunk));
    stalled[0].resume();
    await settled(late);
    assert.ok(late.lost > 0 && ring.lost >= late.lost, `${late.lost} of ${ring.lost}`);
  } finally {
    for (const session of sessions) session.destroy();
    await server.stop();
  }
});
