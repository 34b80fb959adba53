/**
 * A process on Deno 2.9 that gets GOAWAY on a connection with some calls behind it dies of a signal (denoland/deno#36788). So no side
 * ends a connection by it, and none that comes reaches `node:http2`.
 * @module
 */
import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { until } from "@weir/common/testing/until";
import { connectGrpc } from "./client.ts";
import { GoawayFilter, PREFACE_BYTES } from "./goaway_filter.ts";
import { unary } from "./methods.ts";
import { GrpcServer } from "./server.ts";
import {
  callHeaders,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  joined,
  RawConnection,
} from "./testing/raw_connection.ts";

const STATUS = [ServerStatusRequest, ServerStatusResponse] as const;
/** Types of the frames that come on a socket until it closes. */
async function typesOn(socket: Socket, skip = 0): Promise<number[]> {
  const chunks: Uint8Array[] = [];
  socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const bytes = joined(...chunks), view = new DataView(bytes.buffer), types: number[] = [];
  for (let at = skip; at + 9 <= bytes.length; at += 9 + (view.getUint32(at) >>> 8)) types.push(bytes[at + 3]);
  return types;
}

Deno.test("GrpcServer.stop() and a connection that nobody uses end without GOAWAY", async () => {
  for (const idleMsMax of [60_000, 50]) {
    const methods = { "/t/One": unary(...STATUS, () => ServerStatusResponse.create({})) };
    const server = new GrpcServer({ methods, limits: { idleMsMax, requestMsMax: 100 } });
    const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
    const raw = await RawConnection.open(port), types = typesOn(raw.socket);
    await raw.send(joined(
      frame(FRAME.HEADERS, END_HEADERS, 1, callHeaders("/t/One")),
      frame(FRAME.DATA, END_STREAM, 1, new Uint8Array(5)),
    ));
    if (idleMsMax === 60_000) {
      while (raw.received < 50) await new Promise((resolve) => setTimeout(resolve, 10));
      await server.stop();
    }
    const seen = await types;
    assert.ok(seen.includes(FRAME.HEADERS), `${seen}`);
    assert.ok(!seen.includes(FRAME.GOAWAY), `${seen}`);
    await server.stop();
  }
});

Deno.test("GrpcConnection.close() ends without GOAWAY, with calls and without", async () => {
  for (const hasCall of [false, true]) {
    let types: Promise<number[]> | undefined;
    const server = createServer((socket) => {
      types = typesOn(socket, PREFACE_BYTES);
      socket.write(frame(FRAME.SETTINGS, 0, 0, new Uint8Array()));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    const { port } = server.address() as AddressInfo;
    const connection = await connectGrpc({ hostname: "127.0.0.1", port });
    const call = hasCall ? connection.unary("/t/One", STATUS, {}) : Promise.reject(new Error("none"));
    call.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 50));
    connection.close();
    await assert.rejects(call);
    const seen = await types!;
    assert.ok(seen.includes(FRAME.SETTINGS), `${seen}`);
    assert.ok(!seen.includes(FRAME.GOAWAY), `${seen}`);
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
});

Deno.test("calls go on over a connection whose caller says GOAWAY after many of them", async () => {
  const methods = { "/t/One": unary(...STATUS, () => ServerStatusResponse.create({})) };
  const server = new GrpcServer({ methods });
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  for (let round = 0; round < 3; round++) {
    const raw = await RawConnection.open(port);
    let stream = 1;
    const call = async () => {
      const before = raw.received;
      await raw.send(joined(
        frame(FRAME.HEADERS, END_HEADERS, stream, callHeaders("/t/One")),
        frame(FRAME.DATA, END_STREAM, stream, new Uint8Array(5)),
      ));
      stream += 2;
      await until("it is answered", () => raw.received > before, 2);
    };
    for (let i = 0; i < 200; i++) await call();
    await raw.send(frame(FRAME.GOAWAY, 0, 0, new Uint8Array(8)));
    await call();
    raw.socket.destroy();
  }
  await server.stop();
});

Deno.test("a client whose server says GOAWAY closes, and says why", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => {}).resume();
    socket.write(joined(
      frame(FRAME.SETTINGS, 0, 0, new Uint8Array()),
      frame(FRAME.GOAWAY, 0, 0, new Uint8Array(8)),
    ));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as AddressInfo;
  const why = await connectGrpc({ hostname: "127.0.0.1", port }).then(
    ({ closed }) => closed,
    (error) => `${error}`,
  );
  assert.match(why, /the server stops/);
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

Deno.test("GoawayFilter passes everything else, in whatever pieces it comes", () => {
  const bytes = (length: number, first: number) => Uint8Array.from({ length }, (_, i) => first + i & 255);
  const preface = bytes(PREFACE_BYTES, 7);
  const before = frame(FRAME.HEADERS, END_HEADERS, 1, bytes(300, 1)),
    empty = frame(FRAME.SETTINGS, 1, 0, new Uint8Array());
  const goaway = frame(FRAME.GOAWAY, 0, 0, bytes(40, 7)), short = frame(FRAME.GOAWAY, 0, 0, new Uint8Array());
  const after = frame(FRAME.DATA, END_STREAM, 1, bytes(70_000, 7));
  const sent = joined(preface, before, goaway, empty, short, goaway, after, empty);
  const wanted = joined(preface, before, empty, after, empty);
  for (const size of [1, 2, 5, 8, 9, 10, 13, 333, 65_536, sent.length]) {
    let heard = 0;
    const filter = new GoawayFilter(PREFACE_BYTES, () => heard++), passed: Uint8Array[] = [];
    for (let at = 0; at < sent.length; at += size) passed.push(...filter.take(sent.slice(at, at + size)));
    assert.deepEqual(joined(...passed), wanted, `pieces of ${size} bytes`);
    assert.equal(heard, 3);
  }
});
