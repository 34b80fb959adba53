import assert from "node:assert/strict";
import http2 from "node:http2";
import net from "node:net";
import { systemClock } from "@weir/common";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { connectGrpc, type GrpcClientLimits, type GrpcConnection } from "./client.ts";
import { framesOf } from "./frame.ts";
import { type GrpcMethods, streamingBytes, unary } from "./methods.ts";
import { GrpcServer } from "./server.ts";
import { GrpcError } from "./status.ts";

const EMPTY = new Uint8Array(0);
const STATUS = [ServerStatusRequest, ServerStatusResponse] as const;
let made = 0, ended = 0;
const methods: GrpcMethods = {
  "/t/One": unary(...STATUS, () => ServerStatusResponse.create({ num_flows: 7 })),
  "/t/No": unary(...STATUS, () => {
    throw new GrpcError("NOT_FOUND", "not here: é\x1b[31m%");
  }),
  "/t/Flood": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
    try {
      for (; !signal.aborted; made++) {
        yield Array.from({ length: 64 }, () => new Uint8Array(1000));
        await Promise.resolve();
      }
    } finally {
      ended++;
    }
  }),
  "/t/Wait": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    yield [];
  }),
};

async function connected(run: (connection: GrpcConnection, server: GrpcServer) => Promise<void>) {
  const server = new GrpcServer({ methods });
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  const connection = await connectGrpc({ hostname: "127.0.0.1", port });
  try {
    await run(connection, server);
  } finally {
    connection.close();
    await server.stop();
  }
}

/** What a peer on bare HTTP/2 answers to one call, as the client sees it. */
async function against(
  answer: (stream: http2.ServerHttp2Stream) => void,
  limits: Partial<GrpcClientLimits> = {},
): Promise<string> {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream: http2.ServerHttp2Stream) => {
    stream.on("error", () => {});
    answer(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as net.AddressInfo;
  const connection = await connectGrpc({ hostname: "127.0.0.1", port }, { limits });
  try {
    const { num_flows } = await connection.unary("/t/One", STATUS, {}, { deadlineMs: 20_000 });
    return `OK ${num_flows}`;
  } catch (error) {
    assert.ok(error instanceof GrpcError, `${error}`);
    return `${error.status}: ${error.message}`;
  } finally {
    connection.close();
    for (const session of sessions) session.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

const respond = (stream: http2.ServerHttp2Stream, body: Uint8Array, status: string | undefined) => {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on(
    "wantTrailers",
    () => status === undefined ? stream.close() : stream.sendTrailers({ "grpc-status": status }),
  );
  stream.end(body);
};

Deno.test("connectGrpc() calls with one answer, and with an error in the server's words", async () => {
  await connected(async (connection) => {
    assert.equal((await connection.unary("/t/One", STATUS, {})).num_flows, 7);
    const refused = await connection.unary("/t/No", STATUS, {}).catch((error) => error);
    assert.deepEqual([refused.status, refused.message], ["NOT_FOUND", "not here: é [31m%"]);
    await assert.rejects(connection.unary("/t/None", STATUS, {}), /no method/);
  });
});

Deno.test("a reader that takes nothing lets the server stand still, and holds up no other call", async () => {
  await connected(async (connection) => {
    const before = ended, start = made;
    for await (const batch of connection.stream("/t/Flood", EMPTY)) {
      assert.equal(batch[0].length, 1000);
      for (let last = -1; last !== made; await systemClock.sleep(100)) last = made;
      assert.ok(made - start < 200, `${made - start} batches of 64 KB were made for nobody`);
      assert.equal((await connection.unary("/t/One", STATUS, {})).num_flows, 7);
      break;
    }
    while (ended === before) await systemClock.sleep(5);
  });
});

Deno.test("a call ends by deadline, by silence, by signal and with its connection", async () => {
  await connected(async (connection, server) => {
    const wait = async (options: object) => {
      for await (const _ of connection.stream("/t/Wait", EMPTY, options));
    };
    await assert.rejects(wait({ deadlineMs: 50 }), { status: "DEADLINE_EXCEEDED" });
    await assert.rejects(wait({ quietMsMax: 50 }), { status: "DEADLINE_EXCEEDED" });
    await assert.rejects(wait({ signal: AbortSignal.timeout(50) }), { status: "CANCELLED" });
    await assert.rejects(wait({ signal: AbortSignal.abort() }), { status: "CANCELLED" });
    const last = assert.rejects(wait({}), { status: "UNAVAILABLE" });
    await server.stop();
    await last;
    await connection.closed;
    await assert.rejects(connection.unary("/t/One", STATUS, {}), { status: "UNAVAILABLE" });
  });
});

Deno.test("broken servers are errors of the call", async () => {
  const one = framesOf([ServerStatusResponse.encode({ num_flows: 7 })]);
  assert.equal(await against((stream) => respond(stream, one, "0")), "OK 7");
  assert.match(await against((stream) => respond(stream, one, "77")), /^UNKNOWN/);
  assert.match(await against((stream) => respond(stream, one, undefined)), /^UNAVAILABLE: /);
  assert.match(await against((stream) => respond(stream, EMPTY, "0")), /^INTERNAL: .*no answer/);
  assert.match(
    await against((stream) => respond(stream, new Uint8Array([...one, ...one]), "0")),
    /^INTERNAL: .*many/,
  );
  assert.match(
    await against((stream) => respond(stream, one.subarray(0, 6), "0")),
    /^INTERNAL: .*inside a message/,
  );
  assert.match(
    await against((stream) => respond(stream, new Uint8Array([1, 0, 0, 0, 0]), "0")),
    /^INTERNAL: .*compressed/,
  );
  assert.match(
    await against((stream) => respond(stream, new Uint8Array([0, 255, 0, 0, 0]), "0")),
    /^INTERNAL: .*too long/,
  );
  assert.match(
    await against((stream) => respond(stream, framesOf([new Uint8Array([255])]), "0")),
    /^INTERNAL: .*read/,
  );
  assert.match(await against((stream) => stream.close(2)), /^UNAVAILABLE/);
  assert.match(
    await against((stream) => stream.respond({ ":status": 404 }, { endStream: true })),
    /HTTP 404/,
  );
  assert.match(
    await against((stream) =>
      stream.respond({ ":status": 200, "grpc-status": "14", "grpc-message": "%zz" }, { endStream: true })
    ),
    /^UNAVAILABLE: %zz/,
  );
  assert.match(await against((stream) => stream.session!.destroy()), /^UNAVAILABLE/);
});

Deno.test("connectGrpc() gives up where nobody listens, answers, or speaks HTTP/2; a peer that falls silent is gone", async () => {
  const sockets = new Set<net.Socket>();
  const served = async (answer: (socket: net.Socket) => void) => {
    const server = net.createServer((socket) => {
      sockets.add(socket.on("error", () => {}));
      answer(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    const { port } = server.address() as net.AddressInfo;
    return { hostname: "127.0.0.1", port, server };
  };
  const mute = await served(() => {});
  await assert.rejects(connectGrpc(mute, { limits: { connectMsMax: 100 } }), /no answer/);
  await assert.rejects(connectGrpc(mute, { signal: AbortSignal.timeout(50) }), /given up/);
  const chatter = await served((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await assert.rejects(connectGrpc(chatter, { limits: { connectMsMax: 2000 } }), { status: "UNAVAILABLE" });
  // Says its settings, and nothing more: as a process that is stopped.
  const settings = new Uint8Array([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const frozen = await served((socket) => socket.write(settings));
  const limits = { turnMs: 50, idlePingMs: 50, pingMs: 50 };
  const connection = await connectGrpc(frozen, { limits });
  assert.equal(await connection.closed, "it does not answer");
  for (const { server } of [mute, chatter, frozen]) {
    await new Promise<void>((resolve) =>
      server.close(() => resolve()) && sockets.forEach((one) => one.destroy())
    );
  }
  await assert.rejects(connectGrpc(frozen), { status: "UNAVAILABLE" });
});
