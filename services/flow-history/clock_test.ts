import { deepEqual, equal, match, ok } from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { Counts } from "./counts.ts";
import { FollowedNodes, REPEATED_MS } from "./followed_nodes.ts";
import { AHEAD_MS_MAX } from "./intake.ts";
import { flowBytes } from "./testing/flows.ts";
import { testHistory, withFile } from "./testing/history.ts";

const START_MS = 1_790_000_000_000, HOUR_MS = 3_600_000;

Deno.test("FlowHistory hides nothing behind a clock that was put back by an hour, before and after a new start", async () => {
  await withFile(async (path) => {
    const clock = new FakeClock(START_MS), one = testHistory(clock, path), { history } = one;
    await history.load();
    const take = (word: string, count: number) =>
      history.intake.take(
        Array.from({ length: count }, (_, n) =>
          flowBytes({ unixMs: clock.nowMs() - n, uuid: `${word}${n}`, sourcePort: 1 + n })),
      );
    take("before", 300);
    await history.flush();
    clock.jump(-HOUR_MS);
    take("after", 200);
    await history.flush();
    await clock.advance(30_000);
    take("later", 100);
    await history.flush();
    await history.retention.turn(new AbortController().signal);
    const check = async (other: typeof one) => {
      for (const order of ["first=70", "last=70"]) {
        const flows = await other.pages(`/v1/flows?${order}`, "flows");
        equal(new Set(flows.map(({ uuid }) => uuid)).size, 600, order);
        equal(flows.length, 600, order);
      }
      const { rollups, completeness } = await other.get("/v1/rollups?since=2h");
      deepEqual(rollups.map(({ flows }: { flows: string }) => flows), ["600"]);
      equal(completeness.text, "600 flows, 100 %");
      const connections = await other.pages("/v1/connections?limit=50", "connections");
      equal(new Set(connections.map(({ id }) => id)).size, connections.length);
      equal(connections.length, 300);
    };
    await check(one);
    // After a break all of the last minute comes again.
    history.intake.nodes.broke();
    history.intake.nodes.asked(clock.monotonicMs());
    take("later", 100);
    take("new", 0);
    await check(one);
    await history.stop();
    await history.flush({ isLast: true });
    await one.close();

    const again = testHistory(clock, path);
    await again.history.load();
    await check(again);
    await again.close();
  });
});

Deno.test("FollowedNodes takes the flows of a clock that was put back during a break, and tells what may be missing", () => {
  const counts = new Counts(), nodes = new FollowedNodes(counts);
  let id = 0;
  const came = (unixMs: number, arrivedMs: number, uuid = `u${id++}`) =>
    nodes.came("n", { unixMs, arrivedMs, uuid });
  equal(came(START_MS, 0, "first"), "new");
  nodes.broke();
  nodes.asked(1000);
  equal(came(START_MS, 1000, "first"), "known");
  const backMs = START_MS - HOUR_MS;
  equal(came(backMs, 2000), "known", "as if its id were forgotten");
  equal(came(backMs + REPEATED_MS, 1000 + REPEATED_MS), "new");
  equal(came(backMs + REPEATED_MS + 5, 1005 + REPEATED_MS), "new");
  deepEqual(counts.take().gaps, [{ node: "n", sinceMs: backMs, untilMs: backMs + REPEATED_MS }]);
  // Put back while it is followed: from then on its time is that.
  nodes.broke();
  nodes.asked(200_000);
  equal(came(backMs + 120_000, 200_000), "new");
});

Deno.test("FlowHistory writes the sums of few minutes where flows of two minutes alternate behind minutes that were put back", async () => {
  const clock = new FakeClock(START_MS - START_MS % 60_000), one = testHistory(clock), { history } = one;
  await history.load();
  for (let n = 0; n < 4; n++) {
    history.intake.take([flowBytes({ unixMs: clock.nowMs() })]);
    await clock.advance(60_000);
  }
  clock.jump(-HOUR_MS);
  for (let n = 0; n < 200; n++) {
    history.intake.take([flowBytes({ unixMs: clock.nowMs() + (n % 2 === 0 ? 0 : -30_000) })]);
  }
  ok(history.rollupTail().length <= 8, `${history.rollupTail().length} parts`);
  await history.flush();
  deepEqual((await one.get("/v1/rollups?since=3h")).rollups[0].flows, "204");
  await one.close();
});

Deno.test("FlowHistory takes the time of a node whose clock is a minute ahead, clamps what is beyond, and names it", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock), { history } = one;
  await history.load();
  history.intake.take([
    flowBytes({ unixMs: START_MS + AHEAD_MS_MAX, uuid: "near", node: "a" }),
    flowBytes({ unixMs: START_MS + AHEAD_MS_MAX + 1000, uuid: "far", node: "b" }),
    flowBytes({ unixMs: START_MS - 1, uuid: "right", node: "c" }),
  ]);
  await history.flush({ isLast: true });
  const uuids = async (query: string) =>
    (await one.get(`/v1/flows?${query}`)).flows.map(({ uuid }: { uuid: string }) => uuid);
  deepEqual(await uuids("last=5"), ["near", "far", "right"], "that of b stands where it came");
  const until = new Date(START_MS + 1).toISOString();
  deepEqual(await uuids(`last=5&until=${until}`), ["far", "right"]);
  const status = await one.get("/v1/status");
  deepEqual([status.skewedFlows, status.skewedNodes], ["1", ["b"]]);
  match((await one.get("/v1/completeness")).total.text, /^3 flows, 100 %$/);
  await one.close();
});

Deno.test("GET /v1/connections gives each connection that goes on once, over many pages", async () => {
  const clock = new FakeClock(START_MS), one = testHistory(clock), { history } = one;
  await history.load();
  for (let second = 0; second < 90; second++) {
    history.intake.take(
      Array.from(
        { length: 40 },
        (_, n) => flowBytes({ unixMs: clock.nowMs(), sourcePort: 1 + second * 40 + n }),
      ),
    );
    await clock.advance(500);
  }
  const found = await one.pages("/v1/connections?limit=100", "connections");
  equal(found.length, 3600);
  equal(new Set(found.map(({ id }) => id)).size, 3600);
  await one.close();
});
