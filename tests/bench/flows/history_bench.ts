/**
 * The history of flows: how many flows a second it takes in and writes, beside reading the relay's answers alone; and how long the first
 * page of each kind of question takes, over few and over many times as many stored flows. Ratios of one run; the database is a file.
 *
 *     deno run -A tests/bench/flows/history_bench.ts [FLOWS] [TIMES] [FILE]     default 50000 flows, then 6 times as many
 *
 * FILE keeps the database; where it is there already, only the questions are asked. Ten million flows: 180000 56, about 20 minutes.
 *
 * A page has 120 ms (`PAGE_MS`): what no index finds is searched that long, and "next" says that there is more. Should: the first page
 * of every question below 200 ms on a machine of its own, and pages that an index finds no slower over more flows.
 * @module
 */
import process from "node:process";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { GetFlowsResponse } from "@weir/proto/observer";
import { DROPPED, flowBytes } from "../../../services/flow-history/testing/flows.ts";
import { testHistory } from "../../../services/flow-history/testing/history.ts";
import { seededRandom } from "../../seeded_random.ts";

const [FLOWS = 50_000, TIMES = 6] = Deno.args.slice(0, 2).map(Number), kept = Deno.args[2];
const PODS = 200, PER_SECOND = 1000, ROUNDS = 5;
const START_MS = 1_790_000_000_000;
const directory = kept === undefined ? await Deno.makeTempDir() : undefined;
const file = kept ?? `${directory}/history.db`;
const isThere = await Deno.stat(file).then(() => true, () => false);
const clock = new FakeClock(isThere ? START_MS + FLOWS * TIMES : START_MS);
clock.monotonicMs = () => performance.now(); // pages have real time
const one = testHistory(clock, file, { bytesMax: 2 ** 40 });
const random = seededRandom(1), below = (max: number) => Math.floor(random() * max);
const EDGES = Array.from({ length: 1000 }, () => [below(PODS), below(PODS)]);

/** A second of flows: a thousand edges between 200 pods, two flows of each connection, one of fifty dropped. */
function second(): Uint8Array[] {
  return Array.from({ length: PER_SECOND }, (_, n) => {
    const [from, to] = EDGES[below(EDGES.length)];
    return flowBytes({
      unixMs: clock.nowMs() + n,
      node: `node-${from % 10}`,
      from: `app${from % 40}-${from}`,
      to: `app${to % 40}-${to}`,
      port: [80, 443, 5432, 6379, 9092][to % 5],
      sourcePort: 33_000 + below(27_000),
      isReply: n % 2 === 1,
      more: n % 50 === 0 ? DROPPED : {},
    });
  });
}

let readMs = 0, takeMs = 0, writeMs = 0, written = 0;
async function write(count: number): Promise<void> {
  const timed = async (work: () => unknown) => {
    const startMs = cpuMs();
    await work();
    return cpuMs() - startMs;
  };
  for (const end = written + count; written < end; written += PER_SECOND) {
    const flows = second();
    await clock.advance(PER_SECOND);
    readMs += await timed(() => flows.forEach((bytes) => GetFlowsResponse.decode(bytes)));
    takeMs += await timed(() => one.history.intake.take(flows));
    writeMs += await timed(() => one.history.flush());
  }
  await one.history.retention.turn(new AbortController().signal);
}

/** Within the first of the flows. */
const EARLY = new Date(START_MS + 30_000).toISOString();
const QUESTIONS = [
  "/v1/flows?last=100",
  "/v1/flows?first=100",
  "/v1/flows?verdict=dropped&last=100",
  "/v1/flows?pod=shop/app3-3&last=100",
  "/v1/flows?from-pod=shop/app3-3&verdict=dropped&last=100",
  "/v1/flows?label=app=app7&to-port=9092&first=100",
  "/v1/flows?namespace=shop&last=100",
  "/v1/flows?ip=192.0.2.9&last=100",
  "/v1/flows?tcp-flags=URG&last=100",
  "/v1/flows?fqdn=*.example.com&last=100",
  "/v1/flows?port=5432&last=100",
  `/v1/flows?until=${EARLY}&pod=shop/app3-3&last=100`,
  "/v1/connections?limit=100",
  `/v1/connections?until=${EARLY}&limit=100`,
  "/v1/connections?to-pod=shop/app3-3&limit=100",
  `/v1/connections?until=${EARLY}&to-pod=shop/app3-3&limit=100`,
  "/v1/connections?verdict=dropped&limit=100",
  "/v1/connections?port=5432&limit=100",
  "/v1/rollups?since=1h",
  "/v1/rollups?since=1h&step=1m",
  "/v1/rollups?since=1h&by=workload&by=verdict",
  "/v1/rollups?since=1h&by=workload",
  "/v1/rollups?since=24h&by=workload",
  "/v1/rollups?since=1h&by=workload&by=port&by=reason&verdict=dropped",
  "/v1/rollups?since=1h&by=from:workload&from-pod=shop/app3-3",
  "/v1/rollups?since=1h&by=workload&by=port&by=protocol&by=verdict&by=reason&by=policy&limit=10000",
  "/v1/completeness?since=1h",
];

/** Medians of first pages: milliseconds, those of the processor, which others on the machine change less; and what the last one says. */
interface Page {
  readonly ms: number;
  readonly cpuMs: number;
  readonly says: string;
}

/** Asks a few times. */
async function ask(path: string): Promise<Page> {
  const times: number[] = [], spent: number[] = [];
  let answer: Record<string, unknown[]> = {};
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now(), startCpuMs = cpuMs();
    answer = await one.get(path);
    times.push(performance.now() - startMs);
    spent.push(cpuMs() - startCpuMs);
  }
  const found = (answer.flows ?? answer.connections ?? answer.rollups ?? answer.minutes ?? []).length;
  return { ms: median(times), cpuMs: median(spent), says: `${found}${answer.next ? ", more" : ""}` };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1];
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** First pages of all questions, by path. */
async function askAll(): Promise<Map<string, Page>> {
  const answers = new Map<string, Page>();
  for (const path of QUESTIONS) answers.set(path, await ask(path));
  return answers;
}

async function writeAndCompare(): Promise<void> {
  await write(FLOWS);
  const few = await askAll();
  await write(FLOWS * (TIMES - 1));
  const perSecond = (ms: number) => Math.round(written / ms * 1000).toLocaleString("en-US");
  const size = (await Deno.stat(file)).size;
  console.log(
    `${written.toLocaleString("en-US")} flows, of each second of the processor: read alone ${
      perSecond(readMs)
    }/s, taken in ${perSecond(takeMs)}/s, ` +
      `written ${perSecond(writeMs)}/s; both ${perSecond(takeMs + writeMs)}/s, ${
        ((takeMs + writeMs) / readMs).toFixed(1)
      } times reading; ` +
      `${Math.round(size / written)} bytes each`,
  );
  console.log(`first page, ms: ${FLOWS.toLocaleString("en-US")} flows, ${TIMES} times as many, ratio, found`);
  for (const [path, { ms, says }] of await askAll()) {
    const before = few.get(path)!.ms;
    console.log(
      `${path.padEnd(100)} ${before.toFixed(1).padStart(7)} ${ms.toFixed(1).padStart(7)} ${
        (ms / before).toFixed(1).padStart(5)
      }  ${says}`,
    );
  }
}

await one.history.load();
try {
  if (!isThere) await writeAndCompare();
  else {
    await one.history.retention.turn(new AbortController().signal);
    console.log(
      `${one.history.retention.flows.toLocaleString("en-US")} flows; first page, ms, of these of CPU, found`,
    );
    for (const [path, { ms, cpuMs, says }] of await askAll()) {
      console.log(
        `${path.padEnd(100)} ${ms.toFixed(1).padStart(7)} ${cpuMs.toFixed(1).padStart(7)}  ${says}`,
      );
    }
  }
} finally {
  await one.close();
  if (directory !== undefined) await Deno.remove(directory, { recursive: true });
}
