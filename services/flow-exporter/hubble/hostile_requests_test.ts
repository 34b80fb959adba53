/** Requests for flows that are made to cost: they are refused with words, or others are answered meanwhile. @module */
import assert from "node:assert/strict";
import { MetricsRegistry } from "@weir/common";
import { FrameReader, framesOf } from "@weir/grpc";
import { Flow } from "@weir/proto/flow";
import { GetFlowsRequest, ServerStatusRequest } from "@weir/proto/observer";
import { FlowRing } from "../flow_ring.ts";
import type { SeenFlow } from "../seen_flow.ts";
import { observerServer } from "./testing.ts";

const FLOWS = 1023;
const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n));
const cel = (text: string) => ({ number: 1, whitelist: [{ experimental: { cel_expression: [text] } }] });
const LIST = "[1,2,3,4,5,6,7,8,9,10]";

/** What is asked, the status of the answer (INVALID_ARGUMENT 3, RESOURCE_EXHAUSTED 8), and its words or how many flows. */
const REQUESTS: Record<string, [request: Uint8Array, status: number, answer: RegExp | number]> = {
  "--last 2^64-1": [new Uint8Array([8, ...times(9, () => 255), 1]), 0, FLOWS],
  "a mask that names nothing": [
    GetFlowsRequest.encode({ field_mask: { paths: ["no_such"] } }),
    3,
    /no field no_such/,
  ],
  "a mask into prototypes": [
    GetFlowsRequest.encode({ field_mask: { paths: ["__proto__.x", "constructor"] } }),
    3,
    /no field __proto__/,
  ],
  "a mask of ten thousand paths": [
    GetFlowsRequest.encode({ field_mask: { paths: times(10_000, (n) => `source.x${n}`) } }),
    3,
    /mask of 10000 paths is too long/,
  ],
  "a mask of fifty thousand steps": [
    GetFlowsRequest.encode({ field_mask: { paths: ["source." + "a.".repeat(50_000)] } }),
    3,
    /no field/,
  ],
  "a message beyond all bounds": [new Uint8Array(1 << 20), 8, /too long/],
  "groups without an end": [new Uint8Array(100_000).fill(0x7b), 3, /depth/],
  "an expression that repeats itself": [
    GetFlowsRequest.encode({ whitelist: [{ http_path: ["((a{1000}){1000}){1000}"] }] }),
    3,
    /invalid repeat count/,
  ],
  "an expression of ten thousand brackets": [
    GetFlowsRequest.encode({ whitelist: [{ http_path: ["(".repeat(10_000)] }] }),
    3,
    /http_path/,
  ],
  "a thousand filters": [
    GetFlowsRequest.encode({ whitelist: times(1000, (n) => ({ source_pod: [`shop/${n}`] })) }),
    3,
    /at most 256/,
  ],
  "a list within a list": [
    GetFlowsRequest.encode(cel(`${LIST}.all(a, ${LIST}.all(b, a + b > 0))`)),
    0,
    1,
  ],
  "lists within lists within lists": [
    GetFlowsRequest.encode(cel(`${LIST}.all(a, ${LIST}.all(b, ${LIST}.all(c, a + b + c > 0)))`)),
    3,
    /at most one within another/,
  ],
  "long lists within lists": [
    GetFlowsRequest.encode(
      cel(`[${times(200, (n) => n)}].all(a, [${times(200, (n) => n)}].all(b, a + b >= 0))`),
    ),
    3,
    /512 characters/,
  ],
};

interface Ended {
  readonly status: number;
  readonly message: string;
  readonly flows: number;
}

async function serving(
  run: (ask: (method: string, request: Uint8Array) => Promise<Ended>, parts: {
    readonly metrics: MetricsRegistry;
    readonly abandon: (count: number) => Promise<void>;
  }) => Promise<void>,
) {
  const { connect } = await import("node:http2");
  const ring = new FlowRing<SeenFlow>(FLOWS), metrics = new MetricsRegistry();
  for (let n = 0; n < FLOWS; n++) {
    const url = `http://shop/${"a".repeat(1000)}!`;
    const flow = Flow.create({
      uuid: `${n}`,
      time: { seconds: n, nanos: 0 },
      event_type: { type: 129 },
      l7: { type: "REQUEST", http: { url, method: "GET" } },
    });
    ring.push({ flow } as SeenFlow);
  }
  const server = observerServer(ring, metrics);
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  const session = connect(`http://127.0.0.1:${port}`);
  const open = (method: string, request: Uint8Array) => {
    const stream = session.request({
      ":method": "POST",
      ":path": `/observer.Observer/${method}`,
      "content-type": "application/grpc",
    });
    stream.on("error", () => {});
    stream.end(framesOf([request]));
    return stream;
  };
  const ask = (method: string, request: Uint8Array) => {
    const stream = open(method, request), frames = new FrameReader(1 << 24);
    let flows = 0;
    return new Promise<Ended>((resolve) => {
      const end = (trailers: Record<string, unknown>) => {
        const message = decodeURIComponent(`${trailers["grpc-message"] ?? ""}`);
        resolve({ status: Number(trailers["grpc-status"] ?? -1), message, flows });
        // What is left of a request that was refused does not go out any more.
        stream.close();
      };
      stream.on("data", (chunk: Uint8Array) => flows += frames.push(chunk).length);
      stream.on("trailers", end);
      stream.on("close", () => end({}));
    });
  };
  const abandon = async (count: number) => {
    const follow = GetFlowsRequest.encode({ follow: true });
    for (let n = 0; n < count; n++) {
      const stream = open("GetFlows", follow);
      await new Promise<void>((resolve) => stream.once("response", () => resolve()));
      stream.close(8);
    }
  };
  try {
    await run(ask, { metrics, abandon });
  } finally {
    session.destroy();
    await server.stop();
  }
}

Deno.test("GetFlows refuses with words what is made to cost, and goes on", async () => {
  await serving(async (ask) => {
    for (const [name, [request, status, answer]] of Object.entries(REQUESTS)) {
      const ended = await ask("GetFlows", request);
      assert.equal(ended.status, status, `${name}: ${ended.message.slice(0, 300)}`);
      if (typeof answer === "number") assert.equal(ended.flows, answer, name);
      else assert.match(ended.message, answer, name);
    }
  });
});

Deno.test("others are answered while costly filters are at work, and before them", async () => {
  await serving(async (ask) => {
    const costly = GetFlowsRequest.encode({
      number: FLOWS,
      whitelist: [{ http_path: ["(a+)+(a+)+(a+)+$"] }],
    });
    let done = 0;
    const working = times(3, () => ask("GetFlows", costly).then((ended) => (done++, ended)));
    for (let n = 0; n < 3; n++) {
      assert.equal((await ask("ServerStatus", ServerStatusRequest.encode({}))).status, 0);
    }
    assert.equal(done, 0, "who asks little does not wait for who asks much");
    for (const ended of await Promise.all(working)) assert.deepEqual([ended.status, ended.flows], [0, 0]);
  });
});

Deno.test("calls that are opened and abandoned all end", async () => {
  await serving(async (_, { metrics, abandon }) => {
    await abandon(500);
    const call = 'grpc_type="server_stream",grpc_service="observer.Observer",grpc_method="GetFlows"';
    const line = `grpc_server_handled_total{${call},grpc_code="OK"} 500`;
    for (let tries = 0; !metrics.render().includes(line); tries++) {
      assert.ok(tries < 1000, metrics.render());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
});
