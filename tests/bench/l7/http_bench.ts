/**
 * What judging HTTP/1.1 takes from the processor beside passing bytes on, and beside Envoy with rules of the same meaning: microseconds of the proxy's processor time for a small
 * request on a connection that is kept (one and 32 of them), for one on a new connection, and for a MiB of an answer. All in turns, in one run; the ratios are what counts.
 * Our own proxy writes a record of each request and answer too; Envoy writes none.
 *
 *     deno run -A tests/bench/l7/http_bench.ts [--rounds N]
 *
 * Envoy takes part where `tests/bench/l7/fetch-envoy` has put it.
 *
 * @module
 */
import { hasEnvoy, startEnvoy } from "./envoy.ts";
import { type Listening, middle, start, usedUs } from "./processes.ts";
import { HTTP_RULES } from "./rules.ts";

const ROUNDS = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 3, ROUND_MS = 3000;

/** An answer to each request: `/public/N` has N bytes. */
const ORIGIN = `
const answers = new Map();
const answer = (size) => { let a = answers.get(size); if (!a) { a = new TextEncoder().encode("HTTP/1.1 200 OK\\r\\nContent-Length: " + size + "\\r\\n\\r\\n" + "x".repeat(size)); answers.set(size, a); } return a; };
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const c of listener) (async () => { const b = new Uint8Array(4096); c.setNoDelay(true); try { for (;;) { const n = await c.read(b); if (n === null) break; const size = Number(/public.(\\d+)/.exec(new TextDecoder().decode(b.subarray(0, n)))[1]); const a = answer(size); for (let w = 0; w < a.length;) w += await c.write(a.subarray(w)); } } catch {} try { c.close(); } catch {} })();
`;

interface Case {
  readonly name: string;
  readonly bytes: number;
  readonly connections: number;
  readonly isKept: boolean;
}

const CASES: readonly Case[] = [
  { name: "us per request, one connection", bytes: 200, connections: 1, isKept: true },
  { name: "us per request, 32 connections", bytes: 200, connections: 32, isKept: true },
  { name: "us per request, new connection each", bytes: 200, connections: 16, isKept: false },
  { name: "us per MiB of an answer", bytes: 1 << 20, connections: 4, isKept: true },
];

/** Asks again and again for a while. @returns answers */
async function load(port: number, { bytes, connections, isKept }: Case): Promise<number> {
  const request = new TextEncoder().encode(
    `GET /public/${bytes} HTTP/1.1\r\nHost: web.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n`,
  );
  const untilMs = performance.now() + ROUND_MS;
  let answers = 0;
  const one = async () => {
    const buffer = new Uint8Array(256 * 1024);
    let socket: Deno.TcpConn | undefined;
    while (performance.now() < untilMs) {
      if (socket === undefined) {
        socket = await Deno.connect({ hostname: "127.0.0.1", port });
        socket.setNoDelay(true);
      }
      await socket.write(request);
      await takeAnswer(socket, buffer, bytes);
      answers++;
      if (isKept) continue;
      socket.close();
      socket = undefined;
    }
    socket?.close();
  };
  await Promise.all(Array.from({ length: connections }, one));
  return answers;
}

const decoder = new TextDecoder();

/** Reads one answer to its end, whatever fields the proxy has added. */
async function takeAnswer(socket: Deno.TcpConn, buffer: Uint8Array, bytes: number): Promise<void> {
  let had = 0, headBytes = -1;
  while (headBytes < 0 || had < headBytes + bytes) {
    const count = await socket.read(headBytes < 0 ? buffer.subarray(had) : buffer);
    if (count === null) throw new Error("The proxy hung up");
    had += count;
    if (headBytes >= 0) continue;
    const text = decoder.decode(buffer.subarray(0, Math.min(had, 1024))), end = text.indexOf("\r\n\r\n");
    if (end < 0) continue;
    if (!text.startsWith("HTTP/1.1 200 ")) throw new Error(`Cannot measure: ${text}`);
    headBytes = end + 4;
  }
}

const file = await Deno.makeTempFile({ suffix: ".ts" });
await Deno.writeTextFile(file, ORIGIN);
try {
  await using origin = await start([file]);
  const script = new URL("./proxy_process.ts", import.meta.url).pathname;
  await using splice = await start([script, "splice", `${origin.port}`]);
  await using http = await start([script, "http", `${origin.port}`]);
  await using envoy = await hasEnvoy() ? await startEnvoy(origin.port, HTTP_RULES) : undefined;
  const ways = new Map<string, Listening>([["splice", splice], ["judged", http]]);
  if (envoy !== undefined) ways.set("Envoy", envoy);
  else console.log("Without Envoy: tests/bench/l7/fetch-envoy fetches it");
  for (const one of CASES) {
    const seen = new Map([...ways.keys()].map((way) => [way, [] as number[]]));
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [way, { pid, port }] of ways) {
        const before = usedUs(pid), answers = await load(port, one);
        // The first round warms up.
        if (round > 0) seen.get(way)!.push((usedUs(pid) - before) / answers);
      }
    }
    const judged = middle(seen.get("judged")!);
    const said = [...seen].map(([way, values]) =>
      `${way} ${values.map((value) => value.toFixed(0)).join(" ")}` +
      (way === "judged" ? "" : ` (ratio ${(judged / middle(values)).toFixed(2)})`)
    );
    console.log(`${one.name}: ${said.join("; ")}`);
  }
} finally {
  await Deno.remove(file);
}
