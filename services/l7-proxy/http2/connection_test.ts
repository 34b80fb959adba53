import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import type { Socket } from "../socket.ts";
import { FLAG, FRAME, readUint32, SETTING } from "./frame.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { Conversation, frame, type Pair, settings, uint32 } from "./testing.ts";

const OK: readonly Pair[] = [[":status", "200"], ["content-type", "text/plain"]];
const GRPC: Pair = ["content-type", "application/grpc+proto"];

Deno.test("Http2Connection.run() passes on requests and their answers, side by side, whatever comes first", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  await talk.opened(1, "/public?a=%20b", true, ["x-a", "1"], ["cookie", "a=1"], ["cookie", "b=2"]);
  await talk.opened(3, "/public/2", false);
  client.send(client.data(3, "hel"), client.data(3, "lo", true));
  await server.saw("DATA 3 end");
  assert.equal(server.textOf(3), "hello");
  assert.deepEqual(server.fieldsOf(1), [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/public?a=%20b"],
    [":authority", "a"],
    ["x-a", "1"],
    ["cookie", "a=1"],
    ["cookie", "b=2"],
  ]);
  server.send(settings(), server.headers(3, OK, false), server.data(3, "three", true));
  await client.saw("DATA 3 end");
  server.send(server.headers(1, [[":status", "103"], ["link", "</a>"]], false), server.headers(1, OK, false));
  server.send(server.data(1, "one"), server.headers(1, [["x-sum", "5"]]));
  await client.saw("HEADERS 1 end");
  assert.equal(client.textOf(1), "one");
  assert.deepEqual(client.fieldsOf(1).map(([name]) => name), [
    ":status",
    "link",
    ":status",
    "content-type",
    "x-sum",
  ]);
  assert.equal(host.connects, 1);
  assert.deepEqual(host.answers.map(({ path, status }) => [path, status]), [["/public/2", 200], [
    "/public?a=%20b",
    200,
  ]]);
  assert.equal(await talk.over(), "client-closed");
  assert.deepEqual(host.faults, []);
});

Deno.test("Http2Connection.run() answers what is denied with 403 and no connection to the server, and goes on", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  client.send(client.request(1, "/private"));
  await client.saw("DATA 1 end");
  assert.equal(host.connects, 0);
  assert.deepEqual(client.fieldsOf(1), [[":status", "403"], ["content-length", "15"], [
    "content-type",
    "text/plain",
  ]]);
  assert.equal(client.textOf(1), "Access denied\r\n");
  await talk.opened(3);
  // The server's table knows nothing of what it was not told.
  assert.deepEqual(server.said, ["HEADERS 3 end"]);
  client.send(
    client.headers(5, [[":method", "HEAD"], [":scheme", "http"], [":path", "/private"], [":authority", "a"]]),
  );
  await client.saw("HEADERS 5 end");
  await talk.over();
});

Deno.test("Http2Connection.run() answers a denied call of gRPC with its status and our words, and no more of it is asked for", async () => {
  const talk = new Conversation(), { client, host } = talk;
  client.send(client.request(1, "/private.S/Call", false, GRPC));
  await client.saw("RST_STREAM 1 0");
  assert.deepEqual(client.said, ["HEADERS 1 end", "RST_STREAM 1 0"]);
  assert.deepEqual(client.fieldsOf(1), [
    [":status", "200"],
    ["content-type", "application/grpc"],
    ["grpc-status", "7"],
    ["grpc-message", "Denied by policy p: no rule allows it"],
  ]);
  assert.deepEqual(host.answers, [{ path: "/private.S/Call", status: 200, grpcStatus: 7 }]);
  await talk.over();
});

Deno.test("Http2Connection.run() takes gRPC's status from the trailer, of calls in both directions", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  await talk.opened(1, "/p.S/Call", false, GRPC, ["te", "trailers"]);
  client.send(client.data(1, "ask"));
  server.send(settings(), server.headers(1, [[":status", "200"], GRPC], false), server.data(1, "answer"));
  await client.saw("DATA 1");
  assert.equal(host.answers.length, 0);
  client.send(client.data(1, "more", true));
  await server.saw("DATA 1 end");
  server.send(server.headers(1, [["grpc-status", "5"], ["grpc-message", "not there"]]));
  await client.saw("HEADERS 1 end");
  assert.deepEqual(host.answers, [{ path: "/p.S/Call", status: 200, grpcStatus: 5 }]);
  // An answer that is nothing but its trailer.
  await talk.opened(3, "/p.S/Call", true, GRPC);
  server.send(server.headers(3, [[":status", "200"], GRPC, ["grpc-status", "0"]]));
  await client.saw("HEADERS 3 end");
  assert.equal(host.answers[1].grpcStatus, 0);
  // One that is given up has none.
  await talk.opened(5, "/p.S/Call", true, GRPC);
  server.send(server.headers(5, [[":status", "200"], GRPC], false));
  await client.saw("HEADERS 5");
  client.send(frame(FRAME.RST_STREAM, 0, 5, uint32(8)));
  await server.saw("RST_STREAM 5 8");
  assert.equal(host.answers[2].grpcStatus, undefined);
  await talk.over();
});

Deno.test("Http2Connection.run() changes of a request what rules change, and its path where that is not plain", async () => {
  const talk = new Conversation(() => ({
      changes: [
        { action: "ADD", name: "X-Added", value: "yé" },
        { action: "REPLACE", name: "X-Replaced", value: "new" },
        { action: "DELETE", name: "x-deleted", value: "" },
        // None of these may be made.
        { action: "ADD", name: "Connection", value: "close" },
        { action: "ADD", name: "TE", value: "gzip" },
        { action: "ADD", name: "x-two", value: "a\r\nx-three: b" },
        { action: "REPLACE", name: ":path", value: "/other" },
      ],
    })
    ),
    { server } = talk;
  await talk.opened(1, "/a/../public//x", true, ["x-replaced", "old"], ["x-deleted", "1"], ["x-added", "0"]);
  assert.deepEqual(
    server.fieldsOf(1).slice(2),
    [
      [":path", "/public/x"],
      [":authority", "a"],
      ["x-added", "0"],
      ["x-added", "y\u00e9"],
      ["x-replaced", "new"],
    ].map(([name, value]) => [name, value === "y\u00e9" ? server.fieldsOf(1)[5][1] : value]),
  );
  assert.match(server.fieldsOf(1)[5][1], /^y/);
  talk.client.send(talk.client.request(3, "/public%2Fx"));
  await talk.client.saw("HEADERS 3 end");
  assert.deepEqual(talk.client.fieldsOf(3), [[":status", "307"], ["content-length", "0"], [
    "location",
    "/public/x",
  ]]);
  await talk.over();
});

Deno.test("Http2Connection.run() grants a sender what the receiver grants, and holds nothing", async () => {
  const talk = new Conversation(undefined, [SETTING.INITIAL_WINDOW_SIZE, 100_000]), { client, server } = talk;
  await talk.opened(1, "/public", false);
  const told = (peer: typeof client) =>
    peer.frames.filter(({ type, flags }) => type === FRAME.SETTINGS && flags === 0).flatMap(({ payload }) =>
      Array.from(
        { length: payload.length / 6 },
        (_, at) => [payload[at * 6 + 1], readUint32(payload, at * 6 + 2)],
      )
    );
  // The client's window is the server's from the start.
  assert.deepEqual(told(server).find(([id]) => id === SETTING.INITIAL_WINDOW_SIZE), [
    SETTING.INITIAL_WINDOW_SIZE,
    100_000,
  ]);
  server.send(settings([SETTING.INITIAL_WINDOW_SIZE, 1_000_000], [SETTING.MAX_CONCURRENT_STREAMS, 7]));
  // The server's is the client's as soon as it has answered our first ones.
  client.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  await until("the client is told", () => told(client).some(([id]) => id === SETTING.INITIAL_WINDOW_SIZE), 5);
  assert.deepEqual(told(client).slice(-2), [[SETTING.INITIAL_WINDOW_SIZE, 1_000_000], [
    SETTING.MAX_CONCURRENT_STREAMS,
    7,
  ]]);
  server.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(500_000)));
  const granted = () =>
    client.frames.filter(({ type, stream }) => type === FRAME.WINDOW_UPDATE && stream === 0)
      .reduce((sum, { payload }) => sum + readUint32(payload, 0), 0);
  await until("all of it is passed on", () => granted() === 500_000, 5);
  const piece = new Uint8Array(16_384);
  for (let at = 0; at < 30; at++) client.send(client.data(1, piece));
  await until("all of it arrives", () => server.bytesOf(1) === 30 * 16_384, 5);
  await talk.over();
});

Deno.test("Http2Connection.run() waits with what a receiver does not take yet, in order, its end last", async () => {
  const talk = new Conversation(), { client, server } = talk;
  await talk.opened(1, "/public", false);
  // What was granted before is taken back: the client may still send 65535.
  server.send(settings([SETTING.INITIAL_WINDOW_SIZE, 10]));
  await until(
    "it is answered",
    () => server.frames.some(({ type, flags }) => type === FRAME.SETTINGS && flags === 1),
    5,
  );
  client.send(client.data(1, "0123456789abc"), client.data(1, "def"), client.headers(1, [["x-sum", "16"]]));
  client.send(frame(FRAME.PING, 0, 0, "12345678"));
  await until(
    "the client's PING is answered",
    () => client.frames.some(({ type }) => type === FRAME.PING),
    5,
  );
  assert.equal(server.textOf(1), "0123456789");
  server.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(4)));
  await until("four more", () => server.textOf(1) === "0123456789abcd", 5);
  server.send(settings([SETTING.INITIAL_WINDOW_SIZE, 100]));
  await server.saw("HEADERS 1 end");
  assert.equal(server.textOf(1), "0123456789abcdef");
  assert.deepEqual(server.fieldsOf(1).at(-1), ["x-sum", "16"]);
  await talk.over();
});

Deno.test("Http2Connection.run() reads no more of a client than a server takes that does not take anything", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  let release = () => {};
  const taken = new Promise<void>((resolve) => release = resolve),
    write = host.server.write.bind(host.server);
  await talk.opened(1, "/public", false);
  server.send(
    settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 30]),
    frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 30)),
  );
  client.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  await until(
    "the client may send much",
    () =>
      client.frames.filter(({ type, flags }) => type === FRAME.SETTINGS && flags === 0).length === 2 &&
      client.frames.some(({ type }) => type === FRAME.WINDOW_UPDATE),
    5,
  );
  host.server.write = async (bytes) => {
    await taken;
    return await write(bytes);
  };
  let reads = 0;
  const read = client.socket.read.bind(client.socket);
  client.socket.read = async (bytes) => {
    const count = await read(bytes);
    reads += count ?? 0;
    return count;
  };
  const piece = client.data(1, new Uint8Array(16_384));
  for (let at = 0; at < 100; at++) client.send(piece);
  await until("it waits", () => host.waiting === "stream" && reads > HTTP2_LIMITS.outflow / 2, 5);
  // Some turns later it has read no more than two buffers.
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve));
  assert.ok(reads < 5 * HTTP2_LIMITS.outflow, `${reads} bytes read`);
  release();
  await until("all of it arrives", () => server.bytesOf(1) === 100 * 16_384, 5);
  await talk.over();
});

Deno.test("Http2Connection.run() holds a bounded part of what a client sends to a server that took its leave back", async () => {
  const talk = new Conversation(), { client, server } = talk;
  server.send(
    settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 30]),
    frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 30)),
  );
  await talk.opened(1, "/public", false);
  client.send(frame(FRAME.SETTINGS, FLAG.ACK, 0));
  await until(
    "the client may send much",
    () =>
      client.frames.some(({ type, payload }) =>
        type === FRAME.SETTINGS && payload.length === 6 || payload.length === 12
      ) &&
      client.frames.some(({ type }) => type === FRAME.WINDOW_UPDATE),
    5,
  );
  server.send(settings([SETTING.INITIAL_WINDOW_SIZE, 0]));
  await until(
    "it is answered",
    () => server.frames.filter(({ type, flags }) => type === FRAME.SETTINGS && flags === 1).length === 2,
    5,
  );
  let reads = 0;
  const read = client.socket.read.bind(client.socket);
  client.socket.read = async (bytes) => {
    const count = await read(bytes);
    reads += count ?? 0;
    return count;
  };
  const piece = client.data(1, new Uint8Array(16_384));
  for (let at = 0; at < 200; at++) client.send(piece);
  await until("much is read", () => reads > HTTP2_LIMITS.held, 5);
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve));
  assert.ok(reads < HTTP2_LIMITS.held + 3 * 65_536, `${reads} bytes read`);
  server.send(settings([SETTING.INITIAL_WINDOW_SIZE, 2 ** 30]));
  await until("all of it arrives", () => server.bytesOf(1) === 200 * 16_384, 5);
  await talk.over();
});

Deno.test("Http2Connection.run() reads a denied request's short body, and stops a long one", async () => {
  const talk = new Conversation(), { client } = talk;
  client.send(client.request(1, "/private", false, ["content-length", "5"]), client.data(1, "hello", true));
  await client.saw("DATA 1 end");
  client.send(client.request(3, "/private", false, ["content-length", "1000000"]));
  await client.saw("RST_STREAM 3 0");
  // Behind it what was under way may come.
  client.send(client.data(3, "x"));
  client.send(client.request(5, "/private", false));
  for (let at = 0; at < 20; at++) client.send(client.data(5, new Uint8Array(16_384)));
  await client.saw("RST_STREAM 5 0");
  await talk.opened(7);
  assert.deepEqual(client.said.filter((one) => one.endsWith("1 0")), []);
  await talk.over();
});

Deno.test("Http2Connection.run() passes on RST_STREAM of both sides, and what a server wants no more of", async () => {
  const talk = new Conversation(), { client, server } = talk;
  for (const id of [1, 3, 5]) await talk.opened(id, "/public", false);
  client.send(frame(FRAME.RST_STREAM, 0, 1, uint32(8)));
  await server.saw("RST_STREAM 1 8");
  server.send(settings(), frame(FRAME.RST_STREAM, 0, 3, uint32(7)));
  await client.saw("RST_STREAM 3 7");
  // It has answered, and does not wait for the rest.
  server.send(server.headers(5, OK), frame(FRAME.RST_STREAM, 0, 5, uint32(0)));
  await client.saw("RST_STREAM 5 0");
  assert.ok(client.said.includes("HEADERS 5 end"));
  // What was under way for streams that are over is no fault.
  client.send(
    client.data(3, "late"),
    client.headers(5, [["x", "late"]]),
    frame(FRAME.WINDOW_UPDATE, 0, 3, uint32(1)),
  );
  server.send(server.headers(1, OK, false), server.data(1, "late", true));
  await talk.opened(7);
  assert.deepEqual(talk.host.faults, []);
  await talk.over();
});

Deno.test("Http2Connection.run() passes on GOAWAY of the server: what it did not take may be asked elsewhere", async () => {
  const talk = new Conversation(), { client, server } = talk;
  for (const id of [1, 3]) await talk.opened(id);
  server.send(settings(), frame(FRAME.GOAWAY, 0, 0, Uint8Array.from([...uint32(1), ...uint32(0)])));
  await client.saw("RST_STREAM 3 7");
  assert.ok(client.said.includes("GOAWAY 0"));
  client.send(client.request(5, "/public"));
  await client.saw("RST_STREAM 5 7");
  server.send(server.headers(1, OK), null);
  await client.saw("HEADERS 1 end");
  client.send(null);
  assert.equal(await talk.ended, "server-closed");
  assert.deepEqual(server.said, ["HEADERS 1 end", "HEADERS 3 end"]);
});

Deno.test("Http2Connection.run() refuses streams beyond what both sides take", async () => {
  const talk = new Conversation(), { client, server } = talk;
  for (let id = 1; id <= 2 * HTTP2_LIMITS.streamCount + 1; id += 2) {
    client.send(client.request(id, "/public"));
  }
  await client.saw(`RST_STREAM ${2 * HTTP2_LIMITS.streamCount + 1} 7`);
  assert.equal(server.said.length, HTTP2_LIMITS.streamCount);
  server.send(settings(), server.headers(1, OK));
  await client.saw("HEADERS 1 end");
  await talk.opened(203);
  await talk.over();
});

Deno.test("Http2Connection.run() tells a client of a server that is away, or speaks no HTTP/2", async () => {
  for (
    const [answer, why, said] of [
      [new Error("Connection refused"), "server-refused", /Connection refused/],
      ["HTTP/1.1 400 Bad Request\r\n\r\n", "not-http2", /no HTTP\/2.*found "HTTP\/1.1 400/],
      ["", "server-closed", /the server closed the connection/],
    ] as const
  ) {
    const talk = new Conversation(), { client, host } = talk;
    if (answer instanceof Error) {
      host.connected = until("both are judged", () => host.judged.length === 2, 5).then(() =>
        Promise.reject<Socket>(answer)
      );
    }
    client.send(client.request(1, "/public"), client.request(3, "/p.S/Call", true, GRPC));
    await until("both are judged", () => host.judged.length === 2, 5);
    if (typeof answer === "string") host.server.send(answer, null);
    await client.saw("GOAWAY 0");
    client.send(null);
    assert.equal(await talk.ended, why);
    assert.match(client.textOf(1), said);
    assert.equal(client.fieldsOf(1)[0][1], "503");
    const call = new Map(client.fieldsOf(3));
    assert.deepEqual([call.get(":status"), call.get("grpc-status")], ["200", "14"]);
    assert.match(call.get("grpc-message")!, said);
    assert.deepEqual(host.answers.map(({ status, grpcStatus }) => [status, grpcStatus]), [[503, undefined], [
      200,
      14,
    ]]);
    assert.equal(client.socket.closed, true);
  }
});

Deno.test("Http2Connection.run() ends answers that a server breaks off", async () => {
  const talk = new Conversation(), { client, server } = talk;
  await talk.opened(1);
  server.send(settings(), server.headers(1, OK, false), server.data(1, "half"));
  await client.saw("DATA 1");
  server.send(new Deno.errors.ConnectionReset());
  await client.saw("RST_STREAM 1 2");
  client.send(null);
  assert.equal(await talk.ended, "server-reset");
});

Deno.test("Http2Connection.run() ends a connection that no rule is for any more", async () => {
  const talk = new Conversation(({ target }) =>
    target.path === "/closed" ? { verdict: "closed", why: "policy-denies" } : {}
  );
  await talk.opened(1);
  talk.client.send(talk.client.request(3, "/closed"));
  await talk.client.saw("GOAWAY 7");
  talk.client.send(null);
  assert.equal(await talk.ended, "policy-denies");
  assert.deepEqual(talk.server.said, ["HEADERS 1 end"]);
});

Deno.test("Http2Connection.run() asks once for a connection that takes its time, and bounds what waits for it", async () => {
  const talk = new Conversation(), { client, server, host } = talk;
  let connect = (_: Socket) => {};
  host.connected = new Promise((resolve) => connect = resolve);
  client.send(
    client.request(1, "/public"),
    client.request(3, "/public", false),
    client.data(3, "hello", true),
  );
  client.send(client.request(5, "/private"));
  await client.saw("DATA 5 end");
  connect(host.server);
  await server.saw("DATA 3 end");
  assert.equal(host.connects, 1);
  assert.deepEqual(server.said, ["HEADERS 1 end", "HEADERS 3", "DATA 3 end"]);
  assert.equal(host.waiting, "stream");
  server.send(settings(), server.headers(1, OK, false), server.headers(3, OK, false));
  await until("both may be silent", () => host.waiting === "spliced", 5);
  server.send(server.data(1, "", true), server.data(3, "", true));
  await until("nothing is asked", () => host.waiting === "idle", 5);
  await talk.over();
});
