import assert from "node:assert/strict";
import { type BpfMap, createMap, MapType, u32 } from "@weir/loader";
import { CarryOver } from "./carry_over.ts";

const ignore = Deno.uid() !== 0;

function hash(valueSize: number, entriesMax = 65536): BpfMap {
  return createMap({ type: MapType.HASH, name: "wt_carry", keySize: 4, valueSize, entriesMax });
}

function value(number: number, bytes = 8): Uint8Array<ArrayBuffer> {
  const value = new Uint8Array(bytes);
  new DataView(value.buffer).setUint32(0, number, true);
  return value;
}

Deno.test({
  name:
    "CarryOver copies each entry with a tail of zeros, then what is new, and nothing that was deleted or made since",
  ignore,
  fn() {
    const from = hash(8);
    using to = hash(20);
    from.updateBatch(Array.from({ length: 20_000 }, (_, i) => [u32(i), value(i)] as const));
    using carryOver = new CarryOver(from, to);
    carryOver.begin();
    assert.equal(carryOver.carried, 20_000);
    for (const i of [0, 7, 19_999]) assert.deepEqual(to.lookup(u32(i)), value(i, 20));
    to.delete(u32(7));
    to.update(u32(20_001), value(1, 20));
    from.update(u32(20_000), value(20_000));
    from.update(u32(20_001), value(20_001));
    carryOver.catchUp();
    carryOver.catchUp();
    assert.equal(to.lookup(u32(7)), undefined, "it was deleted from the new map");
    assert.deepEqual(to.lookup(u32(20_000)), value(20_000, 20));
    assert.deepEqual(to.lookup(u32(20_001)), value(1, 20), "the new programs had made it themselves");
    assert.deepEqual([carryOver.carried, carryOver.left], [20_001, 0]);
  },
});

Deno.test({
  name: "CarryOver says how many entries a smaller map has no room for",
  ignore,
  fn() {
    const from = hash(8);
    using to = hash(8, 100);
    from.updateBatch(Array.from({ length: 150 }, (_, i) => [u32(i), value(i)] as const));
    using carryOver = new CarryOver(from, to);
    carryOver.begin();
    assert.deepEqual([carryOver.carried, carryOver.left], [100, 50]);
  },
});
