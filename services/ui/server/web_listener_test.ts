import assert from "node:assert/strict";
import { Logger, systemClock } from "@weir/common";
import { listenWeb } from "./web_listener.ts";

Deno.test("listenWeb() hands on the headers that say who is asked, and from which page", async () => {
  const seen: (string | null)[][] = [];
  const listener = await listenWeb((request) => {
    seen.push(["host", "origin", "sec-fetch-site"].map((name) => request.headers.get(name)));
    return Promise.resolve(new Response("here"));
  }, { address: { hostname: "127.0.0.1", port: 0 }, log: Logger.silent(), clock: systemClock });
  try {
    const url = `http://127.0.0.1:${listener.port}`;
    const answer = await fetch(`${url}/map`, { headers: { "origin": url, "sec-fetch-site": "same-origin" } });
    assert.equal(await answer.text(), "here");
    assert.deepEqual(seen, [[`127.0.0.1:${listener.port}`, url, "same-origin"]]);
  } finally {
    await listener.shutdown();
  }
});
