/**
 * The web page in a lab with real traffic, as a person uses it: map, flows, a drop and its why, a policy, health, and the same at
 * another time.
 * @module
 */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { canRun, Lab } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { Chromium, hasChromium, seriousFindings, type Watched } from "./browser.ts";
import { startLabUi } from "./lab_ui.ts";

const pod = (name: string, node: string, command: string) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec:
  nodeName: ${node}
  containers: [{ name: c, command: ${command}, ports: [{ containerPort: 8080, name: http }] }]
---`;
const MANIFESTS = `
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---${pod("web", "node-1", '["python3", "-m", "http.server", "8080", "--bind", "::"]')}${
  pod("cart", "node-2", '["sleep", "100000"]')
}${pod("thief", "node-1", '["sleep", "100000"]')}
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress:
    - fromEndpoints: [{ matchLabels: { app: cart } }]
      toPorts: [{ ports: [{ port: "8080", protocol: TCP }] }]
`;

/** Waits until the page shows a text somewhere. */
async function shows(page: Page, text: string | RegExp): Promise<void> {
  await page.getByText(text).first().waitFor();
}

/** Nothing serious by axe-core, and nothing that the browser complains about. */
async function isSound({ page, complaints }: Watched, what: string): Promise<void> {
  assert.deepEqual(await seriousFindings(page), [], what);
  assert.deepEqual(complaints, [], what);
}

Deno.test({
  name: "the web page shows a lab's traffic, explains a drop, and shows the same at another time",
  ignore: !canRun || !await hasChromium(),
  async fn(t) {
    const lab = new Lab(`page${Deno.pid}`);
    await lab.up(2, MANIFESTS);
    let ui: Awaited<ReturnType<typeof startLabUi>> | undefined, browser: Chromium | undefined;
    try {
      const endpoints = JSON.parse(await lab.ok(["endpoint", "list", "-o", "json"])) as {
        name: string;
        status: { ipv4: string };
      }[];
      const { ipv4 } = endpoints.find(({ name }) => name === "shop/web")!.status;
      const ask = (from: string) =>
        lab.weir([
          "lab",
          "exec",
          from,
          "--",
          "curl",
          "-s",
          "-o",
          "/dev/null",
          "-m",
          "3",
          `http://${ipv4}:8080/`,
        ]);
      // Ready is the endpoint; what runs in it takes a moment more.
      await until("web answers", async () => (await ask("cart")).code === 0);
      assert.notEqual((await ask("thief")).code, 0);
      ui = await startLabUi(lab.name);
      const { address, get } = ui;
      browser = await Chromium.start();
      await ui.letIn(browser);
      const chromium = browser;
      await t.step("the map has a card for each workload, in both colours", async () => {
        for (const dark of [false, true]) {
          const watched = await chromium.open(`${address}map`, { dark }), { page } = watched;
          for (const name of ["cart", "thief", "web"]) {
            await page.locator(`[data-node="workload:shop/Pod/${name}"]`).waitFor();
          }
          await shows(page, "3 cards, 2 edges");
          await isSound(watched, `the map, ${dark ? "dark" : "light"}`);
          await page.close();
        }
      });
      await t.step(
        "the map and the drops show what the filter lets through, now and at another time",
        async () => {
          const q = encodeURIComponent("from-pod=shop/thief");
          const map = await chromium.open(`${address}map?q=${q}`);
          await map.page.locator('[data-node="workload:shop/Pod/thief"]').waitFor();
          await shows(map.page, /2 cards, 1 edges?/);
          assert.equal(await map.page.locator('[data-node="workload:shop/Pod/cart"]').count(), 0);
          await isSound(map, "the filtered map");
          await map.page.locator("input[data-filter]").first().fill("from-pod=shop/nobody");
          await map.page.keyboard.press("Enter");
          await shows(map.page, "No flow matches");
          assert.match(map.page.url(), /q=from-pod=shop\/nobody$/);
          await map.page.close();
          const drops = await chromium.open(`${address}drops?q=${encodeURIComponent("from-pod=shop/cart")}`);
          await shows(drops.page, "No drop matches");
          await isSound(drops, "the filtered drops");
          await drops.page.close();
          const nowS = Math.ceil(Date.now() / 1000), window = `since=${nowS - 3600}&until=${nowS}`;
          await until("the history has the filtered edge", async () => {
            const { edges } = await (await get(`api/map?${window}&from-pod=shop/thief`)).json();
            return edges?.length === 1 && edges[0].dropped > 0;
          });
          const wrong = await get(`api/map?from-pot=shop/thief`);
          assert.deepEqual([wrong.status, (await wrong.json()).code], [400, "QUERY_INVALID"]);
        },
      );
      await t.step("the table follows, and its filter is the command line's", async () => {
        const watched = await chromium.open(
          `${address}flows?q=${
            encodeURIComponent("verdict=dropped from-pod=shop/thief drop-reason=POLICY_DENIED")
          }`,
        );
        const { page } = watched, rows = page.locator('[role="row"][data-key]');
        await rows.first().waitFor();
        const before = await rows.count();
        for (const text of await rows.allInnerTexts()) assert.match(text, /shop\/thief[\s\S]*POLICY_DENIED/);
        await ask("thief");
        await page.waitForFunction(`document.querySelectorAll('[role="row"][data-key]').length > ${before}`);
        await isSound(watched, "the flows");
        await page.close();
      });
      await t.step("a drop is a cause with its why and the smallest change", async () => {
        const watched = await chromium.open(`${address}drops`), { page } = watched;
        const cause = page.locator('[role="row"][data-key]', { hasText: "shop/thief" });
        await cause.click();
        await shows(page, /Give the source label app=cart/);
        await shows(
          page,
          `weir policy explain --lab ${lab.name} --from shop/thief --to shop/web --port 8080/TCP`,
        );
        await isSound(watched, "the drops");
        await page.close();
      });
      await t.step(
        "a policy stands beside its text with hits, and health names programs and nodes",
        async () => {
          const policy = await chromium.open(
            `${address}policies?policy=${encodeURIComponent("cnp:shop/web")}`,
          );
          await shows(policy.page, /fromEndpoints/);
          await shows(policy.page, "denied by default");
          await isSound(policy, "the policy");
          await policy.page.close();
          const health = await chromium.open(`${address}health`);
          await health.page.locator('section[aria-label="Node node-2"]').waitFor();
          await shows(health.page, /all accepted by the verifier/);
          await isSound(health, "health");
          await health.page.close();
        },
      );
      await t.step("a window of the past shows what was, and says that nothing was before", async () => {
        // What the history has written: it takes flows in batches.
        const nowS = Math.ceil(Date.now() / 1000), window = `since=${nowS - 3600}&until=${nowS}`;
        await until("the history has the drop", async () => {
          const { causes } = await (await get(`api/drops?${window}`)).json();
          return causes?.some((one: { fromName: string }) => one.fromName === "shop/thief") ?? false;
        });
        const text = (unixS: number) => encodeURIComponent(new Date(unixS * 1000).toISOString());
        const then = await chromium.open(`${address}map?since=${text(nowS - 3600)}&until=${text(nowS)}`);
        await then.page.locator('[data-node="workload:shop/Pod/thief"]').waitFor();
        await shows(then.page, /as it was then/);
        await isSound(then, "the map of the past");
        await then.page.close();
        const before = await (await get(`api/map?since=${nowS - 7200}&until=${nowS - 7000}`))
          .json();
        assert.deepEqual(before.cards, []);
      });
      await t.step("a policy is changed on the page, and what would come of it is shown", async () => {
        const policy = await chromium.open(`${address}policies?policy=${encodeURIComponent("cnp:shop/web")}`);
        const { page } = policy, outcome = page.getByRole("region", { name: "What would change" });
        await page.getByRole("button", { name: "Change and preview" }).click();
        const editor = page.getByRole("textbox", { name: "Text of the policy" });
        const ask = async (from: string, to: string) => {
          await editor.fill((await editor.inputValue()).replace(from, to));
          await page.getByRole("button", { name: "See what would change" }).click();
        };
        await ask("app: cart", "app: thief");
        await outcome.waitFor();
        const rows = await outcome.getByRole("row").allInnerTexts();
        const row = (from: string) => rows.find((text) => text.includes(from))?.replace(/\s+/g, " ") ?? "";
        assert.match(
          row("shop/cart"),
          /^would be dropped shop\/cart shop\/web 8080\/TCP .* no rule allows it: cnp:shop\/web/,
        );
        assert.match(row("shop/thief"), /^would pass shop\/thief shop\/web 8080\/TCP /);
        await isSound(policy, "a policy that is changed");
        await ask("fromEndpoints", "fromNobody");
        await shows(page, /fromNobody/);
        // Nobody's rules changed.
        assert.match(await lab.ok(["policy", "get", "cnp:shop/web", "-o", "yaml"]), /app: cart/);
        await page.close();
      });
    } finally {
      await browser?.stop();
      await ui?.stop();
      await lab.down();
    }
  },
});
