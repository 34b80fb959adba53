import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { FLAG, FRAME, SETTING } from "./frame.ts";
import { H2_ERROR, type Http2Fault } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { Conversation, frame, type Pair, settings, type TestPeer, uint32 } from "./testing.ts";

const OK: readonly Pair[] = [[":status", "200"]];
const HEAD: readonly Pair[] = [[":method", "GET"], [":scheme", "http"], [":path", "/public"], [
  ":authority",
  "a",
]];

/** Client's frames that end the connection, what the flow says and what the client is told. */
const CONNECTION_FAULTS: [
  what: string,
  code: Http2Fault,
  error: keyof typeof H2_ERROR,
  send: (peer: TestPeer) => Uint8Array[],
][] = [
  [
    "a frame that is too long",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.DATA, 0, 1, new Uint8Array(16_385))],
  ],
  ["DATA on no stream", "bad-stream-id", "PROTOCOL_ERROR", () => [frame(FRAME.DATA, 0, 0, "x")]],
  ["DATA on an idle stream", "bad-stream-id", "PROTOCOL_ERROR", () => [frame(FRAME.DATA, 0, 1, "x")]],
  ["HEADERS on a server's stream", "bad-stream-id", "PROTOCOL_ERROR", (peer) => [peer.headers(2, HEAD)]],
  ["SETTINGS on a stream", "bad-stream-id", "PROTOCOL_ERROR", () => [frame(FRAME.SETTINGS, 0, 1)]],
  [
    "SETTINGS of seven bytes",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.SETTINGS, 0, 0, "1234567")],
  ],
  [
    "an answer to SETTINGS that says more",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.SETTINGS, FLAG.ACK, 0, "123456")],
  ],
  ["ENABLE_PUSH 2", "bad-settings", "PROTOCOL_ERROR", () => [settings([SETTING.ENABLE_PUSH, 2])]],
  [
    "frames that are too small",
    "bad-settings",
    "PROTOCOL_ERROR",
    () => [settings([SETTING.MAX_FRAME_SIZE, 16_383])],
  ],
  [
    "a first window that is too large",
    "window-overflow",
    "FLOW_CONTROL_ERROR",
    () => [settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 31])],
  ],
  ["a window of streams that grows too large", "window-overflow", "FLOW_CONTROL_ERROR", (peer) => [
    peer.request(1, "/public"),
    frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1 - 65_535)),
    settings([SETTING.INITIAL_WINDOW_SIZE, 65_536]),
  ]],
  [
    "a window of the connection that grows too large",
    "window-overflow",
    "FLOW_CONTROL_ERROR",
    () => [frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1))],
  ],
  [
    "WINDOW_UPDATE by nothing",
    "zero-increment",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(0))],
  ],
  [
    "WINDOW_UPDATE of three bytes",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.WINDOW_UPDATE, 0, 0, "123")],
  ],
  [
    "WINDOW_UPDATE on an idle stream",
    "bad-stream-id",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.WINDOW_UPDATE, 0, 5, uint32(1))],
  ],
  [
    "RST_STREAM on an idle stream",
    "bad-stream-id",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.RST_STREAM, 0, 5, uint32(8))],
  ],
  [
    "RST_STREAM of five bytes",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.RST_STREAM, 0, 1, "12345")],
  ],
  ["PING of seven bytes", "bad-frame-size", "FRAME_SIZE_ERROR", () => [frame(FRAME.PING, 0, 0, "1234567")]],
  [
    "PRIORITY of four bytes",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.PRIORITY, 0, 1, "1234")],
  ],
  [
    "GOAWAY of seven bytes",
    "bad-frame-size",
    "FRAME_SIZE_ERROR",
    () => [frame(FRAME.GOAWAY, 0, 0, "1234567")],
  ],
  ["PUSH_PROMISE", "push", "PROTOCOL_ERROR", () => [frame(FRAME.PUSH_PROMISE, 0, 1, "12345")]],
  ["padding that is longer than its frame", "bad-padding", "PROTOCOL_ERROR", (peer) => [
    peer.request(1, "/public", false),
    frame(FRAME.DATA, FLAG.PADDED, 1, Uint8Array.of(3, 1, 2)),
  ]],
  [
    "padding in no bytes",
    "bad-padding",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.HEADERS, FLAG.PADDED | FLAG.END_HEADERS, 1)],
  ],
  [
    "CONTINUATION without HEADERS",
    "bad-frame",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1)],
  ],
  [
    "another frame inside the fields",
    "bad-frame",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.HEADERS, 0, 1), frame(FRAME.PING, 0, 0, "12345678")],
  ],
  [
    "another stream's CONTINUATION inside the fields",
    "bad-frame",
    "PROTOCOL_ERROR",
    () => [frame(FRAME.HEADERS, 0, 1), frame(FRAME.CONTINUATION, 0, 3)],
  ],
  ["fields in many frames", "continuation-flood", "ENHANCE_YOUR_CALM", () => [
    frame(FRAME.HEADERS, 0, 1),
    ...Array.from({ length: HTTP2_LIMITS.continuationCount + 1 }, () => frame(FRAME.CONTINUATION, 0, 1)),
  ]],
  ["fields that are too long before they are decoded", "header-block-too-long", "ENHANCE_YOUR_CALM", () => [
    frame(FRAME.HEADERS, 0, 1, new Uint8Array(16_384)),
    ...Array.from({ length: 4 }, () => frame(FRAME.CONTINUATION, 0, 1, new Uint8Array(16_384))),
  ]],
  [
    "fields that are no HPACK",
    "bad-compression",
    "COMPRESSION_ERROR",
    () => [frame(FRAME.HEADERS, FLAG.END_HEADERS, 1, Uint8Array.of(0xff))],
  ],
  ["more than the connection's window", "window-exceeded", "FLOW_CONTROL_ERROR", (peer) => [
    peer.request(1, "/public", false),
    peer.request(3, "/public", false),
    ...Array.from({ length: 5 }, (_, at) => peer.data(at % 2 === 0 ? 1 : 3, new Uint8Array(16_384))),
  ]],
  [
    "PING again and again",
    "control-flood",
    "ENHANCE_YOUR_CALM",
    () => Array.from({ length: HTTP2_LIMITS.controlCount + 1 }, () => frame(FRAME.PING, 0, 0, "12345678")),
  ],
  [
    "SETTINGS again and again",
    "control-flood",
    "ENHANCE_YOUR_CALM",
    () => Array.from({ length: HTTP2_LIMITS.controlCount + 1 }, () => settings()),
  ],
  [
    "PRIORITY again and again",
    "control-flood",
    "ENHANCE_YOUR_CALM",
    () => Array.from({ length: HTTP2_LIMITS.controlCount + 1 }, () => frame(FRAME.PRIORITY, 0, 1, "12345")),
  ],
  [
    "frames of no known kind again and again",
    "control-flood",
    "ENHANCE_YOUR_CALM",
    () => Array.from({ length: HTTP2_LIMITS.controlCount + 1 }, () => frame(99, 0, 1, "x")),
  ],
  ["empty DATA again and again", "control-flood", "ENHANCE_YOUR_CALM", (peer) => [
    peer.request(1, "/public", false),
    ...Array.from({ length: HTTP2_LIMITS.controlCount + 3 }, () => peer.data(1, "")),
  ]],
  ["WINDOW_UPDATE for what is over, again and again", "control-flood", "ENHANCE_YOUR_CALM", (peer) => [
    peer.request(1, "/private"),
    ...Array.from(
      { length: HTTP2_LIMITS.controlCount + 3 },
      () => frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(1)),
    ),
  ]],
  [
    "requests that are given up at once",
    "reset-flood",
    "ENHANCE_YOUR_CALM",
    (peer) =>
      Array.from({ length: HTTP2_LIMITS.prematureCount + 1 }, (_, at) => [
        peer.request(2 * at + 1, "/public"),
        frame(FRAME.RST_STREAM, 0, 2 * at + 1, uint32(8)),
      ]).flat(),
  ],
  [
    "requests that must be reset",
    "reset-flood",
    "ENHANCE_YOUR_CALM",
    (peer) =>
      Array.from(
        { length: HTTP2_LIMITS.prematureCount + 1 },
        (_, at) => peer.headers(2 * at + 1, [[":method", "GET"]]),
      ),
  ],
];

Deno.test("Http2Connection.run() ends a connection whose client breaks the rules of frames, and says why", async () => {
  for (const [what, code, error, send] of CONNECTION_FAULTS) {
    const talk = new Conversation(), { client, host } = talk;
    client.send(...send(client));
    await client.saw(`GOAWAY ${H2_ERROR[error]}`).catch((cause) => {
      throw new Error(what, { cause });
    });
    // What it still sends is read, and thrown away.
    client.send(client.data(1, new Uint8Array(16_384)), null);
    assert.equal(await talk.ended, code, what);
    assert.deepEqual(host.faults.at(-1)?.error.code, code, what);
    assert.equal(client.socket.closedWrite && client.socket.closed, true, what);
  }
});

/** What a client says on one stream that ends that stream. */
const STREAM_FAULTS: [
  what: string,
  code: Http2Fault,
  error: keyof typeof H2_ERROR,
  send: (peer: TestPeer) => Uint8Array[],
][] = [
  [
    "more than content-length",
    "bad-length",
    "PROTOCOL_ERROR",
    (peer) => [peer.request(1, "/public", false, ["content-length", "2"]), peer.data(1, "abc")],
  ],
  [
    "less than content-length",
    "bad-length",
    "PROTOCOL_ERROR",
    (peer) => [peer.request(1, "/public", false, ["content-length", "2"]), peer.data(1, "a", true)],
  ],
  ["less than content-length, and a trailer", "bad-length", "PROTOCOL_ERROR", (peer) => [
    peer.request(1, "/public", false, ["content-length", "2"]),
    peer.headers(1, [["x", "1"]]),
  ]],
  [
    "DATA behind the end",
    "stream-closed",
    "STREAM_CLOSED",
    (peer) => [peer.request(1, "/public"), peer.data(1, "a")],
  ],
  [
    "fields behind the end",
    "stream-closed",
    "STREAM_CLOSED",
    (peer) => [peer.request(1, "/public"), peer.headers(1, [["x", "1"]])],
  ],
  [
    "fields in the middle",
    "bad-trailer",
    "PROTOCOL_ERROR",
    (peer) => [peer.request(1, "/public", false), peer.headers(1, [["x", "1"]], false)],
  ],
  [
    "a path in the trailer",
    "bad-trailer",
    "PROTOCOL_ERROR",
    (peer) => [peer.request(1, "/public", false), peer.headers(1, [[":path", "/private"]])],
  ],
  ["a window of the stream that grows too large", "window-overflow", "FLOW_CONTROL_ERROR", (peer) => [
    peer.request(1, "/public", false),
    frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1)),
  ]],
];

Deno.test("Http2Connection.run() resets a stream whose client breaks its rules, towards both sides", async () => {
  for (const [what, code, error, send] of STREAM_FAULTS) {
    const talk = new Conversation(), { client, server, host } = talk;
    client.send(...send(client));
    await client.saw(`RST_STREAM 1 ${H2_ERROR[error]}`).catch((cause) => {
      throw new Error(what, { cause });
    });
    await server.saw("RST_STREAM 1 8");
    assert.equal(host.faults[0].error.code, code, what);
    await talk.opened(3);
    await talk.over();
  }
});

Deno.test("Http2Connection.run() drops what has no business in a trailer", async () => {
  const talk = new Conversation(), { client, server } = talk;
  await talk.opened(1, "/public", false);
  client.send(client.headers(1, [["authorization", "x"], ["host", "b"], ["x-sum", "1"]]));
  await server.saw("HEADERS 1 end");
  assert.deepEqual(server.fieldsOf(1).slice(4), [["x-sum", "1"]]);
  await talk.over();
});

Deno.test("Http2Connection.run() ends a connection whose server breaks the rules of frames", async () => {
  const cases: [what: string, code: Http2Fault, send: (peer: TestPeer) => Uint8Array[]][] = [
    ["PUSH_PROMISE", "push", () => [frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, "1234")]],
    ["an answer that nobody asked for", "unasked-answer", (peer) => [peer.headers(5, OK)]],
    ["an answer on a stream of its own", "unasked-answer", (peer) => [peer.headers(2, OK)]],
    ["DATA that nobody asked for", "unasked-answer", (peer) => [peer.data(5, "x")]],
    ["ENABLE_PUSH", "bad-settings", () => [settings([SETTING.ENABLE_PUSH, 1])]],
    [
      "PING again and again",
      "control-flood",
      () => Array.from({ length: 201 }, () => frame(FRAME.PING, 0, 0, "12345678")),
    ],
    ["more than the window", "window-exceeded", (peer) => [
      peer.headers(1, OK, false),
      ...Array.from({ length: 5 }, () => peer.data(1, new Uint8Array(16_384))),
    ]],
  ];
  for (const [what, code, send] of cases) {
    const talk = new Conversation(), { client, server, host } = talk;
    await talk.opened(1);
    server.send(settings(), ...send(server));
    await client.saw("GOAWAY 0").catch((cause) => {
      throw new Error(what, { cause });
    });
    client.send(null);
    assert.equal(await talk.ended, code, what);
    assert.deepEqual(host.faults.map(({ error, side }) => [error.code, side]), [[code, "server"]], what);
  }
});

Deno.test("FloodGuard lets pass what busy clients do: a PING with each piece, some requests given up, PING now and then", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  await talk.opened(1);
  server.send(settings(), server.headers(1, OK, false));
  for (let at = 0; at < 1.5 * HTTP2_LIMITS.controlCount; at++) {
    server.send(server.data(1, "x"));
    await until("it arrives", () => client.bytesOf(1) === at + 1, 1);
    client.send(frame(FRAME.PING, 0, 0, "12345678"));
  }
  for (let at = 0; at < 2 * HTTP2_LIMITS.controlCount; at++) {
    host.timeMs += 1000;
    client.send(frame(FRAME.PING, 0, 0, "12345678"));
    if (at % 50 === 0) {
      await until(
        "it is answered",
        () => client.frames.filter(({ type }) => type === FRAME.PING).length > 300 + at,
        1,
      );
    }
  }
  // Late ones, and fewer than the half.
  for (let id = 3; id < 3 + 6 * HTTP2_LIMITS.prematureCount; id += 6) {
    await talk.opened(id);
    host.timeMs += 1;
    client.send(
      frame(FRAME.RST_STREAM, 0, id, uint32(8)),
      client.request(id + 2, "/private"),
      client.request(id + 4, "/private"),
    );
    await client.saw(`DATA ${id + 4} end`);
  }
  assert.deepEqual(host.faults, []);
  await talk.over();
});
