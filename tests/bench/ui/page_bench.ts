/**
 * How quick the page is with 1,000 workloads and 5,000 edges, in headless Chromium without a GPU: when the map is painted, and the
 * longest task of the page, at the start, with all namespaces open, while flows go on, and while a person moves the map.
 *
 *     deno run -A tests/bench/ui/page_bench.ts [--runs 5] [--screenshot DIR]
 *
 * A task is what blocks the page at a time (Chromium's `longtask`, those above 50 ms). Says how busy the machine was: a busy one
 * makes all of it longer.
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

interface Numbers {
  readonly paintMs: number;
  readonly startTaskMs: number;
  readonly openTaskMs: number;
  readonly liveTaskMs: number;
  readonly moveTaskMs: number;
}

/** The longest task since the last question; 0 where none was above 50 ms. */
async function longestTask(page: Page): Promise<number> {
  return await page.evaluate("Math.max(0, ...window.__tasks.splice(0).map(([, ms]) => ms))") as number;
}

async function measure(browser: Chromium, address: string, directory: string | undefined): Promise<Numbers> {
  const { page } = await browser.open("about:blank");
  try {
    await page.addInitScript(WATCH);
    await page.goto(`${address}map`);
    await until("the map is painted", async () => await page.evaluate("window.__painted > 0") as boolean, 50);
    const paintMs = await page.evaluate("window.__painted") as number;
    await page.waitForTimeout(1000);
    const startTaskMs = await longestTask(page);
    if (directory !== undefined) await page.screenshot({ path: `${directory}/many-closed.png` });
    await page.waitForTimeout(WATCHED_MS);
    const liveTaskMs = await longestTask(page);
    await page.getByRole("button", { name: "Open all namespaces" }).click();
    await until(
      "cards are there",
      async () =>
        await page.evaluate(
          `document.querySelectorAll('.map[data-ready] [data-node^="workload"]').length > 20`,
        ) as boolean,
    );
    await page.waitForTimeout(WATCHED_MS);
    const openTaskMs = await longestTask(page);
    if (directory !== undefined) await page.screenshot({ path: `${directory}/many-open.png` });
    for (let i = 0; i < 10; i++) {
      await page.mouse.move(700, 500);
      await page.mouse.wheel(0, i < 5 ? -240 : 240);
      await page.mouse.move(700 + 20 * i, 520);
      await page.waitForTimeout(100);
    }
    const moveTaskMs = await longestTask(page);
    return { paintMs, startTaskMs, liveTaskMs, openTaskMs, moveTaskMs };
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
    console.log(`${name.padEnd(44)}${ms(sorted[0])}${ms(sorted[sorted.length >> 1])}${ms(sorted.at(-1)!)}`);
  };
  console.log(`1,000 workloads, 5,000 edges, ${FLOWS_PER_S} flows/s; load ${Deno.loadavg()[0].toFixed(1)}`);
  console.log(`${"".padEnd(44)}${["least", "middle", "most"].map((word) => word.padStart(9)).join("")}`);
  row("map painted after", ({ paintMs }) => paintMs);
  row("longest task: start", ({ startTaskMs }) => startTaskMs);
  row("longest task: flows go on", ({ liveTaskMs }) => liveTaskMs);
  row("longest task: all namespaces opened", ({ openTaskMs }) => openTaskMs);
  row("longest task: zoomed and pointed at", ({ moveTaskMs }) => moveTaskMs);
} finally {
  await browser.stop();
  await many.stop();
}
