import { deepEqual, equal, throws } from "node:assert/strict";
import { ElfFile, STT } from "./elf.ts";
import { elf, pack } from "./elf_fixture.ts";
import { ObjectError, type ObjectErrorCode } from "./error.ts";

const code = new Uint8Array(16);
const good = (): Uint8Array =>
  elf([
    { name: "xdp", type: 1, flags: 6, data: code },
    { name: ".relxdp", type: 9, link: 3, info: 1, entrySize: 16, data: pack([8, 8], [4, 1], [4, 1]) },
  ], [{ name: "prog", info: 0x12, section: 1, value: 0, size: 16 }]);

function fails(data: Uint8Array, code: ObjectErrorCode): void {
  throws(() => ElfFile.parse(data), (error) => error instanceof ObjectError && error.code === code, code);
}

Deno.test("ElfFile.parse() reads sections, symbols and relocations", () => {
  const file = ElfFile.parse(good());
  deepEqual(file.sections.map((s) => s.name), ["", "xdp", ".relxdp", ".symtab", ".strtab", ".shstrtab"]);
  const section = file.section("xdp")!;
  equal(file.symbolsIn(section)[0].name, "prog");
  equal(file.symbolsIn(section)[0].type, STT.func);
  const [relocation] = file.relocationsOf(section);
  deepEqual([relocation.offset, relocation.type, relocation.symbol.name], [8, 1, "prog"]);
});

Deno.test("ElfFile.parse() names what is wrong with a damaged file", () => {
  fails(new Uint8Array(0), "not-elf");
  fails(new TextEncoder().encode("int main() {}"), "not-elf");
  fails(good().subarray(0, 40), "truncated");
  fails(good().subarray(0, good().length - 10), "truncated");
  const cases: readonly (readonly [number, number, number | bigint, ObjectErrorCode])[] = [
    [4, 1, 1, "bad-elf"], // 32 bit
    [5, 1, 2, "bad-elf"], // big-endian
    [16, 2, 2, "bad-elf"], // an executable
    [40, 8, 1n << 60n, "truncated"], // section table beyond 2^53
    [58, 2, 40, "bad-elf"], // section headers of another size
    [60, 2, 0xfeff, "too-large"], // absurd count of sections
    [62, 2, 77, "bad-elf"], // names in a section that is not there
  ];
  for (const [offset, width, value, expected] of cases) {
    const data = good();
    const view = new DataView(data.buffer);
    if (width === 8) view.setBigUint64(offset, BigInt(value), true);
    else if (width === 2) view.setUint16(offset, Number(value), true);
    else view.setUint8(offset, Number(value));
    fails(data, expected);
  }
});

Deno.test("ElfFile.parse() refuses symbols and relocations that point outside", () => {
  const one = (symbol: object, relocation: Uint8Array): Uint8Array =>
    elf([
      { name: "xdp", type: 1, flags: 6, data: code },
      { name: ".relxdp", type: 9, link: 3, info: 1, entrySize: 16, data: relocation },
    ], [{ name: "prog", info: 0x12, section: 1, ...symbol }]);
  const fine = pack([8, 8], [4, 1], [4, 1]);
  fails(one({ section: 99 }, fine), "bad-symbol");
  fails(one({ value: 17 }, fine), "bad-symbol");
  fails(one({ value: 8, size: 9 }, fine), "bad-symbol");
  fails(one({}, pack([8, 16], [4, 1], [4, 1])), "bad-relocation");
  fails(one({}, pack([8, 8], [4, 1], [4, 2])), "bad-relocation");
});
