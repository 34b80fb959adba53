import assert from "node:assert/strict";
import { ApiServer } from "./api_server.ts";
import { Health } from "./health.ts";

Deno.test("Health.stuck names work that has not turned in its time, whatever the wall clock does", () => {
  let monotonicMs = 0, wallMs = 1e12;
  const health = new Health(() => wallMs, () => monotonicMs);
  assert.equal(health.stuck, undefined);
  health.alive("resync", 60_000);
  health.alive("sweep", 1000);
  monotonicMs = 900;
  wallMs += 1e9; // somebody set the clock
  assert.equal(health.stuck, undefined);
  monotonicMs = 61_000;
  assert.equal(health.stuck, "resync has not turned for 61 s; sweep has not turned for 61 s");
  health.alive("sweep", 1000);
  assert.equal(health.stuck, "resync has not turned for 61 s");
  health.rest("resync");
  assert.equal(health.stuck, undefined);
});

Deno.test("/livez answers 503 with the work that stands still, and /readyz goes by conditions alone", async () => {
  let monotonicMs = 0;
  const health = new Health(() => 0, () => monotonicMs);
  const api = new ApiServer({ name: "x", health });
  const get = (path: string) => api.fetch(new Request(`http://x${path}`));
  health.alive("resync", 1000);
  assert.equal((await get("/livez")).status, 200);
  monotonicMs = 5000;
  const stuck = await get("/livez");
  assert.equal(stuck.status, 503);
  assert.equal(await stuck.text(), "resync has not turned for 5 s\n");
  assert.equal((await get("/readyz")).status, 200);
});
