import assert from "node:assert/strict";
import { seededRandom } from "../../tests/seeded_random.ts";
import { FlowMerge, HOLD_MS, type NodeQueue } from "./flow_merge.ts";

const text = new TextDecoder();
const item = (name: string, unixMs: number, arrivedMs = 0) => ({
  bytes: new TextEncoder().encode(name),
  unixMs,
  arrivedMs,
});
const names = (batch: Uint8Array[]) => batch.map((one) => text.decode(one)).join(" ");

Deno.test("takeOldest() waits for a node that has not ended, and for no other", () => {
  const merge = new FlowMerge(), a = merge.open(), b = merge.open();
  a.push(item("a1", 1));
  a.push(item("a3", 3));
  assert.equal(names(merge.takeOldest()), "", "b may have an older one");
  b.push(item("b2", 2));
  assert.equal(names(merge.takeOldest()), "a1 b2", "b may have one before a3");
  merge.close(b);
  assert.equal(names(merge.takeOldest()), "a3");
  assert.equal(merge.isEmpty, false);
  merge.close(a);
  assert.equal(merge.isEmpty, true);
});

Deno.test("takeOldest() merges many nodes as a sort would, however they answer", () => {
  const random = seededRandom(7);
  for (let round = 0; round < 20; round++) {
    const merge = new FlowMerge(), all: number[] = [], out: number[] = [];
    const nodes = Array.from({ length: 1 + Math.floor(random() * 9) }, () => {
      const times = Array.from({ length: Math.floor(random() * 900) }, () => Math.floor(random() * 1e6));
      all.push(...times);
      return { queue: merge.open(), times: times.sort((a, b) => a - b) };
    });
    while (!merge.isEmpty) {
      for (const { queue, times } of nodes) {
        if (queue.isOver || random() < 0.5) continue;
        for (const time of times.splice(0, Math.floor(random() * 300))) queue.push(item(`${time}`, time));
        if (times.length === 0) merge.close(queue);
      }
      for (let batch = merge.takeOldest(); batch.length > 0; batch = merge.takeOldest()) {
        out.push(...batch.map((one) => Number(text.decode(one))));
      }
    }
    assert.deepEqual(out, all.sort((a, b) => a - b));
  }
});

Deno.test("takeDue() holds what is new, and puts what comes later before what is newer", () => {
  const merge = new FlowMerge(), a = merge.open(), b = merge.open();
  a.push(item("a5", 5, 0));
  assert.equal(names(merge.takeDue(HOLD_MS - 1, 1000)), "");
  b.push(item("b4", 4, 400));
  b.push(item("b6", 6, 400));
  assert.equal(names(merge.takeDue(HOLD_MS, 1000)), "b4 a5", "b6 is newer, and may have others before it");
  assert.equal(names(merge.takeDue(400 + HOLD_MS, 1000)), "b6");
});

Deno.test("takeDue() is held up by no node: not by silence, not by old flows without end, not by a clock that is ahead", () => {
  const merge = new FlowMerge(), silent = merge.open(), late = merge.open(), ahead = merge.open();
  const good = merge.open();
  let out = "";
  for (let now = 0; now < 3000; now += 100) {
    late.push(item(`l${now}`, now - 1e6, now));
    ahead.push(item(`h${now}`, now + 3.6e6, now));
    good.push(item(`g${now}`, now, now));
    out += ` ${names(merge.takeDue(now, now))}`;
    const newest = /.* g(\d+)/.exec(out)?.[1];
    if (now >= HOLD_MS) assert.ok(Number(newest) >= now - HOLD_MS, `at ${now} the newest is ${newest}`);
  }
  assert.equal(silent.length, 0);
  const order = [...out.matchAll(/g(\d+)/g)].map(([, time]) => Number(time));
  assert.deepEqual(order, order.toSorted((a, b) => a - b));
  const hurried = [...out.matchAll(/h(\d+)/g)].length;
  assert.ok(hurried >= 20, "what a clock is ahead by holds up nothing either");
});

Deno.test("a node that sends without end has its share of memory and no more", () => {
  const merge = new FlowMerge(), flood = merge.open(), other = merge.open();
  other.push(item("o", 5, 0));
  const fill = (queue: NodeQueue, bytes: Uint8Array) => {
    let count = 0;
    while (!merge.isFull(queue)) queue.push({ bytes, unixMs: count++, arrivedMs: 0 });
    return count;
  };
  assert.equal(fill(flood, new Uint8Array(10)), 8192);
  const batch = merge.takeDue(0, 1e6);
  assert.ok(batch.length > 4096, "a full node gives its older half at once");
  assert.equal(other.length, 1, "the others' order stays: what may come before it has its time to come");
  assert.ok(names(merge.takeDue(HOLD_MS, 1e6)).includes("o"));
  assert.equal(merge.isFull(flood), false);
  assert.ok(fill(flood, new Uint8Array(1 << 20)) <= 8, "by bytes too");
  assert.equal(merge.isFull(other), false);
});
