import assert from "node:assert/strict";
import { MemcacheCommandError, readMemcacheCommand } from "./memcache_command.ts";

const read = (line: string) => readMemcacheCommand(new TextEncoder().encode(line));

Deno.test("readMemcacheCommand() reads command, keys and the bytes behind the line", () => {
  const cases: [line: string, command: string, keys: string[], dataBytes?: number, noreply?: boolean][] = [
    ["get a", "get", ["a"]],
    ["gets a  b noreply ", "gets", ["a", "b", "noreply"]],
    ["gat 60 a b", "gat", ["a", "b"]],
    ["set a 0 0 5", "set", ["a"], 5],
    ["set a 4294967295 -1 0 noreply", "set", ["a"], 0, true],
    ["cas a 0 0 5 18446744073709551615", "cas", ["a"], 5],
    ["incr a 1 noreply", "incr", ["a"], undefined, true],
    ["delete a", "delete", ["a"]],
    ["mg a v q", "mg", ["a"]],
    ["mg c2VjcmV0 b v", "mg", ["secret"]],
    ["ms c2VjcmV0 3 base64 noreply", "ms", ["secret"], 3],
    ["me c2VjcmV0 b", "me", ["c2VjcmV0", "secret"]],
    ["mn", "mn", []],
    ["stats items", "stats", []],
    ["flush_all 0 noreply", "flush_all", [], undefined, true],
    ["get \uFEFFa é", "get", ["\uFEFFa", "é"]],
  ];
  for (const [line, command, keys, dataBytes, noreply = false] of cases) {
    assert.deepEqual(read(line), { command, keys, dataBytes, noreply }, line);
  }
  assert.equal(read(`get ${"k ".repeat(5000)}`).keys.length, 5000);
  assert.deepEqual(readMemcacheCommand(Uint8Array.of(0x67, 0x65, 0x74, 0x20, 0xff)).keys, ["\uFFFD"]);
});

Deno.test("readMemcacheCommand() refuses what memcached refuses before it knows that data comes, and what it does not know", () => {
  const long = "k".repeat(251);
  const cases = [
    ..."|GET a|get| get a|shutdown|bget a|get a\rb|get a\0|get a\tb|constructor x".split("|"),
    ...`get ${long}|set ${long} 0 0 1|ms ${long} 1|mg ${btoa("x".repeat(251))} b`.split("|"),
    ..."set a 0 0|set a 0 0 -1|set a 0 0 1x|set a x 0 1|set a 4294967296 0 1|set a 0 2147483648 1|set a 0 0 1 2"
      .split("|"),
    ..."set a 0 0 1 noreply x|set a 0 0 99999999999|set a 0 0 +1|cas a 0 0 1|cas a 0 0 1 noreply".split("|"),
    ..."ms a|ms a S1|ms a -1|ms a 1 1 2 3 4 5 6 7 8 9 10 11 12 13|mg a_b b|mg YQ b|mg YR== b|gat 5".split(
      "|",
    ),
    `delete ${"x ".repeat(1100)}`,
  ];
  for (const line of cases) assert.throws(() => read(line), MemcacheCommandError, line);
});
