import assert from "node:assert/strict";
import { SliceBook } from "./slice_book.ts";

function makeBook(endpointsMax = 3) {
  let number = 0;
  return new SliceBook((namespace) => `${namespace}-${++number}`, endpointsMax);
}
const never = () => false;

Deno.test("SliceBook puts up to so many endpoints of one namespace into a slice", () => {
  const book = makeBook();
  const slices = ["a/1", "a/2", "b/1", "a/3", "a/4"].map((endpoint) => book.put(endpoint, never));
  assert.deepEqual(slices, ["a-1", "a-1", "b-2", "a-1", "a-3"]);
  assert.equal(book.put("a/2", never), "a-1", "an endpoint stays where it is");
});

Deno.test("SliceBook.put() prefers a slice that is to be written anyway, then the fullest with room", () => {
  const book = makeBook();
  for (const endpoint of ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"]) book.put(endpoint, never);
  book.remove("a/1");
  book.remove("a/4");
  book.remove("a/5");
  // a-1: 2 of 3; a-2: 1 of 3; a-3: 1 of 3.
  assert.equal(book.put("a/8", (name) => name === "a-3"), "a-3");
  assert.equal(book.put("a/9", never), "a-1", "the fullest with room");
  assert.equal(book.put("a/10", never), "a-3");
});

Deno.test("SliceBook.remove() forgets a slice with its last endpoint", () => {
  const book = makeBook();
  book.put("a/1", never);
  assert.equal(book.remove("a/1"), "a-1");
  assert.equal(book.remove("a/1"), undefined);
  assert.equal(book.get("a-1"), undefined);
  assert.deepEqual([...book.names()], []);
  assert.equal(book.put("a/1", never), "a-2");
});

Deno.test("SliceBook.adopt() takes each endpoint once, of its own namespace, and no more than fit", () => {
  const book = makeBook(2);
  book.adopt("old-1", "a", ["a/1", "b/1", "a/2", "a/3"]);
  book.adopt("old-2", "a", ["a/1", "a/3"]);
  assert.deepEqual([...book.get("old-1")!.members], ["a/1", "a/2"]);
  assert.deepEqual([...book.get("old-2")!.members], ["a/3"]);
  book.adopt("old-3", "a", ["a/1"]);
  assert.equal(book.get("old-3"), undefined, "nothing is left for it: it is not wanted");
});

Deno.test("SliceBook: however endpoints come and go, each is in one slice and no slice is too full", () => {
  const book = makeBook(5), there = new Set<string>();
  let seed = 42;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
  for (let i = 0; i < 3000; i++) {
    const endpoint = `${"abc"[Math.floor(random() * 3)]}/${Math.floor(random() * 60)}`;
    if (random() < 0.5) {
      book.put(endpoint, () => random() < 0.3);
      there.add(endpoint);
    } else {
      book.remove(endpoint);
      there.delete(endpoint);
    }
  }
  const found: string[] = [];
  for (const name of book.names()) {
    const { namespace, members } = book.get(name)!;
    assert.ok(members.size > 0 && members.size <= 5);
    for (const endpoint of members) {
      assert.ok(endpoint.startsWith(`${namespace}/`));
      found.push(endpoint);
    }
  }
  assert.deepEqual(found.sort(), [...there].sort());
});
