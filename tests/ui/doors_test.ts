/**
 * The ways to the page in a browser: below a path of a reverse proxy under another name, and over TLS with a token. In each the map
 * is drawn, its layout's worker runs, the stream goes on, and the browser has nothing to complain of: the page's own policy for
 * content holds.
 * @module
 */
import assert from "node:assert/strict";
import { createServer, request as ask } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { until } from "@weir/common/testing/until";
import { Authority, createAuthority } from "../../services/certificate-authority/authority.ts";
import { Chromium, hasChromium, type Watched } from "./browser.ts";
import { serveWorkloads } from "./many_workloads.ts";

const NAME = "weir.localhost", TOKEN = "a-token-of-twenty-six-letters";
const ignore = !await hasChromium();

/** A proxy as people run them in front: it keeps the path, and says under which name it was asked. */
async function startProxy(upstreamPort: number): Promise<{ port: number; stop(): Promise<void> }> {
  const server = createServer((incoming, outgoing) => {
    const { method, url: path, headers } = incoming;
    const upstream = ask({ host: "127.0.0.1", port: upstreamPort, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    upstream.on("error", () => outgoing.destroy());
    outgoing.on("close", () => upstream.destroy());
    incoming.pipe(upstream);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The map is there, and goes on. */
async function isAlive({ page, complaints }: Watched): Promise<void> {
  await page.locator('.map[data-ready] [data-node="workload:team-0/Deployment/app-0"]').waitFor();
  const count = async () => await page.locator(".status .number").innerText();
  const before = await count();
  await until("the stream goes on", async () => await count() !== before);
  assert.deepEqual(complaints, []);
}

/** No script of another place runs, and none that stands in the page. */
async function isStrict(page: Page): Promise<void> {
  const ran = await page.evaluate(`new Promise((resolve) => {
    const script = document.createElement("script");
    script.textContent = "window.__ran = true";
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective));
    document.body.append(script);
    if (window.__ran) resolve("it ran");
  })`);
  assert.match(`${ran}`, /^script-src/);
}

Deno.test({
  name: "the page works below a path of a reverse proxy, under a name that it was told, and under no other",
  ignore,
  async fn() {
    const served = await serveWorkloads({
      flows: 40,
      flowsPerS: 10,
      ui: { basePath: "/tools/weir", hosts: [NAME] },
    });
    const proxy = await startProxy(Number(new URL(served.address).port));
    let browser: Chromium | undefined;
    try {
      browser = await Chromium.start();
      const base = `http://${NAME}:${proxy.port}/tools/weir/`;
      const map = await browser.open(`${base}map`);
      await isAlive(map);
      await isStrict(map.page);
      await map.page.getByRole("link", { name: "Flows" }).click();
      await map.page.locator('[role="row"][data-key]').first().waitFor();
      assert.equal(map.page.url(), `${base}flows`);
      await map.page.close();
      const deep = await browser.open(`${base}drops?q=${encodeURIComponent("from-namespace=team-0")}`);
      await deep.page.getByText("1 cause").first().waitFor();
      assert.deepEqual(deep.complaints, []);
      await deep.page.close();
      const other = await browser.open(`http://other.localhost:${proxy.port}/tools/weir/map`);
      assert.match(await other.page.locator("body").innerText(), /HOST_UNKNOWN/);
      await other.page.close();
    } finally {
      await browser?.stop();
      await proxy.stop();
      await served.stop();
    }
  },
});

Deno.test({
  name:
    "the page works over TLS with a token, which leaves the address at once, and shows nothing without one",
  ignore,
  async fn() {
    const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
    const { requestPem, keyPem } = await createCertificateRequest("n");
    const { certificatePem } = await authority.issue(requestPem, {
      peer: { role: "reader", node: "n" },
      hosts: ["127.0.0.1"],
      nowMs: Date.now(),
      lifetimeMs: 3_600_000,
    });
    const served = await serveWorkloads({
      flows: 40,
      flowsPerS: 10,
      ui: { token: TOKEN, tls: { cert: certificatePem, key: keyPem } },
    });
    let browser: Chromium | undefined;
    try {
      assert.match(served.address, /^https:/);
      // The authority is ours alone: browsers are told of it by their owners.
      browser = await Chromium.start(["--ignore-certificate-errors"]);
      const without = await browser.open(`${served.address}map`);
      assert.match(await without.page.locator("body").innerText(), /UNAUTHENTICATED/);
      await without.page.close();
      const wrong = await browser.open(`${served.address}map?token=not-this-one-but-another`);
      assert.match(await wrong.page.locator("body").innerText(), /the token is wrong/);
      await wrong.page.close();
      const map = await browser.open(`${served.address}map?token=${TOKEN}`);
      assert.equal(map.page.url(), `${served.address}map`);
      await isAlive(map);
      await isStrict(map.page);
      assert.equal(await map.page.evaluate("document.cookie"), "", "scripts cannot read the cookie");
      await map.page.close();
    } finally {
      await browser?.stop();
      await served.stop();
    }
  },
});
