/** Connections that cost a server something by what they leave out: handshakes, requests, windows, calls. @module */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { Logger, MetricsRegistry, systemClock, untilAborted } from "@weir/common";
import { until } from "@weir/common/testing/until";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { connectGrpc } from "./client.ts";
import { framesOf } from "./frame.ts";
import { type GrpcMethods, streamingBytes, unary } from "./methods.ts";
import { type GrpcAddress, type GrpcLimits, GrpcServer, type GrpcTls } from "./server.ts";
import { Caller } from "./testing/caller.ts";
import {
  callHeaders,
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  joined,
  RawConnection,
} from "./testing/raw_connection.ts";

const NOTHING = new Uint8Array();
const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const times = <T>(count: number, make: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => make(n));

class Server implements AsyncDisposable {
  readonly metrics = new MetricsRegistry();
  batches = 0;
  waiting = 0;
  readonly told: string[] = [];
  readonly #server: GrpcServer;
  port = 0;

  constructor(limits: Partial<GrpcLimits>) {
    const methods: GrpcMethods = {
      "/t/One": unary(
        ServerStatusRequest,
        ServerStatusResponse,
        () => ServerStatusResponse.create({ num_flows: 1 }),
      ),
      "/t/Wait": streamingBytes(ServerStatusRequest, (_, { signal }) => this.#wait(signal)),
      "/t/Flood": streamingBytes(ServerStatusRequest, (_, { signal }) => this.#flood(signal)),
    };
    const log = new Logger({ name: "grpc", write: (line) => this.told.push(line) });
    this.#server = new GrpcServer({ methods, metrics: this.metrics, limits, log });
  }

  async *#wait(signal: AbortSignal): AsyncGenerator<Uint8Array[]> {
    this.waiting++;
    yield [NOTHING];
    await untilAborted(signal);
    this.waiting--;
  }

  async *#flood(signal: AbortSignal): AsyncGenerator<Uint8Array[]> {
    for (; !signal.aborted; this.batches++) {
      yield [new Uint8Array(65_536)];
      await Promise.resolve();
    }
  }

  async listen(tls?: GrpcTls): Promise<this> {
    this.port = (await this.#server.listen({ hostname: "127.0.0.1", port: 0 }, tls)).port;
    return this;
  }

  async listenAt(address: GrpcAddress): Promise<number> {
    return (await this.#server.listen(address)).port;
  }

  caller(): Caller {
    return new Caller(`http://127.0.0.1:${this.port}`);
  }

  count(what: string): number {
    return Number(
      this.metrics.render().split("\n").find((line) => line.startsWith(`${what} `))?.split(" ")[1] ?? 0,
    );
  }

  refused(reason: string): number {
    return this.count(`weir_grpc_refused_total{reason="${reason}"}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(0);
  }
}

async function sockets(count: number, port: number, first: Uint8Array): Promise<Socket[]> {
  return await Promise.all(times(count, async () => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.resume();
    await new Promise((resolve) => socket.once("connect", resolve));
    if (first.length > 0) socket.write(first);
    return socket;
  }));
}

Deno.test("a thousand connections that say nothing keep nobody out", async () => {
  for (const first of [NOTHING, joined(PREFACE, frame(FRAME.SETTINGS, 0, 0, NOTHING))]) {
    await using server = await new Server({}).listen();
    const regular = server.caller();
    assert.equal((await regular.call("/t/One", NOTHING)).status, 0);
    const idle = await sockets(1000, server.port, first);
    const late = server.caller();
    try {
      assert.equal((await late.call("/t/One", NOTHING)).status, 0);
      assert.equal(
        (await regular.call("/t/One", NOTHING)).status,
        0,
        "who made a call keeps its place before them",
      );
      await until(
        "no more than have a place stay",
        () => idle.filter(({ closed }) => !closed).length <= 512,
        20,
      );
      assert.ok(server.refused("idle") >= 489, `${server.refused("idle")}`);
      assert.ok(server.count("weir_grpc_connections") <= 512);
    } finally {
      for (const one of [regular, late]) one.close();
      for (const socket of idle) socket.destroy();
    }
  }
});

/** Connections that each hold a call, which the server has begun to answer. */
async function holders(
  count: number,
  authority: string,
  options: ConstructorParameters<typeof Caller>[1] = {},
): Promise<Caller[]> {
  const callers: Caller[] = [];
  for (let n = 0; n < count; n++) {
    const caller = new Caller(authority, options);
    callers.push(caller);
    const stream = caller.open("/t/Wait", framesOf([NOTHING]));
    stream.on("error", () => {});
    await new Promise((resolve) => stream.once("data", resolve).once("close", resolve));
  }
  return callers;
}

const isOpen = ({ session }: Caller) => !session.destroyed && !session.closed;

Deno.test("who holds all places with calls gives them up to others, and never those of unix sockets", async () => {
  const directory = await Deno.makeTempDir(), path = `${directory}/s`;
  await using server = await new Server({ connectionsMax: 48 }).listen();
  await server.listenAt({ path });
  // Of 48 places 6 are kept.
  const many = await holders(60, `http://127.0.0.1:${server.port}`);
  const local: Caller[] = [];
  try {
    assert.equal(many.filter(isOpen).length, 42);
    await until("all beyond are refused", () => server.refused("connections") === 18, 20);
    const unix = () => ({ createConnection: () => connect(path) });
    for (let n = 0; n < 6; n++) local.push(...await holders(1, "http://unix", unix()));
    assert.equal(many.filter(isOpen).length, 42, "the places that are kept were enough");
    for (let n = 6; n < 30; n++) local.push(...await holders(1, "http://unix", unix()));
    // 24 and 24: nobody gives up for a client that has as many.
    assert.equal(server.refused("share"), 18);
    await until("some of them are gone", () => many.filter(isOpen).length === 24, 20);
    assert.ok(many.slice(0, 24).every(isOpen), "the newest went");
    assert.ok(local.slice(0, 24).every(isOpen));
    assert.equal(server.count("weir_grpc_connections"), 48);
    const told = server.told.filter((line) => line.includes("All gRPC connections are taken"));
    assert.equal(told.length, 1, "it is told once a minute");
    assert.ok(told[0].includes("loopback"), told[0]);
  } finally {
    for (const one of [...many, ...local]) one.close();
    await until("all calls end", () => server.waiting === 0, 20);
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("handshakes that nobody ends are cut off and counted, and others come in meanwhile", async () => {
  const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
  const { requestPem, keyPem } = await createCertificateRequest("n");
  const peer = { role: "reader", node: "n" } as const;
  const options = { peer, hosts: ["localhost"], nowMs: Date.now(), lifetimeMs: 3_600_000 };
  const { certificatePem } = await authority.issue(requestPem, options);
  const tls = { cert: certificatePem, key: keyPem };
  const hello = new Uint8Array([0x16, 3, 1, 2, 0, 1, 0]), garbage = new TextEncoder().encode("x".repeat(500));
  const kinds = [NOTHING, hello, garbage];
  await using full = await new Server({ connectionsMax: 50, requestMsMax: 1e6 }).listen(tls);
  for (const first of kinds) {
    const before = full.refused("handshake"), half = await sockets(100, full.port, first);
    await until("another comes in", async () => {
      const connection = await connectGrpc({ hostname: "localhost", port: full.port }, {
        tls: { authority: stored.certificatePem },
      });
      const messages = [ServerStatusRequest, ServerStatusResponse] as const;
      const { num_flows } = await connection.unary("/t/One", messages, {}, { deadlineMs: 60_000 });
      connection.close();
      return num_flows === 1;
    }, 20);
    await until("the oldest are cut", () => full.refused("handshake") - before >= 50, 20);
    for (const socket of half) socket.destroy();
  }
  await using patient = await new Server({ requestMsMax: 500 }).listen(tls);
  for (const first of kinds) {
    const before = patient.refused("handshake"), half = await sockets(20, patient.port, first);
    await until("all are cut", () => half.every(({ closed }) => closed), 20);
    await until("all are counted", () => patient.refused("handshake") - before === 20, 20);
  }
});

Deno.test("calls whose request never comes end, and their connection serves on", async () => {
  await using server = await new Server({ requestMsMax: 300 }).listen();
  const caller = server.caller();
  const ended = times(90, () => {
    const stream = caller.open("/t/One", undefined);
    stream.on("error", () => {});
    stream.resume();
    stream.write(framesOf([new Uint8Array(9)]).slice(0, 7));
    return new Promise((resolve) => stream.on("trailers", (trailers) => resolve(trailers["grpc-status"])));
  });
  // DEADLINE_EXCEEDED
  assert.deepEqual(new Set(await Promise.all(ended)), new Set(["4"]));
  assert.equal((await caller.call("/t/One", NOTHING)).status, 0);
  caller.close();
});

Deno.test("a caller that opens no window is given nothing more, and its calls end", async () => {
  await using server = await new Server({ stallMsMax: 500 }).listen();
  // SETTINGS_INITIAL_WINDOW_SIZE (4): 0.
  const noWindow = frame(FRAME.SETTINGS, 0, 0, new Uint8Array([0, 4, 0, 0, 0, 0]));
  const raw = await RawConnection.open(server.port, joined(PREFACE, noWindow));
  const calls = times(40, (n) => {
    const stream = 1 + 2 * n;
    return joined(
      frame(FRAME.HEADERS, END_HEADERS, stream, callHeaders(n % 2 ? "/t/One" : "/t/Flood")),
      frame(FRAME.DATA, END_STREAM, stream, framesOf([NOTHING])),
    );
  });
  await raw.send(joined(...calls));
  const caller = server.caller();
  assert.equal((await caller.call("/t/One", NOTHING)).status, 0);
  await until(() => `${server.refused("stalled")} of 40 ended`, () => server.refused("stalled") === 40, 20);
  assert.ok(server.batches < 20 * 20, `${server.batches} batches were made for nobody`);
  assert.equal((await caller.call("/t/One", NOTHING)).status, 0);
  caller.close();
  raw.close();
});

Deno.test("a hundred connections that read nothing of an endless answer hold no memory", async () => {
  await using server = await new Server({}).listen();
  const opened = joined(
    PREFACE,
    frame(FRAME.SETTINGS, 0, 0, NOTHING),
    frame(FRAME.WINDOW_UPDATE, 0, 0, new Uint8Array([0x3f, 0, 0, 0])),
    frame(FRAME.HEADERS, END_HEADERS, 1, callHeaders("/t/Flood")),
    frame(FRAME.WINDOW_UPDATE, 0, 1, new Uint8Array([0x3f, 0, 0, 0])),
    frame(FRAME.DATA, END_STREAM, 1, framesOf([NOTHING])),
  );
  const stalled = await sockets(100, server.port, NOTHING);
  for (const socket of stalled) {
    socket.pause();
    socket.write(opened);
  }
  const caller = server.caller();
  const stands = async () => {
    for (let last = -1; last !== server.batches; await systemClock.sleep(300)) last = server.batches;
    assert.equal((await caller.call("/t/One", NOTHING)).status, 0);
    return server.batches;
  };
  await until("all are answered", () => server.batches > 100, 20);
  const batches = await stands();
  // What the kernel's buffers and one's own hold of each: some megabytes, though a gigabyte of window is open.
  assert.ok(batches < 100 * 128, `${batches} batches of 64 KB`);
  await systemClock.sleep(1000);
  assert.equal(await stands(), batches);
  caller.close();
  for (const socket of stalled) socket.destroy();
});
