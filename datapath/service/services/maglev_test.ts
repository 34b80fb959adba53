import assert from "node:assert/strict";
import { type MaglevBackend, maglevTable } from "./maglev.ts";
import { TABLE_SIZES } from "./image.ts";

function backends(count: number, weight: (i: number) => number = () => 1): MaglevBackend[] {
  return Array.from(
    { length: count },
    (_, i) => ({ text: `10.0.${i >> 8}.${i & 255}:8080`, weight: weight(i) }),
  );
}

function shares(table: Uint32Array, count: number): number[] {
  const held = new Array(count).fill(0);
  for (const i of table) held[i]++;
  return held;
}

/** Places that change when one backend goes, in units of 1/N of the table. */
function disruption(all: readonly MaglevBackend[], gone: number, size: number, seed = 1): number {
  const rest = all.filter((_, i) => i !== gone);
  const before = maglevTable(all, { size, seed }), after = maglevTable(rest, { size, seed });
  let moved = 0;
  for (let place = 0; place < size; place++) if (all[before[place]] !== rest[after[place]]) moved++;
  return moved / size * all.length;
}

Deno.test("maglevTable() gives every backend its share within 2 % or one entry, in every size", () => {
  for (const size of TABLE_SIZES) {
    for (const count of [1, 2, 3, 7, 10, 100, 250, 1000, 5000]) {
      if (count > size) continue;
      const even = size / count;
      const held = shares(maglevTable(backends(count), { size, seed: count }), count);
      const slack = Math.max(1, even * 0.02);
      assert.ok(
        Math.min(...held) > even - slack - 1e-9,
        `${size} for ${count}: ${Math.min(...held)} of ${even}`,
      );
      assert.ok(
        Math.max(...held) < even + slack + 1e-9,
        `${size} for ${count}: ${Math.max(...held)} of ${even}`,
      );
    }
  }
});

Deno.test("maglevTable() moves 1.1/N of the places at most when one of N goes", () => {
  for (const [size, count] of [[16381, 10], [16381, 20], [16381, 30], [65521, 50], [131071, 100]]) {
    const all = backends(count), moved: number[] = [];
    for (let gone = 0; gone < count; gone += Math.ceil(count / 10)) moved.push(disruption(all, gone, size));
    const mean = moved.reduce((sum, each) => sum + each) / moved.length;
    console.log(
      `${size} places, ${count} backends: ${mean.toFixed(3)}/N moved, worst ${
        Math.max(...moved).toFixed(3)
      }/N`,
    );
    assert.ok(mean <= 1.1 && Math.max(...moved) <= 1.15, `${size} places, ${count} backends: ${moved}`);
  }
  const few = disruption(backends(100), 50, 16381);
  console.log(`16381 places, 100 backends: ${few.toFixed(3)}/N moved`);
  assert.ok(few < 2.5);
});

Deno.test("maglevTable() is the same for every order of the backends, and another for another seed", () => {
  const all = backends(50), turned = [...all].reverse();
  const one = maglevTable(all, { size: 4093, seed: 7 }), other = maglevTable(turned, { size: 4093, seed: 7 });
  for (let place = 0; place < 4093; place++) assert.equal(all[one[place]].text, turned[other[place]].text);
  const seeded = maglevTable(all, { size: 4093, seed: 8 });
  assert.ok(one.filter((who, place) => who !== seeded[place]).length > 3500);
  // What another node computed, another day: any change of the function would move every flow.
  const mark = one.reduce((sum, who, place) => (Math.imul(sum, 31) + who * (place + 1)) >>> 0, 0);
  assert.equal(mark, 3342661521);
});

Deno.test("maglevTable() keeps weights", () => {
  const all = backends(20, (i) => [1, 2, 3, 10, 100][i % 5]), size = 65521;
  const held = shares(maglevTable(all, { size, seed: 3 }), 20);
  const sum = all.reduce((total, { weight }) => total + weight, 0);
  all.forEach(({ weight }, i) => {
    const even = size * weight / sum;
    assert.ok(Math.abs(held[i] - even) <= Math.max(1, even * 0.02), `${held[i]} of ${even}`);
  });
  assert.deepEqual(maglevTable([], { size: 251, seed: 0 }), new Uint32Array(0));
});

Deno.test("maglevTable() is fast", () => {
  for (const [size, count] of [[16381, 100], [16381, 5000], [131071, 100], [131071, 5000]]) {
    const all = backends(count);
    maglevTable(all, { size, seed: 1 });
    const started = performance.now();
    for (let i = 0; i < 5; i++) maglevTable(all, { size, seed: i });
    console.log(`${size} places, ${count} backends: ${((performance.now() - started) / 5).toFixed(2)} ms`);
  }
});
