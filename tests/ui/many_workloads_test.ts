/** The page with 1,000 workloads and 5,000 edges, in the browser. @module */
import assert from "node:assert/strict";
import { Chromium, hasChromium, seriousFindings } from "./browser.ts";
import { serveManyWorkloads } from "./many_workloads.ts";

Deno.test({
  name:
    "the map of 1,000 workloads and 5,000 edges is there, folds nothing, and says nothing serious to axe-core",
  ignore: !await hasChromium(),
  async fn() {
    const many = await serveManyWorkloads();
    let browser: Chromium | undefined;
    try {
      const { foldedCards, foldedEdges } = await (await fetch(`${many.address}api/map?group=workload`))
        .json();
      assert.deepEqual([foldedCards, foldedEdges], [0, 0]);
      browser = await Chromium.start();
      const { page, complaints } = await browser.open(`${many.address}map`);
      await page.getByText("1,000 cards, 5,000 edges").first().waitFor();
      assert.deepEqual(await seriousFindings(page), []);
      assert.deepEqual(complaints, []);
      await page.close();
      const drops = await browser.open(`${many.address}drops`);
      await drops.page.getByText("100 causes").first().waitFor();
      await drops.page.close();
    } finally {
      await browser?.stop();
      await many.stop();
    }
  },
});
