/**
 * What judging HTTP/2 takes from the processor: microseconds of the proxy's processor time for a small request, against passing the same bytes on and against judging
 * HTTP/1.1, and for a MiB of an answer. nghttp2's server and load generator are the peers. All in turns, in one run; the ratios are what counts.
 *
 *     deno run -A tests/bench/l7/http2_bench.ts [--rounds N]
 *
 * @module
 */
import { type Listening, middle, start, startAt, usedUs } from "./processes.ts";

const ROUNDS = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 3, SMALL = 10_000, LARGE = 200;

/** An answer of 200 bytes to each request of HTTP/1.1. */
const ORIGIN = `
const answer = new TextEncoder().encode("HTTP/1.1 200 OK\\r\\nContent-Length: 200\\r\\n\\r\\n" + "x".repeat(200));
const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const c of listener) (async () => { const b = new Uint8Array(4096); c.setNoDelay(true); try { while (await c.read(b) !== null) await c.write(answer); } catch {} try { c.close(); } catch {} })();
`;

/** nghttpd with files of both sizes. */
async function nghttpd(folder: string): Promise<Listening> {
  await Deno.mkdir(`${folder}/public`);
  await Deno.writeTextFile(`${folder}/public/small`, "x".repeat(200));
  await Deno.writeTextFile(`${folder}/public/large`, "x".repeat(1 << 20));
  return await startAt((port) =>
    new Deno.Command("nghttpd", {
      args: ["--no-tls", "-d", folder, `${port}`],
      stdout: "null",
      stderr: "null",
    })
  );
}

/** Asks `count` times on 16 connections; throws where not all is answered. */
async function load(port: number, path: string, count: number, options: string[]): Promise<void> {
  const { stdout } = await new Deno.Command("h2load", {
    args: [`-n${count}`, "-c16", ...options, `http://127.0.0.1:${port}${path}`],
    stderr: "null",
  }).output();
  const said = new TextDecoder().decode(stdout);
  if (!said.includes(` ${count} 2xx`)) {
    throw new Error(`Cannot measure: not all of ${count} requests were answered\n${said}`);
  }
}

const folder = await Deno.makeTempDir();
try {
  await Deno.writeTextFile(`${folder}/origin.ts`, ORIGIN);
  await using origin1 = await start([`${folder}/origin.ts`]);
  await using origin2 = await nghttpd(folder);
  const script = new URL("./proxy_process.ts", import.meta.url).pathname;
  await using splice = await start([script, "splice", `${origin2.port}`]);
  await using http1 = await start([script, "http", `${origin1.port}`]);
  await using http2 = await start([script, "http", `${origin2.port}`]);
  const h2 = "HTTP/2 judged",
    cases = [
      {
        name: "us per request, one at a time on a connection",
        path: "/public/small",
        count: SMALL,
        options: ["-m1"],
      },
      { name: "us per request, 32 at a time", path: "/public/small", count: SMALL, options: ["-m32"] },
      {
        name: "us per MiB of an answer",
        path: "/public/large",
        count: LARGE,
        options: ["-m1", "-w20", "-W24"],
      },
    ];
  for (const { name, path, count, options } of cases) {
    const ways: [string, Listening, string[]][] = [["spliced", splice, options], [h2, http2, options]];
    // Only the small ones: that origin has no other.
    if (options.length === 1) ways.push(["HTTP/1.1 judged", http1, ["--h1", ...options]]);
    const seen = new Map<string, number[]>(ways.map(([way]) => [way, []]));
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [way, proxy, more] of ways) {
        const before = usedUs(proxy.pid);
        await load(proxy.port, path, count, more);
        // The first round warms up.
        if (round > 0) seen.get(way)!.push((usedUs(proxy.pid) - before) / count);
      }
    }
    const judged = middle(seen.get(h2)!);
    const said = [...seen].map(([way, values]) =>
      `${way} ${values.map((value) => value.toFixed(0)).join(" ")}` +
      (way === h2 ? "" : ` (ratio ${(judged / middle(values)).toFixed(2)})`)
    );
    console.log(`${name}: ${said.join("; ")}`);
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
