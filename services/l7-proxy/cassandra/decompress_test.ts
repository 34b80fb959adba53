import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { DecompressError, decompressLz4, decompressSnappy, snappyLength } from "./decompress.ts";

/** Made by the Python packages lz4 and python-snappy. */
const CASES: { name: string; plain: string; lz4: string; snappy: string }[] = JSON.parse(
  Deno.readTextFileSync(new URL("testdata/compressed.json", import.meta.url)),
);
const bytes = (base64: string) => Uint8Array.from(atob(base64), (it) => it.charCodeAt(0));

Deno.test("decompressLz4() and decompressSnappy() read what the libraries write", () => {
  for (const { name, plain, lz4, snappy } of CASES) {
    const expected = bytes(plain);
    assert.deepEqual(decompressLz4(bytes(lz4), expected.length), expected, name);
    const block = bytes(snappy);
    const start = snappyLength(block)!;
    assert.equal(start.plain, expected.length, name);
    assert.deepEqual(decompressSnappy(block, start.at, start.plain), expected, name);
  }
});

Deno.test("decompressLz4() and decompressSnappy() read a beginning, of the input as of the output", () => {
  for (const { name, plain, lz4, snappy } of CASES) {
    const expected = bytes(plain);
    const [first, second] = [bytes(lz4), bytes(snappy)];
    const { at } = snappyLength(second)!;
    for (let part = 0; part <= 20; part++) {
      const want = Math.floor((expected.length * part) / 20);
      assert.deepEqual(decompressLz4(first, want), expected.subarray(0, want), name);
      assert.deepEqual(decompressSnappy(second, at, want), expected.subarray(0, want), name);
      const some = decompressLz4(first.subarray(0, Math.floor((first.length * part) / 20)), expected.length);
      assert.deepEqual(some, expected.subarray(0, some.length), name);
      const cut = Math.max(at, Math.floor((second.length * part) / 20));
      const more = decompressSnappy(second.subarray(0, cut), at, expected.length);
      assert.deepEqual(more, expected.subarray(0, more.length), name);
    }
  }
});

Deno.test("decompressLz4() and decompressSnappy() write no more than is wanted, whatever they are given", () => {
  const random = seededRandom(20261130);
  const all = CASES.map(({ lz4, snappy }) => ({ lz4: bytes(lz4), snappy: bytes(snappy) }));
  let refused = 0;
  for (let round = 0; round < 4000; round++) {
    const blocks = all[Math.floor(random() * all.length)];
    for (
      const [block, decode] of [[blocks.lz4.slice(), decompressLz4], [
        blocks.snappy.slice(),
        decodeSnappy,
      ]] as const
    ) {
      for (let count = 1 + random() * 4; count > 0; count--) {
        block[Math.floor(random() * block.length)] = random() * 256;
      }
      try {
        assert.ok(decode(block, 1000).length <= 1000);
      } catch (error) {
        if (!(error instanceof DecompressError)) throw error;
        refused++;
      }
    }
  }
  assert.ok(refused > 1000);
  assert.throws(() => decompressLz4(new Uint8Array([0x00, 0x01, 0x00]), 10), /LZ4: a copy from 1 bytes back/);
  assert.throws(() => snappyLength(new Uint8Array([255, 255, 255, 255, 255, 255])), /without an end/);
  assert.throws(() => snappyLength(new Uint8Array([255, 255, 255, 255, 15])), /a plain length of/);
  assert.equal(snappyLength(new Uint8Array([255])), null);
});

function decodeSnappy(block: Uint8Array, want: number): Uint8Array {
  const start = snappyLength(block);
  return start === null ? block.subarray(0, 0) : decompressSnappy(block, start.at, want);
}
