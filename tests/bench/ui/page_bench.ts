/**
 * How quick the page is with 1,000 workloads and 5,000 edges, in headless Chromium without a GPU: when the map is painted, and the
 * longest task of the page, at the start, with all namespaces open, while flows go on, and while a person moves the map.
 *
 *     deno run -A tests/bench/ui/page_bench.ts [--runs 5] [--screenshot DIR]
 *
 * A task is what blocks the page at a time. Its length is told by the clock (Chromium's `longtask`, those above 50 ms), which a busy
 * machine makes longer, and by the processor's time of the page's main thread (Chromium's trace), which it hardly does.
 * @module
 */
import { parseArgs } from "node:util";
import type { Page } from "playwright-core";
import { until } from "@weir/common/testing/until";
import { Chromium } from "../../ui/browser.ts";
import { serveManyWorkloads } from "../../ui/many_workloads.ts";

const FLOWS_PER_S = 2000, WATCHED_MS = 5000;

/** Written into the page before its own scripts. */
const WATCH = `
  window.__tasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) window.__tasks.push([startTime, duration]);
  }).observe({ type: "longtask", buffered: true });
  const look = () => {
    const map = document.querySelector(".map[data-ready]");
    if (map && map.querySelector("[data-node]")) {
      requestAnimationFrame(() => setTimeout(() => { window.__painted = performance.now(); }));
    } else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
`;

/** The longest task, in milliseconds of the clock and of the processor. */
interface Longest {
  readonly wallMs: number;
  readonly cpuMs: number;
}

interface Numbers {
  readonly paintMs: number;
  readonly start: Longest;
  readonly open: Longest;
  readonly live: Longest;
  readonly move: Longest;
}

interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of the thread's processor time. */
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** Traces what the page's main threads do meanwhile. */
async function longestOf(page: Page, act: () => Promise<void>): Promise<Longest> {
  const session = await page.context().newCDPSession(page), events: TraceEvent[] = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value as unknown as TraceEvent[]));
  await longestTask(page);
  await session.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["toplevel", "disabled-by-default-devtools.timeline"] },
  });
  await act();
  const ended = new Promise<void>((resolve) => session.once("Tracing.tracingComplete", () => resolve()));
  await session.send("Tracing.end");
  await ended;
  await session.detach();
  const isMain = new Set(
    events.filter(({ name, args }) => name === "thread_name" && args?.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`),
  );
  const tasks = events.filter(({ name, pid, tid }) => /RunTask$/.test(name) && isMain.has(`${pid} ${tid}`));
  return {
    wallMs: await longestTask(page),
    cpuMs: Math.max(0, ...tasks.map(({ tdur = 0 }) => tdur / 1000)),
  };
}

/** The longest task since the last question; 0 where none was above 50 ms. */
async function longestTask(page: Page): Promise<number> {
  return await page.evaluate(
    "Math.max(0, ...(window.__tasks ?? []).splice(0).map(([, ms]) => ms))",
  ) as number;
}

async function measure(browser: Chromium, address: string, directory: string | undefined): Promise<Numbers> {
  const { page } = await browser.open("about:blank");
  try {
    await page.addInitScript(WATCH);
    let paintMs = 0;
    const start = await longestOf(page, async () => {
      await page.goto(`${address}map`);
      await until(
        "the map is painted",
        async () => await page.evaluate("window.__painted > 0") as boolean,
        50,
      );
      paintMs = await page.evaluate("window.__painted") as number;
      await page.waitForTimeout(1000);
    });
    if (directory !== undefined) await page.screenshot({ path: `${directory}/many-closed.png` });
    const live = await longestOf(page, () => page.waitForTimeout(WATCHED_MS));
    const open = await longestOf(page, async () => {
      await page.getByRole("button", { name: "Open all namespaces" }).click();
      await until("cards are there", async () =>
        await page.evaluate(
          `document.querySelectorAll('.map[data-ready] [data-node^="workload"]').length > 20`,
        ) as boolean);
      await page.waitForTimeout(WATCHED_MS);
    });
    if (directory !== undefined) await page.screenshot({ path: `${directory}/many-open.png` });
    const move = await longestOf(page, async () => {
      for (let i = 0; i < 10; i++) {
        await page.mouse.move(700, 500);
        await page.mouse.wheel(0, i < 5 ? -240 : 240);
        await page.mouse.move(700 + 20 * i, 520);
        await page.waitForTimeout(100);
      }
    });
    return { paintMs, start, live, open, move };
  } finally {
    await page.close();
  }
}

const { values: { runs, screenshot } } = parseArgs({
  options: { runs: { type: "string", default: "5" }, screenshot: { type: "string" } },
});
const many = await serveManyWorkloads({ flowsPerS: FLOWS_PER_S });
const browser = await Chromium.start();
try {
  const all: Numbers[] = [];
  for (let run = 0; run < Number(runs); run++) all.push(await measure(browser, many.address, screenshot));
  const row = (name: string, of: (numbers: Numbers) => number) => {
    const sorted = all.map(of).sort((a, b) => a - b), ms = (n: number) => `${Math.round(n)} ms`.padStart(9);
    console.log(
      `${name.padStart(name === "processor" ? 44 : 0).padEnd(44)}${ms(sorted[0])}${
        ms(sorted[sorted.length >> 1])
      }${ms(sorted.at(-1)!)}`,
    );
  };
  console.log(`1,000 workloads, 5,000 edges, ${FLOWS_PER_S} flows/s; load ${Deno.loadavg()[0].toFixed(1)}`);
  console.log(`${"".padEnd(44)}${["least", "middle", "most"].map((word) => word.padStart(9)).join("")}`);
  row("map painted after", ({ paintMs }) => paintMs);
  const tasks = (what: string, of: (numbers: Numbers) => Longest) => {
    row(`longest task, ${what}: clock`, (numbers) => of(numbers).wallMs);
    row("processor", (numbers) => of(numbers).cpuMs);
  };
  tasks("start", ({ start }) => start);
  tasks("flows go on", ({ live }) => live);
  tasks("all namespaces opened", ({ open }) => open);
  tasks("zoomed and pointed at", ({ move }) => move);
} finally {
  await browser.stop();
  await many.stop();
}
