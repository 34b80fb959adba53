import assert from "node:assert/strict";
import { differing, rearrange, reduced } from "./selection_change.ts";

const weights = (text: string) => {
  const held = new Map<number, number>();
  for (const id of text.split(" ").filter((each) => each !== "").map(Number)) {
    held.set(id, (held.get(id) ?? 0) + 1);
  }
  return held;
};

Deno.test("rearrange() writes what must be, and keeps everybody else's place", () => {
  for (
    const [name, current, wanted, next, writes] of [
      ["nothing changes", "1 2 3", "3 2 1", "1 2 3", 0],
      ["one comes", "1 2 3", "1 2 3 4", "1 2 3 4", 1],
      ["the last goes", "1 2 3", "1 2", "1 2", 0],
      ["the first goes", "1 2 3", "2 3", "3 2", 1],
      ["one for another", "1 2 3", "1 4 3", "1 4 3", 1],
      ["two go, one comes", "1 2 3 4", "3 4 5", "4 5 3", 2],
      ["a weight grows", "1 2", "1 2 2 2", "1 2 2 2", 2],
      ["a weight shrinks", "2 2 1 2", "1 2", "2 1", 1],
      ["everybody goes", "1 2 3", "", "", 0],
      ["from nothing", "", "7 8", "7 8", 2],
    ] as const
  ) {
    const before = Uint32Array.from([...current.split(" ")].filter((each) => each !== "").map(Number));
    const change = rearrange(before, weights(wanted));
    assert.equal([...change.next].join(" "), next, name);
    assert.equal(change.places.length, writes, name);
  }
});

Deno.test("rearrange() leaves a whole table after each of its writes", () => {
  const seed = Number(Deno.env.get("WEIR_SEED") ?? 1);
  let state = seed;
  const random = (below: number) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % below;
  for (let round = 0; round < 500; round++) {
    const before = Uint32Array.from({ length: random(12) }, () => 1 + random(8));
    const wanted = new Map<number, number>();
    for (let i = random(8); i > 0; i--) wanted.set(1 + random(12), 1 + random(3));
    const { places, ids, next } = rearrange(before, wanted);
    const table = [...before], allowed = new Set([...before, ...wanted.keys()]);
    places.forEach((place, i) => {
      table[place] = ids[i];
      const seen = table.slice(0, before.length);
      assert.ok(seen.every((id) => allowed.has(id)), `WEIR_SEED=${seed} round ${round}`);
    });
    assert.deepEqual(table.slice(0, next.length), [...next], `WEIR_SEED=${seed} round ${round}`);
    const held = new Map<number, number>();
    for (const id of next) held.set(id, (held.get(id) ?? 0) + 1);
    assert.deepEqual(
      new Map([...held].sort()),
      new Map([...wanted].sort()),
      `WEIR_SEED=${seed} round ${round}`,
    );
  }
});

Deno.test("differing() names the places that differ", () => {
  const change = differing(Uint32Array.of(1, 2, 3), Uint32Array.of(1, 5, 3, 4));
  assert.deepEqual([change.places, change.ids], [[1, 3], [5, 4]]);
});

Deno.test("reduced() keeps shares, within what there is room for", () => {
  assert.deepEqual(reduced(new Map([[1, 100], [2, 50]]), 1000), new Map([[1, 2], [2, 1]]));
  assert.deepEqual(reduced(new Map([[1, 1], [2, 1]]), 2), new Map([[1, 1], [2, 1]]));
  assert.equal(reduced(new Map([[1, 1], [2, 1], [3, 1]]), 2), undefined);
  const many = reduced(new Map(Array.from({ length: 5000 }, (_, i) => [i, 1 + i % 100])), 131071)!;
  const sum = [...many.values()].reduce((all, each) => all + each);
  assert.ok(sum <= 131071 && Math.min(...many.values()) >= 1 && many.get(99)! > 40, `${sum}`);
});
