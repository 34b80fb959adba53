/**
 * The web page that is always there: who gets in and who does not, and that it comes back when its process is killed or hangs, without
 * anybody being let in anew.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { pidOf, signal } from "../faults/faulty_lab.ts";
import { Chromium, hasChromium } from "./browser.ts";
import { type LabUi, startLabUi } from "./lab_ui.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const POLICY = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress:
    - fromEndpoints: [{ matchLabels: { app: cart } }]
`;

Deno.test({
  name:
    "the resident page lets in whom weir ui lets in, nobody else, and comes back when it is killed or hangs",
  ignore: !canRun || !await hasChromium(),
  async fn(t) {
    const lab = new Lab(`res${Deno.pid}`), sockets = `/run/weir/${lab.name}-node-1`;
    await lab.up(1, POLICY, ["--agent", "hung-after-s=3"]);
    let ui: LabUi | undefined, browser: Chromium | undefined;
    try {
      ui = await startLabUi(lab.name);
      const { address, get, letIn } = ui;
      /** What another user of the node gets, by curl. */
      const asNobody = async (...words: string[]) => {
        const curl = [...NOBODY, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20", ...words];
        const { code, out } = await run("ip", ["netns", "exec", `weir-${lab.name}--node-1`, ...curl]);
        return `${out} exit ${code}`;
      };
      await t.step("a user who may not open Weir's sockets gets no flows, by whatever way", async () => {
        assert.equal(await asNobody("http://127.0.0.1:12000/api/flows"), "401 exit 0");
        assert.equal(await asNobody("http://127.0.0.1:12000/?token=guess"), "401 exit 0");
        for (const socket of ["ui", "ui-page", "hubble", "hubble-relay"]) {
          const post = ["-X", "POST", "--unix-socket", `${sockets}/${socket}.sock`];
          assert.equal(await asNobody(...post, "http://x/v1/tickets"), "000 exit 7", socket);
        }
        assert.equal((await fetch(`${address}api/flows`)).status, 401);
      });
      await t.step("who was let in reads flows, health, and why a connection is denied", async () => {
        assert.equal((await get("api/flows")).status, 200);
        const { nodes } = await (await get("api/health")).json();
        assert.ok(nodes[0].services.some(({ name }: { name: string }) => name === "ui"));
        const why = await (await get("api/explain?from=1&to=2&port=80")).json();
        assert.equal(why.allowed, true);
        const { policy } = await (await get("api/policy?name=cnp:shop/web")).json();
        assert.equal(policy.rules, 1);
      });
      browser = await Chromium.start();
      await letIn(browser);
      const { page } = await browser.open(`${address}map`);
      /** The page's stream begins, again. */
      const begins = () =>
        page.waitForResponse((one) => one.url().includes("/api/live") && one.status() === 200);
      await page.locator(".status .number").waitFor();
      for (const [how, name] of [["is killed", "SIGKILL"], ["hangs", "SIGSTOP"]] as const) {
        await t.step(`the page goes on by itself when its process ${how}`, async () => {
          const before = await pidOf(lab, "ui", "node-1"), again = begins();
          signal(before, name);
          await until("another process is there", async () => await pidOf(lab, "ui", "node-1") !== before);
          await until("it answers who was let in", async () => (await get("api/session")).status === 200);
          await again;
          assert.equal((await fetch(`${address}api/session`)).status, 401);
        });
      }
      await t.step(
        "with options of its own weir ui serves a page itself, with a token of its own",
        async () => {
          const own = await startLabUi(lab.name, ["--base-path", "/weir"]);
          try {
            assert.match(own.address, /\/weir\/$/);
            assert.equal((await own.get("api/session")).status, 200);
            assert.equal((await fetch(`${own.address}api/session`)).status, 401);
          } finally {
            await own.stop();
          }
        },
      );
    } finally {
      await browser?.stop();
      await ui?.stop();
      await lab.down();
    }
  },
});
