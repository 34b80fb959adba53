/**
 * Neither side ends a connection by GOAWAY: a process on Deno 2.9 that gets one on a connection with a hundred calls behind it dies of
 * a signal (denoland/deno#36788), and a relay or a flow exporter that stops would take the others along.
 * @module
 */
import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { connectGrpc } from "./client.ts";
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
const PREFACE_BYTES = 24;

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
