import assert from "node:assert/strict";
import { FLAG, FRAME } from "./frame.ts";
import type { Http2Fault } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { Conversation, frame, type Pair, settings, type TestPeer } from "./testing.ts";

const OK: readonly Pair[] = [[":status", "200"]];
const HEAD: readonly Pair[] = [[":method", "GET"], [":scheme", "http"], [":path", "/public"], [
  ":authority",
  "a",
]];

/** Fields that are not those of one request. */
const BAD_REQUESTS: [what: string, fields: readonly Pair[]][] = [
  ["no method", [[":scheme", "http"], [":path", "/"]]],
  ["no scheme", [[":method", "GET"], [":path", "/"]]],
  ["no path", [[":method", "GET"], [":scheme", "http"]]],
  ["an empty path", [[":method", "GET"], [":scheme", "http"], [":path", ""]]],
  ["a path that does not begin with /", [[":method", "GET"], [":scheme", "http"], [":path", "public"]]],
  ["a URL for a path", [[":method", "GET"], [":scheme", "http"], [":path", "http://a/public"]]],
  ["a fragment", [[":method", "GET"], [":scheme", "http"], [":path", "/public#x"]]],
  ["a blank in the path", [[":method", "GET"], [":scheme", "http"], [":path", "/public x"]]],
  ["a NUL in the path", [[":method", "GET"], [":scheme", "http"], [":path", "/public%00"]]],
  ["* for another method", [[":method", "GET"], [":scheme", "http"], [":path", "*"]]],
  ["two methods", [[":method", "GET"], ...HEAD]],
  ["two paths", [...HEAD, [":path", "/private"]]],
  ["two authorities", [...HEAD, [":authority", "b"]]],
  ["a status", [...HEAD, [":status", "200"]]],
  ["an unknown pseudo-field", [...HEAD, [":protocol", "websocket"]]],
  ["a pseudo-field behind the others", [...HEAD.slice(0, 3), ["x", "1"], [":authority", "a"]]],
  ["a name in upper case", [...HEAD, ["X-A", "1"]]],
  ["an empty name", [...HEAD, ["", "1"]]],
  ["a blank in a name", [...HEAD, ["x a", "1"]]],
  ["a line end in a value", [...HEAD, ["x", "1\r\nHost: b"]]],
  ["a NUL in a value", [...HEAD, ["x", "a\0b"]]],
  ["a blank around a value", [...HEAD, ["x", " 1"]]],
  ["connection", [...HEAD, ["connection", "close"]]],
  ["keep-alive", [...HEAD, ["keep-alive", "1"]]],
  ["proxy-connection", [...HEAD, ["proxy-connection", "close"]]],
  ["transfer-encoding", [...HEAD, ["transfer-encoding", "chunked"]]],
  ["upgrade", [...HEAD, ["upgrade", "h2c"]]],
  ["te that is not trailers", [...HEAD, ["te", "gzip"]]],
  ["content_length", [...HEAD, ["content_length", "1"]]],
  ["CONNECT", [[":method", "CONNECT"], [":scheme", "http"], [":path", "/"], [":authority", "a"]]],
  ["a method that is no token", [[":method", "GET /private"], ...HEAD.slice(1)]],
  ["another scheme", [[":method", "GET"], [":scheme", "file"], [":path", "/"]]],
  ["an authority with a user", [...HEAD.slice(0, 3), [":authority", "user@a"]]],
  ["an authority behind a byte order mark", [...HEAD.slice(0, 3), [":authority", "\u00ef\u00bb\u00bfa"]]],
  ["another host than the authority", [...HEAD, ["host", "b"]]],
  ["two hosts", [...HEAD, ["host", "a"], ["host", "a"]]],
  ["a length that is no number", [...HEAD, ["content-length", "+1"]]],
  ["two lengths", [...HEAD, ["content-length", "1"], ["content-length", "1"]]],
  ["a length without a body", [...HEAD, ["content-length", "1"]]],
];

Deno.test("Http2Connection.run() resets a stream whose fields are not those of one request, and nothing else", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  await talk.opened(1);
  for (const [at, [what, fields]] of BAD_REQUESTS.entries()) {
    const id = 2 * at + 3;
    // No table: what is refused need not be remembered.
    client.send(client.headers(id, fields));
    await client.saw(`RST_STREAM ${id} 1`).catch((cause) => {
      throw new Error(what, { cause });
    });
    assert.match(host.faults.at(-1)!.error.code, /bad-(request-fields|length)/, what);
  }
  assert.equal(host.faults.length, BAD_REQUESTS.length);
  assert.deepEqual(server.said, ["HEADERS 1 end"]);
  await talk.opened(2 * BAD_REQUESTS.length + 3);
  await talk.over();
});

Deno.test("Http2Connection.run() answers fields that are too many, too large or with too long a path", async () => {
  const talk = new Conversation(), { client, host } = talk;
  client.send(client.headers(1, [...HEAD, ...Array.from({ length: 100 }, (): Pair => ["x", "1"])]));
  await client.saw("DATA 1 end");
  client.send(client.request(3, `/public/${"x".repeat(HTTP2_LIMITS.path)}`));
  await client.saw("DATA 3 end");
  // 90,000 bytes of fields, in three frames, of which the decoded list is too large.
  const block = client.block([...HEAD, ...Array.from({ length: 6 }, (): Pair => ["x", "a".repeat(15_000)])]);
  client.send(
    frame(FRAME.HEADERS, FLAG.END_STREAM, 5, block.subarray(0, 16_384)),
    ...Array.from({ length: Math.ceil(block.length / 16_384) - 1 }, (_, at) => {
      const part = block.subarray(16_384 * (at + 1), 16_384 * (at + 2)),
        isLast = 16_384 * (at + 2) >= block.length;
      return frame(FRAME.CONTINUATION, isLast ? FLAG.END_HEADERS : 0, 5, part);
    }),
  );
  await client.saw("DATA 5 end");
  assert.deepEqual([1, 3, 5].map((id) => client.fieldsOf(id)[0][1]), ["431", "414", "431"]);
  assert.equal(host.judged.length, 0);
  assert.deepEqual(host.faults.map(({ error }) => error.code), [
    "fields-too-large",
    "path-too-long",
    "fields-too-large",
  ]);
  await talk.opened(7);
  await talk.over();
});

/** Answers that are none: what the client gets for them, and whether the connection ends. */
const BAD_ANSWERS: [what: string, code: Http2Fault, send: (peer: TestPeer) => Uint8Array[]][] = [
  ["no status", "bad-answer-fields", (peer) => [peer.headers(1, [["x", "1"]])]],
  ["101", "bad-answer-fields", (peer) => [peer.headers(1, [[":status", "101"]], false)]],
  ["a status of four digits", "bad-answer-fields", (peer) => [peer.headers(1, [[":status", "2000"]])]],
  ["two of them", "bad-answer-fields", (peer) => [peer.headers(1, [...OK, ...OK])]],
  ["a request's fields", "bad-answer-fields", (peer) => [peer.headers(1, HEAD)]],
  ["connection", "bad-answer-fields", (peer) => [peer.headers(1, [...OK, ["connection", "close"]])]],
  ["a line end in a value", "bad-answer-fields", (peer) => [peer.headers(1, [...OK, ["x", "a\nb"]])]],
  ["1xx that is the end", "bad-answer-fields", (peer) => [peer.headers(1, [[":status", "103"]])]],
  ["DATA in front of the fields", "bad-answer-fields", (peer) => [peer.data(1, "x")]],
  [
    "17 times 1xx",
    "answer-too-many",
    (peer) => Array.from({ length: 17 }, () => peer.headers(1, [[":status", "103"]], false)),
  ],
  [
    "more than content-length",
    "bad-length",
    (peer) => [peer.headers(1, [...OK, ["content-length", "1"]], false), peer.data(1, "ab")],
  ],
  ["less than content-length", "bad-length", (peer) => [peer.headers(1, [...OK, ["content-length", "1"]])]],
  [
    "DATA behind 204",
    "bad-length",
    (peer) => [peer.headers(1, [[":status", "204"]], false), peer.data(1, "a")],
  ],
  [
    "fields behind the end of which the request is open",
    "stream-closed",
    (peer) => [peer.headers(1, OK), peer.headers(1, OK)],
  ],
];

Deno.test("Http2Connection.run() resets a stream whose server answers wrongly, and goes on", async () => {
  for (const [what, code, send] of BAD_ANSWERS) {
    const talk = new Conversation(), { client, server, host } = talk;
    await talk.opened(1, "/public", false);
    server.send(settings(), ...send(server));
    await client.saw("RST_STREAM 1").catch((cause) => {
      throw new Error(what, { cause });
    });
    await server.saw("RST_STREAM 1 8");
    assert.deepEqual(host.faults.map(({ error, side }) => [error.code, side]), [[code, "server"]], what);
    await talk.opened(3);
    server.send(server.headers(3, OK));
    await client.saw("HEADERS 3 end");
    await talk.over();
  }
});
