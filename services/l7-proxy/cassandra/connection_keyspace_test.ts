import assert from "node:assert/strict";
import { ConnectionKeyspace, KEYSPACES_MAX } from "./connection_keyspace.ts";

Deno.test("ConnectionKeyspace has both keyspaces while a USE is on its way, and the server's word afterwards", () => {
  const keyspace = new ConnectionKeyspace();
  assert.deepEqual([...keyspace.possible], [""]);
  const first = keyspace.begin("a")!;
  assert.deepEqual([...keyspace.possible], ["", "a"]);
  keyspace.end(first, "a");
  assert.deepEqual([...keyspace.possible], ["a"]);
  keyspace.end(keyspace.begin("b")!, null);
  assert.deepEqual([...keyspace.possible], ["a"], "refused");
  keyspace.end(keyspace.begin("b")!, undefined);
  assert.deepEqual([...keyspace.possible], ["a", "b"], "an answer that cannot be read");
  keyspace.end(keyspace.begin("c")!, "c");
  assert.deepEqual([...keyspace.possible], ["c"]);
  keyspace.set("d");
  assert.deepEqual([...keyspace.possible], ["d"]);
});

Deno.test("ConnectionKeyspace forgets nothing while several USE overlap", () => {
  const keyspace = new ConnectionKeyspace();
  const [a, b] = [keyspace.begin("a")!, keyspace.begin("b")!];
  keyspace.end(b, "b");
  keyspace.end(a, "a");
  assert.deepEqual([...keyspace.possible].sort(), ["", "a", "b"], "which came last cannot be told");
  const [c, d] = [keyspace.begin("c")!, keyspace.begin("d")!];
  keyspace.end(c, "c");
  keyspace.end(d, null);
  assert.equal(keyspace.possible.has("c"), true);
  keyspace.end(keyspace.begin("e")!, "e");
  assert.deepEqual([...keyspace.possible], ["e"]);
  for (let count = 1; count < KEYSPACES_MAX; count++) assert.notEqual(keyspace.begin(`k${count}`), null);
  assert.equal(keyspace.begin("one more"), null);
  assert.notEqual(keyspace.begin("e"), null, "one that is possible already");
});
