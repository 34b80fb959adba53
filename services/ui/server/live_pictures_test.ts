import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Flow } from "@weir/proto/flow";
import type { FilterParameters } from "./history_reader.ts";
import { FILTERS_MAX, type LivePicture, LivePictures } from "./live_pictures.ts";
import type { FilteredFollow, FlowSource } from "./flow_source.ts";
import type { FlowPicture } from "./flow_picture.ts";

const names = { nodeAt: () => undefined, nodeOf: () => undefined };
const end = (name: string) => ({
  pod_name: name,
  namespace: "shop",
  identity: 300,
  labels: [`k8s:app=${name}`],
});

/** A source that has one flow, and remembers who follows it. */
function oneFlow() {
  const followers: FilteredFollow[] = [];
  const source = {
    sources: (lost: number) => ({ error: "", connected: [], away: [], lost }),
    follow(picture: FlowPicture, filtered: FilteredFollow) {
      followers.push(filtered);
      picture.add(Flow.create({ source: end("cart"), destination: end("web"), verdict: "FORWARDED" }), 1);
      filtered.onState("");
      return Promise.resolve();
    },
  };
  return { source: source as unknown as FlowSource, followers };
}

/** Asks, and lets the time pass that a new picture is waited for. */
async function ask(lives: LivePictures, clock: FakeClock, filter: FilterParameters): Promise<LivePicture> {
  const asked = lives.of(filter);
  await clock.advance(300);
  return await asked;
}

Deno.test("LivePictures shares one picture among all who filter the same, and lets those go that nobody looks at", async () => {
  const clock = new FakeClock(0), stop = new AbortController(), { source, followers } = oneFlow();
  const lives = new LivePictures({ source, names, clock, signal: stop.signal });
  assert.equal(await lives.of({}), lives.whole);
  const web = await ask(lives, clock, { "to-pod": ["shop/web"] });
  assert.equal(await ask(lives, clock, { "to-pod": ["shop/web"] }), web);
  assert.equal(followers.length, 1);
  assert.deepEqual(followers[0].request.whitelist, [{ destination_pod: ["shop/web"] }]);
  assert.equal(web.maps.completeness.text, "1 flow matches");
  const reader = web.maps.stream("workload").getReader();
  await reader.read();
  await clock.advance(120_000);
  assert.ok(!followers[0].signal.aborted, "somebody reads it");
  await reader.cancel();
  await clock.advance(120_000);
  assert.ok(followers[0].signal.aborted);
  assert.equal(lives.size, 0);
  stop.abort();
  await clock.advance(10_000);
});

Deno.test("LivePictures keeps a bounded number of filters, the idle one gives way, and refuses wrong ones", async () => {
  const clock = new FakeClock(0), stop = new AbortController(), { source, followers } = oneFlow();
  const lives = new LivePictures({ source, names, clock, signal: stop.signal });
  await assert.rejects(lives.of({ verdict: ["nonsense"] }), { code: "QUERY_INVALID" });
  const readers = [];
  for (let port = 1; port <= FILTERS_MAX; port++) {
    const { maps } = await ask(lives, clock, { port: [`${port}`] });
    if (port > 1) readers.push(maps.stream("workload"));
  }
  await ask(lives, clock, { port: ["99"] });
  assert.ok(followers[0].signal.aborted, "nobody read the first one");
  readers.push((await ask(lives, clock, { port: ["99"] })).maps.stream("namespace"));
  await assert.rejects(lives.of({ port: ["100"] }), { code: "TOO_MANY_FILTERS" });
  assert.equal(lives.size, FILTERS_MAX);
  for (const reader of readers) await reader.cancel();
  stop.abort();
  await clock.advance(10_000);
});
