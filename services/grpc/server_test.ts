import assert from "node:assert/strict";
import { MetricsRegistry, ProblemError } from "@weir/common";
import { ServerStatusRequest, ServerStatusResponse } from "@weir/proto/observer";
import { HealthCheckRequest, HealthCheckResponse } from "@weir/proto/health";
import { framesOf } from "./frame.ts";
import { healthMethods } from "./health.ts";
import { type GrpcMethods, streaming, streamingBytes, unary } from "./methods.ts";
import { type GrpcLimits, GrpcServer } from "./server.ts";
import { GrpcError } from "./status.ts";
import { Caller, endOf } from "./testing/caller.ts";

const EMPTY = new Uint8Array(0);
let asked = 0, ended = 0, waited = 0;
const methods: GrpcMethods = {
  "/t/One": unary(
    ServerStatusRequest,
    ServerStatusResponse,
    () => ServerStatusResponse.create({ num_flows: 7 }),
  ),
  "/t/Problem": unary(ServerStatusRequest, ServerStatusResponse, () => {
    throw new ProblemError("NO_SUCH", { status: 404, detail: "Not here: é%", action: "Look elsewhere" });
  }),
  "/t/Bug": unary(ServerStatusRequest, ServerStatusResponse, () => {
    throw new TypeError("a secret of the inside");
  }),
  "/t/Many": streaming(ServerStatusRequest, ServerStatusResponse, async function* () {
    for (let n = 1; n <= 3; n++) {
      yield [1, 2, 3].map((k) => ServerStatusResponse.create({ num_flows: n * 10 + k }));
      await Promise.resolve();
    }
  }),
  "/t/Flood": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
    const batch = Array.from({ length: 64 }, () => new Uint8Array(1000));
    try {
      while (!signal.aborted) {
        asked++;
        yield batch;
        await Promise.resolve();
      }
    } finally {
      ended++;
    }
  }),
  "/t/Wait": streamingBytes(ServerStatusRequest, async function* (_, { signal }) {
    waited++;
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    yield [];
  }),
};

async function serving(
  limits: Partial<GrpcLimits>,
  run: (caller: Caller, address: string, server: GrpcServer, metrics: MetricsRegistry) => Promise<void>,
) {
  const health = healthMethods(
    ["hubble.server.Observer"],
    () => true,
    (ms) => new Promise((r) => setTimeout(r, ms)),
  );
  const metrics = new MetricsRegistry();
  const server = new GrpcServer({
    methods: { ...methods, ...health },
    metrics,
    limits,
    headers: { "hubble-server-version": "1.2.3" },
  });
  const { port } = await server.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `http://127.0.0.1:${port}`, caller = new Caller(address);
  try {
    await run(caller, address, server, metrics);
  } finally {
    caller.close();
    await server.stop();
  }
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 5));
}

Deno.test("GrpcServer answers one and many, with headers and trailers", async () => {
  await serving({}, async (caller) => {
    const one = await caller.call("/t/One", EMPTY);
    assert.equal(one.status, 0);
    assert.equal(one.headers["hubble-server-version"], "1.2.3");
    assert.equal(ServerStatusResponse.decode(one.messages[0]).num_flows, 7);
    const many = await caller.call("/t/Many", EMPTY);
    assert.deepEqual(many.messages.map((m) => ServerStatusResponse.decode(m).num_flows), [
      ...[11, 12, 13],
      ...[21, 22, 23],
      ...[31, 32, 33],
    ]);
  });
});

Deno.test("GrpcServer says what is wrong in gRPC's words, and nothing of its inside", async () => {
  await serving({}, async (caller) => {
    const problem = await caller.call("/t/Problem", EMPTY);
    assert.deepEqual([problem.status, problem.message], [5, "Not here: é%. Look elsewhere"]);
    const bug = await caller.call("/t/Bug", EMPTY);
    assert.equal(bug.status, 13);
    assert.doesNotMatch(bug.message, /secret/);
    assert.equal((await caller.call("/t/None", EMPTY)).status, 12);
    assert.equal((await caller.call("/constructor", EMPTY)).status, 12);
    assert.equal((await caller.call("/t/One", new Uint8Array([0xff, 0xff]))).status, 3, "no message");
  });
});

Deno.test("GrpcServer refuses broken, compressed, cut, oversized and doubled requests, and goes on", async () => {
  await serving({ requestBytesMax: 100, requestMsMax: 300 }, async (caller) => {
    const ends = async (body: Uint8Array) => (await endOf(caller.open("/t/One", body))).status;
    assert.equal(await ends(new Uint8Array([1, 0, 0, 0, 0])), 12, "compressed");
    assert.equal(await ends(new Uint8Array([0, 0, 0, 0, 9, 1])), 3, "cut");
    assert.equal(await ends(new Uint8Array([0, 0xff, 0xff, 0xff, 0xff])), 8, "4 GiB");
    assert.equal(await ends(new Uint8Array(0)), 12, "none");
    assert.equal(await ends(framesOf([EMPTY, EMPTY])), 12, "two");
    const silent = caller.open("/t/One", undefined);
    assert.equal((await endOf(silent)).status, 4, "nothing comes");
    const foreign = await endOf(
      caller.open("/t/One", framesOf([EMPTY]), { "content-type": "text/plain" }),
    );
    assert.equal(foreign.headers[":status"], 415);
    assert.equal((await caller.call("/t/One", EMPTY)).status, 0);
  });
});

Deno.test("GrpcServer ends a call when its deadline passes, its caller goes, or it stops", async () => {
  await serving({}, async (caller, address, server) => {
    const late = await caller.call("/t/Wait", EMPTY, { "grpc-timeout": "50m" });
    assert.equal(late.status, 4);
    const before = ended, flood = caller.open("/t/Flood", framesOf([EMPTY]));
    flood.on("error", () => {});
    flood.once("data", () => flood.close(8));
    await until(() => ended > before);
    const begun = waited, other = new Caller(address), last = other.call("/t/Wait", EMPTY);
    await until(() => waited > begun);
    await server.stop();
    assert.equal((await last).status, 14);
    other.close();
  });
});

Deno.test("GrpcServer asks nothing of a handler while its reader stands still, and ends it in the end", async () => {
  await serving({ stallMsMax: 400 }, async (caller) => {
    const before = ended, start = asked;
    const stalled = caller.open("/t/Flood", framesOf([EMPTY]));
    stalled.on("error", () => {});
    stalled.pause();
    await until(() => asked > start);
    await until(() => ended > before);
    // Windows and buffers hold some megabytes at most, not what could be made in this time.
    assert.ok(asked - start < 200, `${asked - start} batches of 64 KB were made for nobody`);
    assert.equal((await caller.call("/t/One", EMPTY)).status, 0);
  });
});

Deno.test("GrpcServer takes so many connections with calls, and closes those that nobody uses", async () => {
  await serving({ connectionsMax: 2, idleMsMax: 200 }, async (caller, address, _, metrics) => {
    const wait = async (one: Caller) => {
      const stream = one.open("/t/Wait", framesOf([EMPTY]));
      stream.on("error", () => {});
      await new Promise<void>((resolve) => stream.once("response", () => resolve()));
    };
    await wait(caller);
    const second = new Caller(address);
    await wait(second);
    const third = new Caller(address);
    assert.equal((await third.call("/t/One", EMPTY).catch(() => ({ status: -1 }))).status, -1);
    assert.match(metrics.render(), /refused_total\{reason="connections"\} 1/);
    second.close();
    await until(() => /^weir_grpc_connections 1$/m.test(metrics.render()));
    const fourth = new Caller(address);
    assert.equal((await fourth.call("/t/One", EMPTY)).status, 0);
    const fifth = new Caller(address);
    assert.equal((await fifth.call("/t/One", EMPTY)).status, 0, "who has no call makes room");
    await until(() => fourth.session.destroyed);
    const pings = setInterval(() => fifth.session.ping(() => {}), 40);
    await new Promise((resolve) => setTimeout(resolve, 500));
    clearInterval(pings);
    assert.equal((await fifth.call("/t/One", EMPTY)).status, 0, "who pings means to come again");
    await until(() => fifth.session.closed || fifth.session.destroyed);
    for (const one of [third, fourth, fifth]) one.close();
  });
});

Deno.test("GrpcServer counts calls as servers in Go do", async () => {
  await serving({}, async (caller, _, __, metrics) => {
    await caller.call("/t/Many", EMPTY);
    await caller.call("/t/Problem", EMPTY);
    await caller.call("/t/None/such", EMPTY);
    const text = metrics.render();
    const many = 'grpc_type="server_stream",grpc_service="t",grpc_method="Many"';
    const problem = 'grpc_type="unary",grpc_service="t",grpc_method="Problem"';
    const unknown = 'grpc_type="unary",grpc_service="unknown",grpc_method="unknown"';
    for (
      const line of [
        `grpc_server_started_total{${many}} 1`,
        `grpc_server_msg_received_total{${many}} 1`,
        `grpc_server_msg_sent_total{${many}} 9`,
        `grpc_server_handled_total{${many},grpc_code="OK"} 1`,
        `grpc_server_handled_total{${problem},grpc_code="NotFound"} 1`,
        `grpc_server_msg_sent_total{${problem}} 0`,
        `grpc_server_handled_total{${unknown},grpc_code="Unimplemented"} 1`,
        'grpc_server_started_total{grpc_type="server_stream",grpc_service="t",grpc_method="Wait"} 0',
      ]
    ) {
      assert.ok(text.split("\n").includes(line), `${line}\n${text}`);
    }
  });
});

Deno.test("healthMethods() answers for known services", async () => {
  await serving({}, async (caller) => {
    const ask = (service: string) =>
      caller.call("/grpc.health.v1.Health/Check", HealthCheckRequest.encode({ service }));
    const good = await ask("hubble.server.Observer");
    assert.equal(HealthCheckResponse.decode(good.messages[0]).status, "SERVING");
    assert.equal((await ask("observer.Observer")).status, 5);
  });
});

Deno.test("GrpcServer serves a unix socket", async () => {
  const directory = await Deno.makeTempDir(), path = `${directory}/g.sock`;
  const server = new GrpcServer({ methods });
  await server.listen({ path });
  const { connect } = await import("node:net");
  const caller = new Caller("http://localhost", { createConnection: () => connect(path) });
  try {
    assert.equal((await caller.call("/t/One", EMPTY)).status, 0);
  } finally {
    caller.close();
    await server.stop();
    await Deno.remove(directory, { recursive: true });
  }
  assert.equal(new GrpcError("ABORTED", "x").status, "ABORTED");
});
