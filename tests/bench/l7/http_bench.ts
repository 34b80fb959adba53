/**
 * What judging HTTP/1.1 takes from the processor beside passing bytes on: microseconds of the proxy's processor time for a small request on a connection that is kept,
 * for one on a new connection, and for a MiB of an answer. Both in turns, in one run; the ratio is what counts.
 *
 *     deno run -A tests/bench/l7/http_bench.ts [--rounds N]
 *
 * @module
 */
import { middle, start, usedUs } from "./processes.ts";

const ROUNDS = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 3, ROUND_MS = 3000, CONNECTIONS = 16;

/** An answer to each request: `/public/N` has N bytes. */
const ORIGIN = `
const answers = new Map();
const answer = (size) => { let a = answers.get(size); if (!a) { a = new TextEncoder().encode("HTTP/1.1 200 OK\\r\\nContent-Length: " + size + "\\r\\n\\r\\n" + "x".repeat(size)); answers.set(size, a); } return a; };
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const c of listener) (async () => { const b = new Uint8Array(4096); c.setNoDelay(true); try { for (;;) { const n = await c.read(b); if (n === null) break; const size = Number(/public.(\\d+)/.exec(new TextDecoder().decode(b.subarray(0, n)))[1]); const a = answer(size); for (let w = 0; w < a.length;) w += await c.write(a.subarray(w)); } } catch {} try { c.close(); } catch {} })();
`;

/** Asks again and again for a while. @returns answers */
async function load(port: number, size: number, isKept: boolean): Promise<number> {
  const request = new TextEncoder().encode(
    `GET /public/${size} HTTP/1.1\r\nHost: web.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n`,
  );
  const untilMs = performance.now() + ROUND_MS;
  let answers = 0;
  const one = async () => {
    const buffer = new Uint8Array(256 * 1024);
    let socket: Deno.TcpConn | undefined;
    while (performance.now() < untilMs) {
      socket ??= await Deno.connect({ hostname: "127.0.0.1", port });
      await socket.write(request);
      for (let left = size + `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`.length; left > 0;) {
        const count = await socket.read(buffer);
        if (count === null) throw new Error("The proxy hung up");
        left -= count;
      }
      answers++;
      if (isKept) continue;
      socket.close();
      socket = undefined;
    }
    socket?.close();
  };
  await Promise.all(Array.from({ length: size > 100_000 ? 4 : CONNECTIONS }, one));
  return answers;
}

const file = await Deno.makeTempFile({ suffix: ".ts" });
await Deno.writeTextFile(file, ORIGIN);
try {
  await using origin = await start([file]);
  const script = new URL("./proxy_process.ts", import.meta.url).pathname;
  await using splice = await start([script, "splice", `${origin.port}`]);
  await using http = await start([script, "http", `${origin.port}`]);
  const cases = [
    { name: "us per request, connection kept", size: 200, isKept: true },
    { name: "us per request, new connection", size: 200, isKept: false },
    { name: "us per MiB of an answer", size: 1 << 20, isKept: true },
  ];
  for (const { name, size, isKept } of cases) {
    const seen = { splice: [] as number[], http: [] as number[] };
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [mode, proxy] of [["splice", splice], ["http", http]] as const) {
        const before = usedUs(proxy.pid), answers = await load(proxy.port, size, isKept);
        // The first round warms up.
        if (round > 0) seen[mode].push((usedUs(proxy.pid) - before) / answers);
      }
    }
    const show = (values: number[]) => values.map((value) => value.toFixed(0)).join(" ");
    console.log(
      `${name}: splice ${show(seen.splice)}; judged ${show(seen.http)}; ratio ${
        (middle(seen.http) / middle(seen.splice)).toFixed(2)
      }`,
    );
  }
} finally {
  await Deno.remove(file);
}
