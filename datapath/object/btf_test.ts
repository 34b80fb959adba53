import { deepEqual, equal, throws } from "node:assert/strict";
import { Btf } from "./btf.ts";
import { btf, btfHead, concat, pack, strings } from "./elf_fixture.ts";
import { LIMITS, ObjectError } from "./error.ts";

const names = strings([
  "int",
  "pair",
  "a",
  "b",
  "rest",
  "color",
  "RED",
  "word",
  "x",
  "big",
  "HUGE",
  "double",
  "tag",
]);
const at = names.offset;
const types = concat(
  concat(btfHead(at("int"), 1, 0, 4), pack([4, 0x01000020])), // 1: signed 32-bit int
  concat(btfHead(0, 3, 0, 0), pack([4, 1], [4, 1], [4, 6])), // 2: int[6]
  // 3: struct pair { int a:3; int b:5; int rest[6]; }
  concat(
    btfHead(at("pair"), 4, 3, 28, true),
    pack([4, at("a")], [4, 1], [4, 0x03000000]),
    pack([4, at("b")], [4, 1], [4, 0x05000003]),
    pack([4, at("rest")], [4, 2], [4, 32]),
  ),
  concat(btfHead(at("color"), 6, 1, 4, true), pack([4, at("RED")], [4, 0xffffffff])), // 4: signed enum
  btfHead(at("word"), 8, 0, 1), // 5: typedef int word
  btfHead(0, 2, 0, 3), // 6: struct pair *
  concat(btfHead(0, 5, 1, 28), pack([4, 0], [4, 3], [4, 0])), // 7: union { struct pair; } - anonymous member
  concat(btfHead(at("big"), 19, 1, 8), pack([4, at("HUGE")], [4, 1], [4, 2])), // 8: enum64
  btfHead(at("double"), 16, 0, 8), // 9: float
  concat(btfHead(at("tag"), 17, 0, 3), pack([4, 1])), // 10: decl_tag on member 1 of pair
);

Deno.test("Btf.parse() decodes kinds, bit fields and 64-bit enumerators", () => {
  const found = Btf.parse(btf(types, names.data));
  equal(found.size, 11);
  deepEqual(found.find("pair", "struct")!.members.map((m) => [m.name, m.bitOffset, m.bitfieldSize]), [
    ["a", 0, 3],
    ["b", 3, 5],
    ["rest", 32, 0],
  ]);
  deepEqual(found.find("color", "enum")!.values, [{ name: "RED", value: -1n }]);
  deepEqual(found.find("big", "enum64")!.values, [{ name: "HUGE", value: 0x200000001n }]);
  equal(found.member(7, "rest")!.bitOffset, 32);
  equal(found.describe(6), "struct pair *");
  deepEqual(found.tagsOf(3).map((tag) => [tag.name, tag.componentIndex]), [["tag", 1]]);
});

Deno.test("Btf.sizeOf() follows typedefs and multiplies arrays", () => {
  const found = Btf.parse(btf(types, names.data));
  deepEqual([1, 2, 3, 5, 6, 7, 8, 9].map((id) => found.sizeOf(id)), [4, 24, 28, 4, 8, 28, 8, 8]);
  throws(() => found.sizeOf(0), ObjectError);
});

Deno.test("Btf refuses endless chains, foreign ids, unknown kinds and absurd sizes", () => {
  const loop = Btf.parse(btf(concat(btfHead(0, 10, 0, 2), btfHead(0, 10, 0, 1)), names.data));
  throws(() => loop.resolve(1), /does not end/);
  throws(() => loop.type(3), /id below 3/);
  const arrays: Uint8Array[] = [concat(btfHead(at("int"), 1, 0, 4), pack([4, 0x20]))];
  for (let id = 1; id < LIMITS.btfDepthMax; id++) {
    arrays.push(concat(btfHead(0, 3, 0, 0), pack([4, id], [4, 1], [4, 0xffff])));
  }
  const deep = Btf.parse(btf(concat(...arrays), names.data));
  throws(() => deep.sizeOf(LIMITS.btfDepthMax), /beyond 4 GiB/);
  throws(() => Btf.parse(btf(btfHead(0, 25, 0, 0), names.data)), /kind 25/);
  throws(() => Btf.parse(btf(btfHead(0, 4, 0xffff, 0), names.data)), ObjectError);
  throws(() => Btf.parse(btf(types, new Uint8Array([0, 65]))), /begins and ends with NUL/);
});
