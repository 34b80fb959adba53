import assert from "node:assert/strict";
import { WatchEvent } from "@weir/proto/common";
import { Node } from "@weir/proto/identity";
import { ApiServer } from "./api_server.ts";
import { readFrames } from "./framing.ts";
import { type Listener, listenUnix } from "./listener.ts";
import { FakeClock } from "./testing/fake_clock.ts";
import { WatchedTable } from "./watched_table.ts";
import { STREAM_STALLED_MS } from "./watch_hub.ts";

const decoder = new TextDecoder(), encoder = new TextEncoder();
const DEADLINE_MS = 30_000;

async function until(done: () => boolean, what: string): Promise<void> {
  for (const startMs = performance.now(); !done();) {
    assert.ok(performance.now() - startMs < DEADLINE_MS, what);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A service with one table on a socket for many. */
class Served {
  readonly clock = new FakeClock();
  readonly table: WatchedTable<Node>;
  readonly api = new ApiServer({ name: "test", clock: this.clock });
  readonly #directory = Deno.makeTempDirSync();
  readonly path = `${this.#directory}/x.sock`;
  #listener: Listener | undefined;

  constructor(historyMax?: number) {
    this.table = new WatchedTable({ name: "nodes", revision: 100, historyMax, historyBurstMax: historyMax });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener?.shutdown(100);
    Deno.removeSync(this.#directory, { recursive: true });
  }

  async listen(): Promise<this> {
    this.api.collection({ name: "nodes", message: Node, table: this.table });
    this.#listener = await listenUnix(this.api.fetch, this.path, { isForMany: true });
    return this;
  }

  put(name: string, cluster = ""): void {
    this.table.put(name, Node.create({ name, cluster }));
  }

  /** Streams that are open. */
  get streams(): number {
    return this.api.metrics.gauge("weir_watch_streams", "").value({ collection: "nodes" });
  }

  /** A connection that has asked for a watch and not read anything. */
  async ask(version = "1.1"): Promise<Deno.UnixConn> {
    const connection = await Deno.connect({ transport: "unix", path: this.path });
    const lines = [`GET /v1/nodes?watch=true HTTP/${version}`, "host: x", "accept: application/x-protobuf"];
    await connection.write(encoder.encode(lines.join("\r\n") + "\r\n\r\n"));
    return connection;
  }
}

async function readAll(connection: Deno.Conn): Promise<Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of connection.readable) pieces.push(piece);
  } catch { /* reset */ }
  return pieces;
}

Deno.test("a watch on a socket for many tells every reader everything once and in order", async () => {
  await using served = await new Served().listen();
  const { path, table } = served;
  for (let n = 0; n < 2000; n++) served.put(`n${n}`, "x".repeat(n % 200));
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const aborts: AbortController[] = [], seen: string[][] = [];
  for (let reader = 0; reader < 5; reader++) {
    const abort = new AbortController(), events: string[] = [];
    aborts.push(abort);
    seen.push(events);
    const answer = await fetch("http://localhost:2/v1/nodes?watch=true", {
      client,
      headers: { accept: "application/x-protobuf" },
      signal: abort.signal,
    } as RequestInit);
    assert.equal(answer.headers.get("content-type"), "application/x-protobuf");
    (async () => {
      for await (const frame of readFrames(answer.body!, "protobuf")) {
        const { type, name, revision } = WatchEvent.decode(frame);
        events.push(type === "SYNCED" ? type : `${type} ${name} ${revision}`);
      }
    })().catch(() => {});
  }
  const expected = Array.from({ length: 2000 }, (_, n) => `PUT n${n} ${101 + n}`);
  expected.push("SYNCED");
  await until(() => seen.every((events) => events.length === 2001), "all that was there");
  for (let round = 0; round < 30; round++) {
    // Short ones that many readers are given as one chunk, and long ones that are not copied.
    for (let n = 0; n < 3; n++) {
      served.put(`m${n}`, "y".repeat(round % 3 === 2 ? 9000 : round));
      expected.push(`PUT m${n} ${table.revision}`);
    }
    table.delete(`n${round}`);
    expected.push(`DELETED n${round} ${table.revision}`);
    await new Promise((resolve) => setTimeout(resolve, round % 2));
  }
  await until(() => seen.every((events) => events.length >= expected.length), "all that changed");
  for (const events of seen) assert.deepEqual(events, expected);
  for (const abort of aborts) abort.abort();
  await until(() => served.streams === 0, "no stream is left when the readers are gone");
  client.close();
});

Deno.test("a reader that takes nothing loses its stream, and holds a bounded part of it in memory", async () => {
  await using served = await new Served(4).listen();
  const [late, dead] = [await served.ask(), await served.ask()];
  await until(() => served.streams === 2, "the streams are open");
  const object = "z".repeat(50_000);
  for (let n = 0; n < 400; n++) {
    served.put(`n${n % 7}`, object + n);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const lost = (code: string) =>
    served.api.metrics.counter("weir_watch_lost_total", "").value({ collection: "nodes", code });
  // What was queued for it is all that it is given when it reads again: the kernel's part of 20 MB, and little more.
  const bytes = (await readAll(late)).reduce((sum, { length }) => sum + length, 0);
  assert.ok(bytes > 50_000 && bytes < 2_000_000, `${bytes} bytes`);
  assert.deepEqual([lost("REVISION_GONE"), served.streams], [1, 1]);
  for (let passedMs = 0; passedMs <= 2 * STREAM_STALLED_MS; passedMs += 2000) {
    await served.clock.advance(2000);
  }
  await until(() => served.streams === 0, "the stream is cut");
  assert.equal(lost("STREAM_STALLED"), 1);
  dead.close();
});

Deno.test("a reader that does not know chunks is told the same without them", async () => {
  await using served = await new Served().listen();
  served.put("a");
  const connection = await served.ask("1.0");
  const pieces: string[] = [];
  (async () => {
    for await (const piece of connection.readable) pieces.push(decoder.decode(piece));
  })().catch(() => {});
  await until(() => served.streams === 1, "the stream is open");
  served.put("b");
  // Length and name.
  await until(() => ["\u0001a", "\u0001b"].every((name) => pieces.join("").includes(name)), "both objects");
  assert.doesNotMatch(pieces.join(""), /transfer-encoding/i);
  connection.close();
  await until(() => served.streams === 0, "no stream is left");
});
