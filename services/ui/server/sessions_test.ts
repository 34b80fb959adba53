import assert from "node:assert/strict";
import { Sessions, Tickets } from "./sessions.ts";

const KEY = new Uint8Array(32).fill(7);

Deno.test("Sessions hold for a day, with the same key only, and with no seal that we did not make", () => {
  let nowS = 1_000_000;
  const sessions = new Sessions({ key: KEY, nowS: () => nowS });
  const value = sessions.begin(), [until, seal] = value.split(".");
  assert.ok(sessions.holds(value));
  assert.ok(new Sessions({ key: KEY, nowS: () => nowS }).holds(value), "the next process has the same key");
  const other = new Sessions({ key: new Uint8Array(32), nowS: () => nowS });
  assert.equal(other.holds(value), false);
  assert.notEqual(other.cookie, sessions.cookie, "two pages of one host do not share a cookie");
  for (
    const wrong of [
      "",
      ".",
      "x",
      until,
      `${Number(until) + 1}.${seal}`,
      `${until}.${"A".repeat(43)}`,
      `${value}=`,
      ` ${value}`,
    ]
  ) {
    assert.equal(sessions.holds(wrong), false, wrong);
  }
  nowS += 86_399;
  assert.ok(sessions.holds(value));
  nowS += 2;
  assert.equal(sessions.holds(value), false);
  nowS -= 10 * 86_400;
  assert.equal(sessions.holds(value), false, "the clock was ahead when it was given");
});

Deno.test("Tickets are good once and for ten minutes, and are bounded", () => {
  let nowS = 0;
  const tickets = new Tickets(() => nowS);
  const { token, expiresS } = tickets.give();
  assert.equal(expiresS, 600);
  assert.equal(tickets.take("other"), false);
  assert.ok(tickets.take(token));
  assert.equal(tickets.take(token), false);
  const late = tickets.give();
  nowS = 600;
  assert.equal(tickets.take(late.token), false);
  const first = tickets.give(), more = Array.from({ length: 64 }, () => tickets.give());
  assert.equal(tickets.take(first.token), false);
  assert.ok(more.every((one) => tickets.take(one.token)));
});
