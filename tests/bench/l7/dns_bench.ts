/**
 * What judging DNS by UDP takes from the processor beside passing datagrams on: microseconds of the proxy's processor time for a question and its answer of two addresses, passed on
 * as they are, judged, and judged with two records of the flow sent to a flow exporter of another process. All in turns, in one run; the ratios are what counts. Client and server
 * are on loopback at a handle's two ports, 1 and 2, which is what takes root and a network namespace of its own:
 *
 *     unshare -n sh -c 'ip link set lo up; deno run -A --unstable-net tests/bench/l7/dns_bench.ts [--rounds N]'
 *
 * @module
 */
import { DATAGRAM } from "@weir/proto/numbers";

const ROUNDS = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 3, ROUND_MS = 2000, IN_FLIGHT = 64;
const TICK_US = 10_000;
const PORTS = { pass: 15_101, judge: 15_102, record: 15_103 } as const;
type Mode = keyof typeof PORTS;
const MODES = Object.keys(PORTS) as Mode[];

interface Started {
  readonly pid: number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A process of the bench, which listens. */
async function start(...args: string[]): Promise<Started> {
  const script = new URL("./dns_process.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-net", script, ...args],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill();
      await reader.cancel();
      await child.status;
    },
  };
}

/** Processor time of a process, microseconds. */
function usedUs(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

const bytesOf = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));
/** `www.example.com A`, with EDNS. */
const QUESTION = "\x03www\x07example\x03com\0\0\x01\0\x01";
const QUERY = bytesOf(`\0\0\x01\0\0\x01\0\0\0\0\0\x01${QUESTION}\0\0\x29\x04\xd0\0\0\0\0\0\0`);
const RECORD = "\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02";
const ANSWER = bytesOf(`\0\0\x81\x80\0\x01\0\x02\0\0\0\0${QUESTION}${RECORD}\x01${RECORD}\x02`);

const listen = (port: number) => Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port });
const client = listen(DATAGRAM.CLIENT_PORT), server = listen(DATAGRAM.SERVER_PORT);
void (async () => {
  const buffer = new Uint8Array(4096);
  for (;;) {
    const [asked, from] = await server.receive(buffer);
    const answer = ANSWER.slice();
    answer.set(asked.subarray(0, 2));
    void server.send(answer, from);
  }
})().catch(() => {});

/** Asks again and again for a while. @returns answers */
async function load(mode: Mode): Promise<number> {
  const to = { transport: "udp", hostname: "127.0.0.1", port: PORTS[mode] } as const;
  const buffer = new Uint8Array(4096), untilMs = performance.now() + ROUND_MS;
  let answers = 0, id = 0;
  const ask = () => {
    const query = QUERY.slice();
    query[0] = ++id >> 8 & 255;
    query[1] = id & 255;
    return client.send(query, to);
  };
  for (let at = 0; at < IN_FLIGHT; at++) await ask();
  for (let left = IN_FLIGHT; left > 0;) {
    await client.receive(buffer);
    answers++;
    if (performance.now() < untilMs) void ask();
    else left--;
  }
  return answers;
}

await using stack = new AsyncDisposableStack();
const directory = await Deno.makeTempDir(), exporter = `${directory}/exporter.sock`;
stack.defer(() => Deno.remove(directory, { recursive: true }));
stack.use(await start("exporter", exporter));
const proxies = new Map<Mode, Started>(), seen = new Map<Mode, number[]>(MODES.map((mode) => [mode, []]));
for (const mode of MODES) proxies.set(mode, stack.use(await start(mode, `${PORTS[mode]}`, exporter)));
for (let round = 0; round <= ROUNDS; round++) {
  for (const [mode, { pid }] of proxies) {
    const before = usedUs(pid), answers = await load(mode);
    // The first round warms up.
    if (round > 0) seen.get(mode)!.push((usedUs(pid) - before) / answers);
  }
}
const middle = (mode: Mode) => seen.get(mode)!.toSorted((a, b) => a - b)[ROUNDS >> 1];
console.log("us of processor time for a question and its answer");
for (const mode of MODES) {
  const us = middle(mode), all = seen.get(mode)!.map((value) => value.toFixed(1)).join(" ");
  console.log(
    `${mode.padEnd(8)} ${all}   ${(us / middle("pass")).toFixed(2)} of pass   ${
      Math.round(1e6 / us)
    }/s of a core`,
  );
}
client.close();
server.close();
