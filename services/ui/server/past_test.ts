import assert from "node:assert/strict";
import { systemClock } from "@weir/common";
import { Past, windowOf } from "./past.ts";

Deno.test("windowOf() reads Unix seconds and RFC 3339, takes now for a missing end, and refuses all else", () => {
  const read = (text: string) => windowOf(new URLSearchParams(text), 2e9);
  assert.equal(read("until=5"), undefined);
  assert.deepEqual(read("since=10.5&until=20"), { sinceS: 10.5, untilS: 20 });
  assert.deepEqual(read("since=1970-01-01T00:01:00Z"), { sinceS: 60, untilS: 2e9 });
  for (
    const bad of [
      "since=",
      "since=5m",
      "since=20&until=10",
      "since=10&until=10",
      "since=-1&until=3",
      "since=99999999999999",
    ]
  ) {
    assert.throws(() => read(bad), { code: "QUERY_INVALID" }, bad);
  }
});

Deno.test("Past says why there is none, and refuses windows of it", async () => {
  const names = { nodeAt: () => undefined, nodeOf: () => undefined };
  const none = new Past({ address: undefined, names, clock: systemClock, cluster: "default" });
  assert.deepEqual(await none.state(), {
    history: false,
    reason: "there is no flow history on this machine",
    sinceUnixS: 0,
  });
  await assert.rejects(none.window({ sinceS: 1, untilS: 2 }), { code: "HISTORY_MISSING" });
  const away = new Past({
    address: "unix:/nonexistent/history.sock",
    names,
    clock: systemClock,
    cluster: "default",
  });
  const { history, reason } = await away.state();
  assert.ok(!history && reason.includes("/nonexistent/history.sock"), reason);
  await assert.rejects(away.rows(new URLSearchParams("last=5"), { sinceS: 1, untilS: 2 }, 10), {
    code: "UNREACHABLE",
  });
  away.close();
});
