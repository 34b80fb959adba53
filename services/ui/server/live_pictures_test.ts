import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Flow } from "@weir/proto/flow";
import type { FilterParameters } from "./history_reader.ts";
import { FILTERS_MAX, type LivePicture, type LivePictureParts, LivePictures } from "./live_pictures.ts";
import type { FlowSource, Follow } from "./flow_source.ts";
import type { FlowPicture } from "./flow_picture.ts";

const names = { nodeAt: () => undefined, nodeOf: () => undefined };
const end = (name: string) => ({
  pod_name: name,
  namespace: "shop",
  identity: 300,
  labels: [`k8s:app=${name}`],
});
const flowAt = (atS: number) =>
  Flow.create({
    time: { seconds: atS, nanos: 0 },
    source: end("cart"),
    destination: end("web"),
    verdict: "FORWARDED",
    l4: { TCP: { source_port: 30_000 + atS, destination_port: 80 } },
  });

type Follower = Follow & { readonly picture: FlowPicture };

/** A source that has the flows of a memory, and remembers who follows it. */
function sourceOf(memory: readonly Flow[]) {
  const followers: Follower[] = [];
  const source = {
    sources: (lost: number) => ({ error: "", connected: [], away: [], lost }),
    follow(picture: FlowPicture, follow: Follow) {
      followers.push({ ...follow, picture });
      for (const flow of memory) picture.add(flow, flow.time!.seconds);
      if (memory.length > 0) follow.onState("");
      return Promise.resolve();
    },
  };
  return { source: source as unknown as FlowSource, followers };
}

/** Pictures of such a source. */
function picturesOf(memory: readonly Flow[], more: Partial<LivePictureParts> = {}) {
  const clock = new FakeClock(0), stop = new AbortController(), { source, followers } = sourceOf(memory);
  const lives = new LivePictures({ source, names, clock, signal: stop.signal, ...more });
  return {
    clock,
    lives,
    /** Those that still follow; of all flows, or of filters. */
    following: (isWhole: boolean) =>
      followers.filter(({ request, signal }) => (request === undefined) === isWhole && !signal.aborted),
    async stop() {
      stop.abort();
      await clock.advance(10_000);
      await lives.ended();
    },
  };
}

/** Asks, and lets the time pass that a new picture is waited for. */
async function ask(lives: LivePictures, clock: FakeClock, filter: FilterParameters): Promise<LivePicture> {
  const asked = lives.of(filter);
  // It is followed a turn later.
  await clock.advance(1);
  await clock.advance(300);
  return await asked;
}

Deno.test("LivePictures shares one picture among all who filter the same, and lets those go that nobody looks at", async () => {
  const { lives, clock, following, stop } = picturesOf([flowAt(1)]);
  const web = await ask(lives, clock, { "to-pod": ["shop/web"] });
  assert.equal(await ask(lives, clock, { "to-pod": ["shop/web"] }), web);
  assert.equal(following(false).length, 1);
  assert.deepEqual(following(false)[0].request!.whitelist, [{ destination_pod: ["shop/web"] }]);
  assert.equal(web.maps.completeness.text, "1 flow matches");
  const reader = web.maps.stream("workload").getReader();
  await reader.read();
  await clock.advance(900_000);
  assert.equal(following(false).length, 1, "somebody reads it");
  assert.equal(following(true).length, 1, "and is told of the nodes");
  await reader.cancel();
  await clock.advance(120_000);
  assert.equal(following(false).length, 0);
  assert.equal(lives.size, 0);
  await stop();
});

Deno.test("LivePictures keeps a bounded number of filters, the idle one gives way, and refuses wrong ones", async () => {
  const { lives, clock, following, stop } = picturesOf([flowAt(1)]);
  await assert.rejects(lives.of({ verdict: ["nonsense"] }), { code: "QUERY_INVALID" });
  const readers = [];
  for (let port = 1; port <= FILTERS_MAX; port++) {
    const { maps } = await ask(lives, clock, { port: [`${port}`] });
    if (port > 1) readers.push(maps.stream("workload"));
  }
  const first = following(false)[0];
  await ask(lives, clock, { port: ["99"] });
  assert.ok(first.signal.aborted, "nobody read the first one");
  readers.push((await ask(lives, clock, { port: ["99"] })).maps.stream("namespace"));
  await assert.rejects(lives.of({ port: ["100"] }), { code: "TOO_MANY_FILTERS" });
  assert.equal(lives.size, FILTERS_MAX);
  for (const reader of readers) await reader.cancel();
  await stop();
});

Deno.test("LivePictures follows nothing before the first question, nor some minutes after the last, and rests", async () => {
  let rests = 0;
  const { lives, clock, following, stop } = picturesOf([flowAt(1)], { onRest: () => rests++ });
  await clock.advance(3_600_000);
  assert.equal(following(true).length, 0);
  assert.equal(clock.sleepers, 0, "no timer wakes who is not looked at");
  const one = await ask(lives, clock, {});
  assert.equal(await lives.whole(), one, "all who look share it");
  assert.equal(following(true).length, 1);
  await clock.advance(200_000);
  lives.look();
  await clock.advance(200_000);
  assert.equal(following(true).length, 1, "a question keeps it");
  const [a, b] = [1, 2].map(() => one.maps.stream("workload").getReader());
  await a.cancel();
  await clock.advance(900_000);
  assert.equal(following(true).length, 1, "the other one still reads");
  await b.cancel();
  await clock.advance(250_000);
  assert.deepEqual([following(true).length, rests], [1, 0]);
  await clock.advance(100_000);
  assert.deepEqual([following(true).length, rests, lives.isFollowing], [0, 1, false]);
  assert.equal(clock.sleepers, 0);
  await stop();
});

Deno.test("LivePictures.during() counts a stream of rows as somebody who looks, until it ends, fails or is given up", async () => {
  const { lives, clock, following, stop } = picturesOf([flowAt(1)]);
  const ends: [string, (controller: ReadableStreamDefaultController<Uint8Array>) => void][] = [
    ["ends", (controller) => controller.close()],
    ["fails", (controller) => controller.error(new Error("away"))],
    ["is given up", () => {}],
  ];
  for (const [how, finish] of ends) {
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    lives.look();
    const reader = lives.during(new ReadableStream({ start: (one) => void (controller = one) })).getReader();
    await clock.advance(900_000);
    assert.equal(following(true).length, 1, how);
    const read = reader.read().catch(() => {});
    finish(controller);
    if (how === "is given up") await reader.cancel();
    await read;
    await clock.advance(400_000);
    assert.equal(following(true).length, 0, how);
  }
  await stop();
});

Deno.test("LivePictures that come back show what one that went on shows: the same rates, and since when they count", async () => {
  const memory = Array.from({ length: 60 }, (_, i) => flowAt(940 + i));
  const { lives, clock, stop } = picturesOf(memory);
  await clock.advance(1_000_000);
  const went = picturesOf(memory.slice(0, 10));
  await went.clock.advance(949_000);
  const on = await ask(went.lives, went.clock, {});
  for (const flow of memory.slice(10)) on.picture.add(flow, flow.time!.seconds);
  const back = await ask(lives, clock, {});
  const rateOf = ({ picture }: LivePicture) =>
    [...picture.table.pairs.values()].map(({ rate }) => rate.at(1000));
  assert.equal(rateOf(back).length, 1);
  assert.deepEqual(rateOf(back), rateOf(on));
  assert.equal(back.maps.sinceS, 940);
  assert.equal(back.maps.completeness.seen, 60);
  await stop();
  await went.stop();
});

Deno.test("LivePictures answers though the source hangs while it begins, and though names never come", async () => {
  for (const named of [undefined, new Promise<void>((resolve) => setTimeout(resolve))]) {
    const { lives, clock, following, stop } = picturesOf([], { named });
    let answered = 0;
    const asked = [lives.whole(), lives.whole(), lives.of({ port: ["80"] })];
    for (const one of asked) one.then(() => answered++);
    await named;
    await clock.advance(1000);
    assert.equal(answered, 0, "what the nodes have in memory is waited for");
    await clock.advance(600);
    assert.equal(answered, asked.length);
    const { maps } = await lives.whole(), reader = maps.stream("workload").getReader();
    assert.match(new TextDecoder().decode((await reader.read()).value), /^{"type":"sources"/);
    // It comes to itself: the picture that is shown has it.
    following(true)[0].picture.add(flowAt(1), 1);
    await clock.advance(1000);
    assert.match(new TextDecoder().decode((await reader.read()).value), /shop/);
    await reader.cancel();
    await stop();
  }
});
