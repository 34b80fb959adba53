/**
 * One recorded exchange three ways in turns: straight to the server, through a proxy that passes bytes as they are, and through one that judges. Prints microseconds of
 * the proxy's processor time and of the clock for each request, and the ratios within the run.
 * @module
 */
import { middle, start, usedUs } from "./processes.ts";
import { type Exchange, ExchangeClient, writeExchange } from "./recorded_exchange.ts";

/** What is measured. */
export interface Case {
  readonly name: string;
  readonly exchange: Exchange;
  /** A server that answers with as many bytes as the recording; default: the recording answers. */
  readonly server?: { readonly pid: number; readonly port: number };
  /** Connections at once. */
  readonly connections: number;
  /** Requests of each connection in one round. */
  readonly requests: number;
  /** What the figures are divided by; default: requests. */
  readonly units?: number;
  readonly unit?: string;
}

/** @param mode of `proxy_process.ts` */
export async function measureWays(mode: string, cases: readonly Case[], rounds: number): Promise<void> {
  for (const one of cases) await measure(mode, one, rounds);
}

async function measure(mode: string, one: Case, rounds: number): Promise<void> {
  const { name, exchange, connections, requests } = one;
  const folder = await Deno.makeTempDir();
  try {
    writeExchange(folder, exchange);
    const here = (script: string) => new URL(script, import.meta.url).pathname;
    await using recorded = await start([here("./recorded_exchange.ts"), folder]);
    const origin = one.server ?? recorded;
    await using splice = await start([here("./proxy_process.ts"), "splice", `${origin.port}`]);
    await using judged = await start([here("./proxy_process.ts"), mode, `${origin.port}`]);
    const ways = { direct: origin, splice, judged };
    const cpu: Record<string, number[]> = { direct: [], splice: [], judged: [] };
    const clock: Record<string, number[]> = { direct: [], splice: [], judged: [] };
    const units = one.units ?? connections * requests;
    for (let round = 0; round <= rounds; round++) {
      for (const [way, { pid, port }] of Object.entries(ways)) {
        const clients = await Promise.all(
          Array.from({ length: connections }, () => ExchangeClient.connect(exchange, port)),
        );
        const before = usedUs(pid), sinceMs = performance.now();
        await Promise.all(clients.map((client) => client.ask(requests)));
        // The first round warms up.
        if (round > 0) {
          cpu[way].push((usedUs(pid) - before) / units);
          clock[way].push((performance.now() - sinceMs) * 1000 / units);
        }
        for (const client of clients) client.close();
      }
    }
    const show = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(" ");
    const ratio = (values: Record<string, number[]>, way: string) =>
      (middle(values.judged) / middle(values[way])).toFixed(2);
    console.log(`${name}, us per ${one.unit ?? "request"}
  processor, proxy alone: splice ${show(cpu.splice)}; judged ${show(cpu.judged)}; ratio ${
      ratio(cpu, "splice")
    }
  clock: direct ${show(clock.direct)}; splice ${show(clock.splice)}; judged ${
      show(clock.judged)
    }; judged to splice ${ratio(clock, "splice")}, to direct ${ratio(clock, "direct")}
  memory: splice ${residentMiB(splice.pid)} MiB, judged ${residentMiB(judged.pid)} MiB at most`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The most that a process had. */
function residentMiB(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024);
}
