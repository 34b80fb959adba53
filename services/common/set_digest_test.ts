import assert from "node:assert/strict";
import { SetDigest } from "./set_digest.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const of = (...texts: string[]) => {
  const digest = new SetDigest();
  for (const text of texts) digest.add(bytes(text));
  return digest;
};

Deno.test("SetDigest is the same for one set in whatever order, and for a set that lost an element again", () => {
  const digest = of("a", "b", "c");
  assert.equal(digest.text, of("c", "a", "b").text);
  digest.delete(bytes("b"));
  assert.equal(digest.text, of("a", "c").text);
  assert.equal(digest.count, 2);
  digest.delete(bytes("a"));
  digest.delete(bytes("c"));
  assert.equal(digest.text, "0000000000000000");
});

Deno.test("SetDigest.restore() goes on where the text was taken", () => {
  const before = of("a", "b");
  const after = SetDigest.restore(before.text, before.count);
  after.add(bytes("c"));
  assert.deepEqual([after.text, after.count], [of("a", "b", "c").text, 3]);
  assert.equal(SetDigest.restore("nonsense", 7).count, 0);
});

Deno.test("SetDigest tells 200,000 elements, and pairs of them, apart", () => {
  const seen = new Set<string>();
  for (let i = 0; i < 200_000; i++) seen.add(of(`10.0.${i >> 8}.${i & 255}/32 ${i % 7}`).text);
  assert.equal(seen.size, 200_000);
  assert.notEqual(of("ab", "c").text, of("a", "bc").text);
  assert.notEqual(of("a", "a").text, of("b", "b").text);
  assert.notEqual(of("").text, of().text);
});
