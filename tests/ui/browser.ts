/**
 * Headless Chromium (Debian's package), driven by playwright-core over its debugging port: what a person sees, and what axe-core
 * says of it.
 * @module
 */
import assert from "node:assert/strict";
import axe, { type AxeResults } from "axe-core";
import { type Browser, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
const START_MS_MAX = 180_000;
/** Whatever is waited for on a page may take so long: the machine is slow at times, and no test judges that. */
export const WAIT_MS_MAX = 180_000;

/** Whether there is a Chromium. */
export async function hasChromium(): Promise<boolean> {
  return await Deno.stat(CHROMIUM).then(() => true, () => false);
}

/** A page, and what its console said that no page should say. */
export interface Watched {
  readonly page: Page;
  readonly complaints: string[];
}

/** One Chromium with a profile of its own. */
export class Chromium {
  readonly #browser: Browser;
  readonly #child: Deno.ChildProcess;
  readonly #profile: string;

  private constructor(browser: Browser, child: Deno.ChildProcess, profile: string) {
    this.#browser = browser;
    this.#child = child;
    this.#profile = profile;
  }

  /** @param more Words of its command line, such as `--ignore-certificate-errors`. */
  static async start(more: readonly string[] = []): Promise<Chromium> {
    const profile = await Deno.makeTempDir({ prefix: "weir-chromium-" });
    const child = new Deno.Command(CHROMIUM, {
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        `--user-data-dir=${profile}`,
        "--remote-debugging-port=0",
        ...more,
        "about:blank",
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    // It writes port and path there when it listens.
    const file = `${profile}/DevToolsActivePort`, endMs = Date.now() + START_MS_MAX;
    let text = "";
    while (!/^\d+\n\/\S+/.test(text)) {
      assert.ok(Date.now() < endMs, "Chromium does not start");
      await new Promise((resolve) => setTimeout(resolve, 100));
      text = await Deno.readTextFile(file).catch(() => "");
    }
    const [port, path] = text.split("\n");
    const browser = await chromium.connectOverCDP(`ws://127.0.0.1:${port}${path}`, { timeout: START_MS_MAX });
    return new Chromium(browser, child, profile);
  }

  /** A page of its own. */
  async open(url: string, options: { dark?: boolean } = {}): Promise<Watched> {
    const page = await this.#browser.contexts()[0].newPage(), complaints: string[] = [];
    page.setDefaultTimeout(WAIT_MS_MAX);
    await page.setViewportSize({ width: 1440, height: 900 });
    await page.emulateMedia({ colorScheme: options.dark ? "dark" : "light", reducedMotion: "reduce" });
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(`${error}`));
    await page.goto(url);
    return { page, complaints };
  }

  /** Every page has it from now on. @param cookie "NAME=VALUE" */
  async keepCookie(url: string, cookie: string): Promise<void> {
    const [name, value] = cookie.split("=", 2);
    await this.#browser.contexts()[0].addCookies([{ name, value, url, sameSite: "Strict", httpOnly: true }]);
  }

  async stop(): Promise<void> {
    await this.#browser.close().catch(() => {});
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It ended with its last connection.
    }
    await this.#child.status;
    for (let tries = 0; tries < 20; tries++) {
      // Its children let go of the profile a moment later.
      if (await Deno.remove(this.#profile, { recursive: true }).then(() => true, () => false)) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** What axe-core finds that is serious or critical, in words. */
export async function seriousFindings(page: Page): Promise<string[]> {
  // By the debugging port: the page's own policy allows no script from elsewhere, and keeps that.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(
    'axe.run(document, { resultTypes: ["violations"] })',
  ) as AxeResults;
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html }) => html).join(" ")}`);
}
