import assert from "node:assert/strict";
import { Prefix } from "@weir/common";
import { PrefixOrder } from "./prefix_order.ts";

/** An order with a log of what it asks for, and policies that know these identities. */
function bench(...known: number[]) {
  const log: string[] = [], knows = new Set(known);
  const order: PrefixOrder = new PrefixOrder({
    isKnown: (identity) => knows.has(identity),
    isSynced: () => true,
    onIpcache: (prefix, identity) =>
      log.push(identity === undefined ? `-${prefix}` : `${prefix}=${identity}`),
    onCover: () => log.push("cover"),
    onThere: () => log.push("there"),
  });
  const put = (prefix: string, identity: number) => order.change(prefix, { prefix, identity, labels: [] });
  const take = () => log.splice(0);
  return { order, knows, put, take };
}
const A = "10.0.0.0/8", B = "10.1.0.0/16";

Deno.test("PrefixOrder: a prefix comes once every policy covers it, and policies may mean it once the kernel has it", () => {
  const { order, put, take } = bench();
  put(A, 1);
  assert.deepEqual(take(), ["cover"]);
  order.told(new Set());
  assert.deepEqual(take(), [], "nobody covers it yet");
  order.covered(order.cover.version - 1);
  assert.deepEqual(take(), [], "what was covered was older");
  order.covered(order.cover.version);
  assert.deepEqual(take(), [`${A}=1`]);
  assert.equal(order.has(1), false);
  assert.equal(order.isWaiting, true);
  order.told(undefined);
  assert.equal(order.has(1), false, "the kernel had no room for some");
  order.told(new Set([A]));
  assert.equal(order.has(1), false, "this one");
  order.told(new Set());
  assert.deepEqual([order.has(1), order.isWaiting, take()], [true, false, ["there"]]);
});

Deno.test("PrefixOrder: a prefix that a policy has no room for waits, and no other one", () => {
  const { order, put, take } = bench();
  put(A, 1);
  put(B, 2);
  take();
  order.covered(order.cover.version, ({ identity }) => identity === 1);
  assert.deepEqual(take(), [`${B}=2`]);
  order.told(new Set());
  assert.deepEqual([order.has(1), order.has(2), order.isComing], [false, true, true]);
  take();
  order.covered(order.cover.version);
  assert.deepEqual(take(), [`${A}=1`]);
});

Deno.test("PrefixOrder: a prefix that the kernel has no room for is not there, whenever that comes, and others are", () => {
  const { order, put, take } = bench();
  put(A, 1);
  put(B, 2);
  order.covered(order.cover.version);
  take();
  order.told(new Set([A]));
  assert.deepEqual([order.has(1), order.has(2), order.isWaiting, take()], [false, true, true, ["there"]]);
  // A number that changes its prefix: the new one has no room, and nothing else waits.
  order.change(B, undefined);
  put("10.2.0.0/16", 2);
  order.told(new Set([A]));
  order.covered(order.cover.version);
  order.told(new Set([A, "10.2.0.0/16"]));
  assert.deepEqual([order.has(1), order.has(2)], [false, false]);
  order.told(new Set(["10.2.0.0/16"]));
  assert.deepEqual([order.has(1), order.has(2)], [true, false]);
  order.told(new Set([A]));
  assert.deepEqual([order.has(1), order.has(2)], [false, true], "what had room may lose it");
  order.told(new Set());
  assert.deepEqual([order.has(1), order.isWaiting], [true, false]);
});

Deno.test("PrefixOrder: a prefix goes once no policy knows it, and is covered until the kernel has let it go", () => {
  const { order, knows, put, take } = bench(1);
  put(A, 1);
  order.covered(order.cover.version);
  order.told(new Set());
  take();
  order.change(A, undefined);
  order.told(new Set());
  assert.deepEqual(take(), ["cover"], "a policy in force knows it");
  knows.delete(1);
  order.look();
  assert.deepEqual(take(), [`-${A}`]);
  assert.equal([...order.cover].length, 1);
  order.told(new Set());
  assert.deepEqual([take(), [...order.cover].length], [["cover"], 0]);
});

Deno.test("PrefixOrder: a prefix with another identity keeps the old one covered as long as a policy knows it", () => {
  const { order, knows, put, take } = bench(1);
  put(A, 1);
  order.covered(order.cover.version);
  order.told(new Set());
  put(A, 2);
  take();
  order.covered(order.cover.version);
  assert.deepEqual(take(), [`${A}=2`], "it is replaced, never taken out");
  order.told(new Set());
  assert.deepEqual([order.has(1), order.has(2)], [false, true]);
  assert.deepEqual(order.cover.of(Prefix.parse(A)).map(({ identity }) => identity), [1, 2]);
  knows.delete(1);
  order.look();
  assert.deepEqual(order.cover.of(Prefix.parse(A)).map(({ identity }) => identity), [2]);
});

Deno.test("PrefixOrder: an identity that is another prefix's now leaves the old one first, whoever knows it", () => {
  const { order, put, take } = bench(1);
  put(A, 1);
  order.covered(order.cover.version);
  order.told(new Set());
  order.change(A, undefined);
  take();
  put(B, 1);
  order.covered(order.cover.version);
  assert.deepEqual(take(), [`-${A}`, "cover"]);
  assert.equal(order.has(1), false);
  order.told(new Set());
  assert.deepEqual(take(), ["cover"]);
  order.covered(order.cover.version);
  order.told(new Set());
  assert.deepEqual([take(), order.has(1)], [[`${B}=1`, "there"], true]);
});

Deno.test("PrefixOrder: one that comes back while it goes comes anew; one that is gone before it came leaves nothing", () => {
  const { order, put, take } = bench();
  put(A, 1);
  order.covered(order.cover.version);
  order.told(new Set());
  order.change(A, undefined);
  order.look();
  put(A, 1);
  assert.equal(order.has(1), false);
  take();
  order.covered(order.cover.version);
  order.told(new Set());
  assert.deepEqual([take(), order.has(1)], [[`${A}=1`, "there"], true]);
  put(B, 2);
  order.change(B, undefined);
  order.covered(order.cover.version);
  order.look();
  assert.deepEqual([...order.cover].map(({ identity }) => identity), [1]);
});

Deno.test("PrefixOrder: what an earlier process left is there, and stays until it is neither wanted nor known", () => {
  const { order, knows, put, take } = bench(1, 2);
  order.adopt([{ prefix: A, identity: 1 }, { prefix: B, identity: 2 }]);
  assert.deepEqual([take(), order.has(1), order.has(2)], [[`${A}=1`, `${B}=2`], true, true]);
  put(A, 1);
  knows.clear();
  order.look();
  assert.deepEqual(take(), ["cover", `-${B}`]);
  order.told(new Set());
  assert.deepEqual([order.has(1), order.has(2)], [true, false]);
});
