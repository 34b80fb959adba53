/** A page at which nobody looks asks for no flows; it has them at once when somebody comes back. @module */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { hasChromium } from "./browser.ts";
import { type ManyWorkloads, serveWorkloads } from "./many_workloads.ts";

const FLOWS = 500, IDLE_MS = 1000;

/** The stream of the map, which has begun to tell. */
async function watch({ address }: ManyWorkloads) {
  const answer = await fetch(`${address}api/live?group=namespace`);
  const reader = answer.body!.getReader();
  await reader.read();
  return reader;
}

const seen = async ({ address }: ManyWorkloads): Promise<number> =>
  (await (await fetch(`${address}api/map?group=namespace`)).json()).completeness.seen;

Deno.test({
  name: "the page asks for flows while somebody looks, for two as for one, and for none when both are gone",
  ignore: !await hasChromium(),
  async fn() {
    const served = await serveWorkloads({ flows: FLOWS, ui: { idleMs: IDLE_MS } });
    try {
      assert.equal(served.streams, 0, "nobody looked yet");
      for (const turn of ["first", "again"]) {
        const [a, b] = [await watch(served), await watch(served)];
        await until("all flows are there", async () => await seen(served) === FLOWS);
        assert.equal(served.streams, 1, turn);
        await a.cancel();
        await new Promise((resolve) => setTimeout(resolve, 3 * IDLE_MS));
        assert.equal(served.streams, 1, "the other one looks");
        await b.cancel();
        await until("no flows are asked for", () => served.streams === 0);
      }
      const rows = (await fetch(`${served.address}api/flows/stream`)).body!.getReader();
      await rows.read();
      await new Promise((resolve) => setTimeout(resolve, 3 * IDLE_MS));
      assert.equal(served.streams, 2, "who reads the table is told of the nodes");
      await rows.cancel();
      await until("no flows are asked for", () => served.streams === 0);
    } finally {
      await served.stop();
    }
  },
});
