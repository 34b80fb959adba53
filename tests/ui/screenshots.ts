/**
 * Takes the screenshots of the web page: of a lab with the shop of tests/ui/shop, which it brings up and takes down again.
 *
 *     deno run -A tests/ui/screenshots.ts                  the three of the README, into deploy/screenshots
 *     deno run -A tests/ui/screenshots.ts --all DIR        every page in light and dark, into DIR, to be looked at
 *     ... --lab NAME                                       of a lab that is up, and stays up
 *
 * It waits until the history has some minutes. Needs root and Chromium (tests/ui/install-chromium).
 * @module
 */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import type { Page } from "playwright-core";
import { until } from "@weir/common/testing/until";
import { Lab } from "../e2e/weir.ts";
import { Chromium, hasChromium } from "./browser.ts";
import { type LabUi, startLabUi } from "./lab_ui.ts";

const root = new URL("../../", import.meta.url).pathname;
/** So many minutes are in the history of the shots. */
const MINUTES = 4;

interface Shot {
  readonly name: string;
  /** Address below the page's, and what is done there before. */
  readonly path: string;
  readonly dark?: boolean;
  readonly ready: (page: Page) => Promise<unknown>;
}

const waitFor = (selector: string) => (page: Page) => page.locator(selector).first().waitFor();
const openCause = async (page: Page) => {
  await page.locator('[role="row"][data-key]', { hasText: "backup" }).filter({ hasText: "redis" }).first()
    .click();
  await page.getByText("Smallest change").first().waitFor();
};
const map = waitFor('.map[data-ready] [data-node="workload:shop/Pod/redis"]');
const policy = `policies?policy=${encodeURIComponent("cnp:ops/prober")}`;

/** Those of the README. */
const README: readonly Shot[] = [
  { name: "map", path: "map", ready: map },
  { name: "drops", path: "drops", ready: openCause },
  { name: "policy", path: policy, dark: true, ready: waitFor(".drawing") },
];

function allShots(nowS: number): Shot[] {
  const time = (unixS: number) => encodeURIComponent(new Date(unixS * 1000).toISOString());
  const minuteS = Math.floor(nowS / 60) * 60,
    window = `since=${time(minuteS - 180)}&until=${time(minuteS - 60)}`;
  const redis = encodeURIComponent("workload:shop/Pod/redis");
  const shots: Omit<Shot, "dark">[] = [
    ...README,
    { name: "map-card", path: `map?select=${redis}`, ready: waitFor(".panel") },
    { name: "map-past", path: `map?${window}`, ready: map },
    {
      name: "map-filter",
      path: `map?q=${encodeURIComponent("namespace=payments")}`,
      ready: waitFor(".map[data-ready]"),
    },
    { name: "flows", path: "flows", ready: waitFor('[role="row"][data-key]') },
    { name: "drops-past", path: `drops?${window}`, ready: openCause },
    { name: "policies", path: "policies", ready: waitFor('[role="row"][data-key]') },
    { name: "health", path: "health", ready: waitFor('section[aria-label="Node node-2"]') },
  ];
  return shots.flatMap((shot) =>
    [false, true].map((dark) => ({ ...shot, dark, name: `${shot.name}-${dark ? "dark" : "light"}` }))
  );
}

async function take(ui: LabUi, shots: readonly Shot[], directory: string): Promise<void> {
  const browser = await Chromium.start();
  try {
    await ui.letIn(browser);
    for (const { name, path, dark, ready } of shots) {
      const { page } = await browser.open(`${ui.address}${path}`, { dark });
      await ready(page);
      await page.waitForFunction("document.fonts.status === 'loaded'");
      // Until the next tick of the live stream, so that nothing is half painted.
      await page.waitForTimeout(1500);
      await page.screenshot({ path: `${directory}/${name}.png` });
      await page.close();
      console.log(`${directory}/${name}.png`);
    }
  } finally {
    await browser.stop();
  }
}

const { values: { all, lab: given } } = parseArgs({
  options: { all: { type: "string" }, lab: { type: "string" } },
});
assert.ok(await hasChromium(), "Chromium is not there: tests/ui/install-chromium");
const lab = new Lab(given ?? "shop");
if (given === undefined) await lab.upFrom(2, `${root}tests/ui/shop`);
try {
  const ui = await startLabUi(lab.name);
  try {
    await until("the history has some minutes", async () => {
      const { history, historySinceUnixS, nowUnixS } = await (await ui.get("api/session")).json();
      return history && historySinceUnixS < nowUnixS - 60 * MINUTES;
    });
    await take(
      ui,
      all === undefined ? README : allShots(Date.now() / 1000),
      all ?? `${root}deploy/screenshots`,
    );
  } finally {
    await ui.stop();
  }
} finally {
  if (given === undefined) await lab.down();
}
