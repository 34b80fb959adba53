import assert from "node:assert/strict";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { ApiServerError } from "../api/mod.ts";
import { LEASE_TIMES, Term } from "./term.ts";
import { TokenBucket } from "./token_bucket.ts";
import { type Pace, type Write, WriteQueue } from "./write_queue.ts";

const PACE: Pace = { ratePerS: 10, burst: 2, parallelMax: 2, delayMs: 500 };

/** A queue whose requests a test answers. */
function makeQueue(run: (key: string) => Promise<unknown>, pace = PACE, needless = new Set<string>()) {
  const clock = new FakeClock(), term = new Term(clock, LEASE_TIMES);
  const sent: { key: string; atMs: number }[] = [];
  const startMs = clock.monotonicMs();
  const plan = (key: string): Write | undefined =>
    needless.has(key) ? undefined : {
      verb: "patch",
      run: () => {
        sent.push({ key, atMs: clock.monotonicMs() - startMs });
        return run(key);
      },
    };
  const queue = new WriteQueue({ name: "things", pace, term, plan, clock, random: () => 0 });
  const running = queue.run();
  /** Time passes, and the term is renewed. */
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      term.renewed(Term.now(clock));
      await clock.advance(50);
      await new Promise((resolve) => setTimeout(resolve));
    }
  };
  return {
    queue,
    clock,
    term,
    sent,
    pass,
    keys: () => sent.map(({ key }) => key),
    async [Symbol.asyncDispose]() {
      term.end();
      await running;
    },
  };
}
const refused = (code: string, retryAfterMs = 0) =>
  new ApiServerError(code, { status: 500, detail: code, retryAfterMs });

Deno.test("WriteQueue writes a key once however often it is added, after its delay", async () => {
  await using one = makeQueue(() => Promise.resolve());
  for (let i = 0; i < 10; i++) {
    one.queue.add("a");
    await one.pass(50);
  }
  await one.pass(1000);
  assert.deepEqual(one.sent, [{ key: "a", atMs: 500 }]);
  assert.equal(one.queue.size, 0);
});

Deno.test("WriteQueue makes no more requests than its rate, and none for what is right", async () => {
  const needless = new Set(["k1", "k3", "k5"]);
  await using one = makeQueue(() => Promise.resolve(), { ...PACE, delayMs: 0 }, needless);
  for (let i = 0; i < 40; i++) one.queue.add(`k${i}`);
  await one.pass(1000);
  assert.ok(one.sent.length >= 11 && one.sent.length <= 13, `${one.sent.length} in the first second`);
  await one.pass(3000);
  assert.equal(one.sent.length, 37);
});

Deno.test("WriteQueue holds up everything when the API server asks for it, or is away", async () => {
  const errors = [refused("TOO_MANY_REQUESTS", 5000), refused("API_SERVER_UNREACHABLE")];
  await using one = makeQueue((key) => {
    const error = key === "a" ? errors.shift() : undefined;
    return error === undefined ? Promise.resolve() : Promise.reject(error);
  }, { ...PACE, delayMs: 0 });
  one.queue.add("a");
  await one.pass(100);
  one.queue.add("b");
  await one.pass(4000);
  assert.deepEqual(one.keys(), ["a"], "Retry-After is five seconds");
  await one.pass(1100);
  assert.deepEqual(one.keys().sort(), ["a", "a", "b"]);
  one.queue.add("c");
  await one.pass(300);
  assert.equal(one.keys().includes("c"), false, "it is away: c waits too");
  await one.pass(3000);
  assert.deepEqual(one.keys().sort(), ["a", "a", "a", "b", "c"]);
  assert.equal(one.queue.faults.size, 0);
});

Deno.test("WriteQueue tries what is refused again more and more slowly, whatever is added, and others go on", async () => {
  await using one = makeQueue(
    (key) => key === "bad" ? Promise.reject(refused("CONFLICT")) : Promise.resolve(),
    { ...PACE, delayMs: 0 },
  );
  for (let i = 0; i < 200; i++) {
    one.queue.add("bad");
    if (i % 20 === 0) one.queue.add(`good-${i}`);
    await one.pass(50);
  }
  const bad = one.keys().filter((key) => key === "bad").length;
  assert.ok(bad >= 4 && bad <= 6, `${bad} attempts in ten seconds`);
  assert.equal(one.keys().length - bad, 10);
  const fault = one.queue.faults.get("bad")!;
  assert.deepEqual([fault.error.message, fault.attempts], ["CONFLICT", bad]);
});

Deno.test("WriteQueue sends nothing while the term is in doubt, and nothing after it", async () => {
  let answer = () => {};
  await using one = makeQueue(() => new Promise<void>((resolve) => answer = resolve), {
    ...PACE,
    delayMs: 0,
  });
  one.queue.add("a");
  await one.pass(50);
  assert.deepEqual(one.keys(), ["a"]);
  one.queue.add("b");
  // The process stood still: the first thing that runs is an answer.
  one.clock.jump(11_000);
  answer();
  await one.clock.advance(1000);
  assert.deepEqual(one.keys(), ["a"]);
  await one.pass(200);
  assert.deepEqual(one.keys(), ["a", "b"], "the lease was renewed");
  one.queue.add("c");
  one.term.end();
  answer();
  await one.clock.advance(5000);
  assert.deepEqual(one.keys(), ["a", "b"]);
});

Deno.test("TokenBucket gives so many each second, and keeps so many", () => {
  const bucket = new TokenBucket(10, 3, 0);
  assert.deepEqual([1, 2, 3, 4].map(() => bucket.take(0)), [0, 0, 0, 100]);
  assert.ok(bucket.take(50) > 40);
  assert.equal(bucket.take(101), 0);
  assert.deepEqual([1, 2, 3, 4].map(() => bucket.take(60_000)), [0, 0, 0, 100]);
  assert.equal(bucket.take(0), 100, "a clock that goes back gives nothing");
});
