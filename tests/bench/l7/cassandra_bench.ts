/**
 * What judging Cassandra's protocol takes beside passing bytes on, and beside no proxy at all: queries and prepared statements with values of 1 KiB, in versions 4 and 5, one at a
 * time and 32 at a time on a connection, and large values and results. The server answers from a recording: no JVM. All in turns, in one run; the ratios are what counts.
 *
 *     deno run -A tests/bench/l7/cassandra_bench.ts [--rounds N] [--only TEXT] [--server PORT --pid PID]
 *
 * With a server, a real one at that port of 127.0.0.1 is asked for a row with 1 KiB instead: what users see of a proxy between.
 *
 * @module
 */
import { Opcode, readHeader } from "../../../services/l7-proxy/cassandra/envelope.ts";
import * as wire from "../../../services/l7-proxy/cassandra/testing/wire.ts";
import type { Exchange } from "./recorded_exchange.ts";
import { type Case, measureWays } from "./ways.ts";

const option = (name: string) =>
  Deno.args.includes(name) ? Deno.args[Deno.args.indexOf(name) + 1] : undefined;
const ROUNDS = Number(option("--rounds") ?? 3), ONLY = option("--only") ?? "";
/** Plain bytes of one segment; a block of literals is longer than they are. */
const MIB = 1 << 20, PIECE = 130_000;
const ID = new Uint8Array(16).fill(0xa1), PREPARES = "INSERT INTO shop.cart (k, v) VALUES (?, ?)";

/** How a connection speaks. */
interface Form {
  readonly version: number;
  readonly lz4?: boolean;
}

/** An envelope as version 5 sends it: in one segment, or in several. */
function packed(envelope: Uint8Array, { version, lz4 = false }: Form): Uint8Array {
  if (version < 5) return envelope;
  if (envelope.length <= PIECE) return wire.segment(envelope, { lz4 });
  const parts: Uint8Array[] = [];
  for (let at = 0; at < envelope.length; at += PIECE) {
    parts.push(wire.segment(envelope.subarray(at, at + PIECE), { selfContained: false, lz4 }));
  }
  return wire.concat(...parts);
}

/** `depth` requests on streams of their own, behind STARTUP and a PREPARE. */
function exchange(
  form: Form,
  depth: number,
  request: (stream: number) => Uint8Array,
  resultBytes: number,
): Exchange {
  const { version, lz4 } = form, at = { version, stream: 0 };
  const streams = Array.from({ length: depth }, (_, stream) => stream + 1);
  // Rows: their number and what is in them, which nobody reads here.
  const rows = new Uint8Array(Math.max(8, resultBytes));
  rows[3] = 2;
  const result = wire.response(Opcode.RESULT, rows, at);
  return {
    greetings: [
      { request: wire.startup(lz4 ? { COMPRESSION: "lz4" } : {}, at), answer: wire.READY(at) },
      {
        request: packed(wire.prepare(PREPARES, at), form),
        answer: packed(wire.prepared(ID, at), form),
      },
    ],
    requests: streams.map((stream) => packed(request(stream), form)),
    answers: streams.map((stream) => {
      const bytes = result.slice();
      bytes[3] = stream;
      return packed(bytes, form);
    }),
  };
}

const value = new Uint8Array(1024).fill(120), large = new Uint8Array(MIB).fill(120);
const kinds = {
  "EXECUTE": (version: number) => (stream: number) =>
    wire.execute(ID, { version, stream, values: [ID, value] }),
  "QUERY": (version: number) => (stream: number) =>
    wire.query("SELECT k, v, b FROM shop.cart WHERE k = ? AND v > 10 ORDER BY v DESC LIMIT 100", {
      version,
      stream,
      values: [value],
    }),
};
const cases: Case[] = [];
for (const [kind, request] of Object.entries(kinds)) {
  for (const form of [{ version: 4 }, { version: 5 }, { version: 5, lz4: true }]) {
    for (const depth of [1, 32]) {
      cases.push({
        name: `${kind} of 1 KiB, version ${form.version}${form.lz4 ? " with lz4" : ""}, ${depth} at a time`,
        exchange: exchange(form, depth, request(form.version), 1024),
        connections: depth === 1 ? 4 : 1,
        requests: depth === 1 ? 4000 : 32_000,
      });
    }
  }
}
for (const form of [{ version: 4 }, { version: 5 }, { version: 5, lz4: true }]) {
  const suffix = `version ${form.version}${form.lz4 ? " with lz4" : ""}`, per = { unit: "MiB" };
  cases.push({
    ...per,
    name: `results of 16 MiB, ${suffix}`,
    exchange: exchange(form, 1, kinds.EXECUTE(form.version), 16 * MIB),
    connections: 2,
    requests: 8,
    units: 256,
  }, {
    ...per,
    name: `values of 1 MiB, ${suffix}`,
    exchange: exchange(
      form,
      1,
      (stream) => wire.execute(ID, { version: form.version, stream, values: [ID, large] }),
      8,
    ),
    connections: 2,
    requests: 64,
    units: 128,
  });
}
/** What a real server answers, of one client: both sides' bytes have one length each time. */
async function recorded(port: number, depth: number): Promise<Exchange> {
  const socket = await Deno.connect({ hostname: "127.0.0.1", port }), buffer = new Uint8Array(MIB);
  const ask = async (request: Uint8Array) => {
    await socket.write(request);
    for (let end = 0;;) {
      end += await socket.read(buffer.subarray(end)) ?? 0;
      if (end >= 9 && end >= 9 + readHeader(buffer).bodyBytes) {
        return { request, answer: buffer.slice(0, end) };
      }
    }
  };
  const text = (text: string) => ask(wire.query(text));
  const greetings = [await ask(wire.startup({}))];
  await text(
    "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
  );
  await text("CREATE TABLE IF NOT EXISTS shop.cart (k text PRIMARY KEY, v int, b blob)");
  await text(`INSERT INTO shop.cart (k, v, b) VALUES ('bench', 1, 0x${"78".repeat(1024)})`);
  greetings.push(await ask(wire.prepare("SELECT k, v, b FROM shop.cart WHERE k = ?")));
  const id = greetings[1].answer.subarray(15, 31), key = new TextEncoder().encode("bench");
  const all: { request: Uint8Array; answer: Uint8Array }[] = [];
  for (let stream = 1; stream <= depth; stream++) {
    all.push(await ask(wire.execute(id, { stream, values: [key] })));
  }
  socket.close();
  return { greetings, requests: all.map(({ request }) => request), answers: all.map(({ answer }) => answer) };
}

const port = option("--server");
if (port !== undefined) {
  cases.length = 0;
  const server = { port: Number(port), pid: Number(option("--pid")) };
  for (const [depth, connections] of [[1, 1], [1, 8], [32, 1]]) {
    cases.push({
      name: `EXECUTE at a real server, ${connections} connections, ${depth} at a time`,
      exchange: await recorded(server.port, depth),
      server,
      connections,
      requests: 3200 / connections,
    });
  }
}
await measureWays("cassandra", cases.filter(({ name }) => name.includes(ONLY)), ROUNDS);
