/** A peer that speaks HTTP/2 to do harm: what it may do is bounded, and others are answered meanwhile. @module */
import assert from "node:assert/strict";
import { MetricsRegistry } from "@weir/common";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import type { AbuseKind } from "./abuse.ts";
import { streamingBytes, unary } from "./methods.ts";
import { GrpcServer } from "./server.ts";
import { Caller } from "./testing/caller.ts";
import {
  callHeaders,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  header,
  joined,
  RawConnection,
} from "./testing/raw_connection.ts";

const NOTHING = new Uint8Array(), EIGHT = new Uint8Array(8);
const open = (stream: number, ...more: Uint8Array[]) =>
  frame(FRAME.HEADERS, END_HEADERS, stream, joined(callHeaders("/t/Wait"), ...more));
const many = (count: number, one: Uint8Array) => joined(...Array.from({ length: count }, () => one));

/** Sends `times` times, or until the connection is closed. */
async function keepSending(raw: RawConnection, times: number, bytes: (n: number) => Uint8Array) {
  for (let n = 0; n < times && !raw.isClosed; n++) await raw.send(bytes(n));
}

/** The same, and reads none of the answers meanwhile. */
async function unread(raw: RawConnection, bytes: (n: number) => Uint8Array) {
  raw.socket.pause();
  const sending = keepSending(raw, 10_000, bytes);
  await Promise.race([sending, new Promise((resolve) => setTimeout(resolve, 500))]);
  raw.socket.resume();
  await sending;
}

/** What each is counted as. */
const KINDS: Record<string, AbuseKind> = {
  "calls opened and reset": "resets",
  "calls beyond those that may be open": "calls",
  "settings": "settings",
  "pings": "pings",
  "headers without an end": "headers",
  "empty headers without an end": "headers",
  "a window beyond all bounds": "window",
  "a frame that is too long": "frames",
  "headers of no stream": "frames",
  "headers that cannot be unpacked": "headers",
};

/** Each ends with its connection closed, long before all of it has been sent. */
const FLOODS: Record<string, (raw: RawConnection) => Promise<void>> = {
  "calls opened and reset": (raw) =>
    keepSending(raw, 1000, (n) =>
      joined(...Array.from({ length: 20 }, (_, k) => {
        const stream = 1 + 2 * (n * 20 + k);
        return joined(open(stream), frame(FRAME.RST_STREAM, 0, stream, new Uint8Array([0, 0, 0, 8])));
      }))),
  "calls beyond those that may be open": (raw) =>
    keepSending(
      raw,
      1000,
      (n) => joined(...Array.from({ length: 20 }, (_, k) => open(1 + 2 * (n * 20 + k)))),
    ),
  "settings": (raw) => unread(raw, () => many(1000, frame(FRAME.SETTINGS, 0, 0, NOTHING))),
  "pings": (raw) => unread(raw, () => many(1000, frame(FRAME.PING, 0, 0, EIGHT))),
  "headers without an end": async (raw) => {
    await raw.send(frame(FRAME.HEADERS, 0, 1, callHeaders("/t/Wait")));
    const more = frame(FRAME.CONTINUATION, 0, 1, header("x", "y".repeat(16_000)));
    await keepSending(raw, 10_000, () => more);
  },
  "empty headers without an end": async (raw) => {
    await raw.send(frame(FRAME.HEADERS, 0, 1, callHeaders("/t/Wait")));
    await keepSending(raw, 10_000, () => many(1000, frame(FRAME.CONTINUATION, 0, 1, NOTHING)));
  },
  "a window beyond all bounds": (raw) =>
    keepSending(
      raw,
      100,
      () => many(10, frame(FRAME.WINDOW_UPDATE, 0, 0, new Uint8Array([0x7f, 0xff, 0xff, 0xff]))),
    ),
  "a frame that is too long": (raw) =>
    keepSending(raw, 100, () => frame(FRAME.DATA, 0, 1, new Uint8Array(100_000))),
  "headers of no stream": (raw) =>
    keepSending(raw, 100, () => frame(FRAME.HEADERS, END_HEADERS, 0, callHeaders("/t/Wait"))),
  "headers that cannot be unpacked": (raw) =>
    keepSending(
      raw,
      100,
      () => frame(FRAME.HEADERS, END_HEADERS | END_STREAM, 1, new Uint8Array(64).fill(0xff)),
    ),
};

async function until(what: () => boolean, tell: string): Promise<void> {
  for (let tries = 0; !what(); tries++) {
    assert.ok(tries < 3000, tell);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function serving(
  run: (port: number, good: Caller, open: () => number) => Promise<void>,
  metrics = new MetricsRegistry(),
) {
  let waiting = 0;
  const server = new GrpcServer({
    metrics,
    methods: {
      "/t/One": unary(ServerStatusRequest, ServerStatusResponse, () => ServerStatusResponse.create({})),
      "/t/Wait": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
        waiting++;
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        waiting--;
        yield [];
      }),
    },
  });
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  const good = new Caller(`http://127.0.0.1:${port}`);
  const connections = () => Number(/^weir_grpc_connections (\d+)$/m.exec(metrics.render())?.[1]);
  try {
    assert.equal((await good.call("/t/One", NOTHING)).status, 0);
    await run(port, good, connections);
    await until(() => connections() === 1 && waiting === 0, "all that was opened is let go");
  } finally {
    good.close();
    await server.stop();
  }
}

const abuses = (metrics: MetricsRegistry) =>
  metrics.render().split("\n").filter((line) => line.startsWith("weir_grpc_abuse_total{"));

for (const [name, flood] of Object.entries(FLOODS)) {
  Deno.test(`GrpcServer closes on ${name}, and answers others`, async () => {
    const metrics = new MetricsRegistry();
    await serving(async (port, good) => {
      const raw = await RawConnection.open(port);
      try {
        await Promise.all([
          flood(raw),
          good.call("/t/One", NOTHING).then(({ status }) => assert.equal(status, 0)),
        ]);
        await until(() => raw.isClosed, `it is still open after ${name}`);
        assert.equal((await good.call("/t/One", NOTHING)).status, 0);
        await until(() => abuses(metrics).length > 0, "it is counted");
        assert.deepEqual(abuses(metrics), [`weir_grpc_abuse_total{kind="${KINDS[name]}"} 1`]);
        assert.match(metrics.render(), /^weir_grpc_refused_total{reason="protocol"} 1$/m);
      } finally {
        raw.close();
      }
    }, metrics);
  });
}

Deno.test("GrpcServer refuses a call whose headers are small packed and huge unpacked", async () => {
  await serving(async (port, good, connections) => {
    const raw = await RawConnection.open(port);
    const entry = header("x", "y".repeat(3900));
    // It is remembered by the connection; from now on one byte is 4 KB, as often as it comes.
    entry[0] = 0x40;
    await raw.send(open(1, entry));
    const bomb = frame(
      FRAME.HEADERS,
      END_HEADERS | END_STREAM,
      3,
      joined(callHeaders("/t/Wait"), new Uint8Array(12_000).fill(0xbe)),
    );
    const before = raw.received;
    await raw.send(bomb);
    await until(() => raw.received > before || raw.isClosed, "it is refused");
    assert.ok(connections() <= 2);
    assert.equal((await good.call("/t/One", NOTHING)).status, 0);
    raw.close();
  });
});

Deno.test("GrpcServer closes on bytes that are no HTTP/2", async () => {
  const metrics = new MetricsRegistry();
  await serving(async (port, good) => {
    const texts = ["A".repeat(1000), "GET / HTTP/1.1\r\nhost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00"];
    for (const text of texts) {
      const raw = await RawConnection.open(port, new TextEncoder().encode(text.padEnd(64, "\0")));
      await until(() => raw.isClosed, text);
    }
    assert.equal((await good.call("/t/One", NOTHING)).status, 0);
    await until(
      () => abuses(metrics).includes(`weir_grpc_abuse_total{kind="preface"} ${texts.length}`),
      "all are counted",
    );
  }, metrics);
});
