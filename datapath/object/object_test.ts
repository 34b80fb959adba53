import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { Btf } from "./btf.ts";
import { clang, compile } from "./compile_fixture.ts";
import { CORE_POISON_HELPER } from "./core_relocation.ts";
import { btf, btfHead, concat, elf, pack, strings } from "./elf_fixture.ts";
import { ObjectError } from "./error.ts";
import { MAP_TYPES, PROGRAM_TYPES } from "./kinds.ts";
import { BpfObject } from "./object.ts";
import { requestOf } from "./verify_request.ts";

const source = new URL("./testdata/kitchen.c", import.meta.url);
const options = { ignore: clang.missing };
let bytes: Uint8Array | undefined;
const kitchen = (): Uint8Array => bytes ??= compile(source);

Deno.test("BpfObject.parse() reads maps with their inner templates", options, () => {
  const object = BpfObject.parse(kitchen());
  const hits = object.maps.find((map) => map.name === "hits")!;
  deepEqual([MAP_TYPES[hits.type], hits.keySize, hits.valueSize, hits.maxEntries], ["hash", 8, 16, 128]);
  const outer = object.maps.find((map) => map.name === "outer")!;
  deepEqual([outer.valueSize, outer.inner!.keySize, outer.inner!.valueSize], [4, 4, 8]);
  const rodata = object.maps.find((map) => map.name === ".rodata")!;
  deepEqual([rodata.frozen, rodata.flags, rodata.contents![0]], [true, 0x80, 7]);
  equal(object.licence, "Dual BSD/GPL");
});

Deno.test("BpfObject.programs says types, attach types and tags", options, () => {
  const object = BpfObject.parse(kitchen());
  deepEqual(
    object.programs.map((p) => [p.name, PROGRAM_TYPES[p.kind!.type], p.kind!.source, p.tags]),
    [
      ["first", "xdp", "section", ["expect:pass"]],
      ["second", "cgroup_sock_addr", "section", []],
      ["third", "sched_cls", "context", []],
      ["fourth", "raw_tracepoint", "section", []],
    ],
  );
  equal(BpfObject.parse(kitchen(), { type: "xdp" }).programs[2].kind!.source, "given");
});

Deno.test(
  "requestOf() appends sub-programs and points calls, callbacks, maps and data at them",
  options,
  () => {
    const object = BpfObject.parse(kitchen());
    const { request, source } = requestOf(object, object.programs[0]);
    const functions = source.program.functions.map((f) => f.name);
    equal(functions[0], "first");
    deepEqual(functions.slice(1).sort(), ["deeper", "each", "global_check"]);
    const view = new DataView(request.instructions.buffer);
    let calls = 0, callbacks = 0;
    for (let at = 0; at < request.instructions.length; at += 8) {
      const opcode = view.getUint8(at), src = view.getUint8(at + 1) >> 4, imm = view.getInt32(at + 4, true);
      const target = source.program.functions.find((f) => f.start === at / 8 + 1 + imm)?.name;
      if (opcode === 0x85 && src === 1) calls += Number(target === "deeper" || target === "global_check");
      if (opcode === 0x18 && src === 4) callbacks += Number(target === "each");
      if (opcode === 0x18 && src === 1) equal(object.maps[imm].name, "hits");
      if (opcode === 0x18) at += 8;
    }
    deepEqual([calls, callbacks], [2, 1]);
    const globals = request.subprograms!.filter((f) => f.linkage === "global");
    deepEqual(globals.map((f) => [f.name, f.arguments, f.returns]), [
      ["global_check", [{ kind: "memOrNull", size: 8 }, { kind: "scalar" }], "scalar"],
    ]);
    deepEqual(request.maps!.find((map) => map.type === 1)!.specialFields, [{
      kind: "spinLock",
      offset: 0,
      size: 4,
    }]);
    const names = [...source.program.references.values()].map((r) => r.name);
    for (const name of ["hits", "limit", "seen", "total", "LINUX_KERNEL_VERSION"]) {
      ok(
        names.includes(name),
        name,
      );
    }
    ok(source.lineAt(0)!.file.endsWith("kitchen.c"));
  },
);

Deno.test(
  "readExterns() gives known configuration values and leaves the map open without them",
  options,
  () => {
    const known = BpfObject.parse(kitchen(), { config: { version: 0x060c00, values: new Map() } });
    const map = known.maps.find((candidate) => candidate.name === ".kconfig")!;
    deepEqual([map.frozen, [...map.contents!]], [true, [0, 12, 6, 0]]);
    const open = BpfObject.parse(kitchen()).maps.find((candidate) => candidate.name === ".kconfig")!;
    deepEqual([open.frozen, open.contents], [false, undefined]);
  },
);

Deno.test("readExterns() refuses a configuration value without a size, or with too much of it", () => {
  for (const size of [0, 4097]) {
    const names = strings(["CONFIG_HOLE", ".kconfig"]);
    const types = concat(
      btfHead(0, 4, 0, size),
      concat(btfHead(names.offset("CONFIG_HOLE"), 14, 0, 1), pack([4, 2])),
      concat(btfHead(names.offset(".kconfig"), 15, 1, 0), pack([4, 2], [4, 0], [4, size])),
    );
    const data = elf([
      { name: "xdp", type: 1, flags: 6, data: pack([8, 0x95]) },
      { name: ".BTF", type: 1, data: btf(types, names.data) },
    ], [
      { name: "prog", info: 0x12, section: 1, size: 8 },
      { name: "CONFIG_HOLE", info: 0x10, section: 0 },
    ]);
    throws(() => BpfObject.parse(data), { name: "ObjectError", message: /CONFIG_HOLE.*1 to 4096/s });
  }
});

Deno.test("CoreRelocator moves fields and poisons accesses to those that are gone", options, () => {
  // The kernel's task_struct: pid at byte 20, gone_field not there.
  const names = strings(["int", "task_struct", "pid"]);
  const kernel = Btf.parse(btf(
    concat(
      btfHead(names.offset("int"), 1, 0, 4),
      pack([4, 0x01000020]),
      btfHead(names.offset("task_struct"), 4, 1, 64),
      pack([4, names.offset("pid")], [4, 1], [4, 160]),
    ),
    names.data,
  ));
  const object = BpfObject.parse(kitchen(), { kernelBtf: kernel });
  const { instructions } = object.assemble(object.programs[3]);
  const view = new DataView(instructions.buffer);
  const words = Array.from(
    { length: instructions.length / 8 },
    (_, i) => [view.getUint8(i * 8), view.getInt32(i * 8 + 4, true)],
  );
  ok(words.some(([, imm]) => imm === 20), "pid is at 20 now");
  ok(words.some(([opcode, imm]) => opcode === 0x85 && imm === CORE_POISON_HELPER), "gone_field is poisoned");
});

Deno.test("BpfObject.parse() reads legacy maps and programs without function symbols", () => {
  const code = concat(pack([4, 0x118], [4, 0], [4, 0], [4, 0]), pack([8, 0x95]));
  const object = BpfObject.parse(
    elf([
      { name: "classifier", type: 1, flags: 6, data: code },
      {
        name: "maps",
        type: 1,
        flags: 3,
        data: pack([4, 1], [4, 4], [4, 8], [4, 16], [4, 1], [4, 2], [4, 4], [4, 12], [4, 32], [4, 0]),
      },
      {
        name: ".relclassifier",
        type: 9,
        link: 4,
        info: 1,
        entrySize: 16,
        data: pack([8, 0], [4, 1], [4, 2]),
      },
    ], [
      { name: "a", info: 0x11, section: 2, value: 0, size: 20 },
      { name: "b", info: 0x11, section: 2, value: 20, size: 20 },
    ]),
  );
  deepEqual(object.maps.map((map) => [map.name, map.type, map.keySize, map.valueSize]), [["a", 1, 4, 8], [
    "b",
    2,
    4,
    12,
  ]]);
  deepEqual(object.programs.map((p) => [p.name, PROGRAM_TYPES[p.kind!.type]]), [["classifier", "sched_cls"]]);
  const view = new DataView(object.assemble(object.programs[0]).instructions.buffer);
  deepEqual([view.getUint8(1) >> 4, view.getInt32(4, true)], [1, 1]);
});

Deno.test("BpfObject.assemble() names symbols that nobody defines", () => {
  const object = BpfObject.parse(elf([
    {
      name: "xdp",
      type: 1,
      flags: 6,
      data: concat(pack([1, 0x85], [1, 0x10], [2, 0], [4, 0xffffffff]), pack([8, 0x95])),
    },
    { name: ".relxdp", type: 9, link: 3, info: 1, entrySize: 16, data: pack([8, 0], [4, 10], [4, 1]) },
  ], [{ name: "memcpy", info: 0x10, section: 0 }]));
  throws(
    () => object.assemble(object.programs[0]),
    (error) =>
      error instanceof ObjectError && error.code === "unresolved-symbol" && /memcpy/.test(error.message),
  );
});
