/**
 * Every code of the verifier is said from a program that gets it: compiled C where the words of the source matter
 * (testdata/*.c, testdata/words/*.c), assembled programs for what no compiler writes. No sentence has anything in it that
 * only the verifier knows.
 */
import { equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Btf, ElfFile, type MapDefinition, SourceMap } from "@weir/object";
import { clang, compile } from "@weir/object/compile_fixture";
import {
  codeLabel,
  CODES,
  type KernelTypeFacts,
  type MapFacts,
  POINTER_FLAGS as F,
  RETIRED,
  verifierWasmUrl,
  verify,
  type VerifyRequest,
} from "@weir/verifier";
import { buildVerifier } from "@weir/verifier/build";
import {
  alu,
  aluReg,
  assemble,
  call,
  callLocal,
  exit,
  jump,
  type Line,
  load,
  load64,
  loadFunction,
  loadMap,
  loadMapValue,
  loadSigned,
  mov,
  movReg,
  store,
  storeImm,
} from "../verifier/asm.ts";
import { sentenceOf } from "./sentence.ts";
import { verifierOf, verifyObject } from "./verify_object.ts";

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = await WebAssembly.compile(Deno.readFileSync(verifierWasmUrl));
const verifier = verifierOf(module);
const testdata = new URL("./testdata/", import.meta.url);

/** Codes that no program gets, and why. */
const WITHOUT_PROGRAM: Readonly<Record<number, string>> = {
  1: "a request that the object reader cannot make",
  168: "a profile that is not there",
  199: "a fault of the verifier itself",
};

/** What must never be in a sentence or in what to do. */
function internal(text: string): string | undefined {
  return /\{\d\}|undefined|NaN|\[object|\bmap \d|\btype \d+|\bBTF id|\bhelper \d+\)|\br(packet|context|stack|kernel|map|number)\b|-1:/
    .exec(text)?.[0];
}

const said = new Set<number>();
function note(code: number, message: string, suggestion: string): void {
  said.add(code);
  equal(internal(message), undefined, message);
  equal(internal(suggestion), undefined, suggestion);
  match(message, /^([A-Z`0-9]|\w+\(\) |may_goto )/, message);
  ok(!/\ba [aeio]|\ban [bcdfgjkpqtvz]/.test(message.replace(/`[^`]*`/g, "x")), `article: ${message}`);
}

// ---- compiled -------------------------------------------------------------------------------------------------

const folders = [["", testdata], ["words/", new URL("words/", testdata)]] as const;
const programs = folders.flatMap(([prefix, folder]) =>
  [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".c")).sort()
    .map((name) => [prefix + name, new URL(name, folder)] as const)
);
let kernel: Btf | undefined;

for (const [name, url] of programs) {
  Deno.test({
    name: `words: ${name} is said with its line and its own words`,
    ignore: clang.missing,
    fn() {
      kernel ??= Btf.parse(ElfFile.sectionOf(compile(new URL("kernel/kernel.c", testdata)), ".BTF")!);
      const text = Deno.readTextFileSync(url), [first] = text.split("\n");
      const strict = /--strict|WV\d+ strict/.test(first);
      const [entry] = verifyObject(name.slice(name.lastIndexOf("/") + 1), compile(url), verifier, {
        strict,
        kernelBtf: kernel,
      });
      ok(entry.verdict !== "accepted", `${name} is accepted`);
      note(Number(entry.code.slice(2)), entry.message, entry.suggestion);
      // Where assembly is the source, registers are its words.
      if (!/\basm\b/.test(text)) {
        ok(!/\br\d+\b/.test(entry.message), entry.message);
        ok(!/\binstruction \d/i.test(entry.message), entry.message);
      }
      if (!name.startsWith("words/")) return;
      // The first line says the code, and what the sentence must have in it.
      const [, code, rest] = /^\/\* (WV\d+)(?: strict)?:? ?(.*?) ?\*\/$/.exec(first) ?? [];
      equal(entry.code, code, `${entry.code}: ${entry.message}`);
      const wanted = [...rest.matchAll(/`[^`]*`|[\w./:()]+/g)].map(([word]) => word);
      for (const word of wanted) ok(entry.message.includes(word), `${word} is missing: ${entry.message}`);
      // What to do says the fix in the same words.
      const fix = /^\/\/ fix: (.*)$/m.exec(text)?.[1];
      if (fix !== undefined) ok(entry.suggestion.includes(fix), entry.suggestion);
      if (text.includes("/* here */")) {
        match(entry.text, /\/\* here \*\//, `line ${entry.line}: ${entry.text}`);
      }
    },
  });
}

// ---- assembled ------------------------------------------------------------------------------------------------

const NAMES = [
  "",
  "values",
  "hash",
  "constants",
  "outer",
  "programs",
  "ring",
  "locks",
  "storage",
  "wide",
  "trie",
  "timers",
];
const ARRAY: MapFacts = { handle: 1, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 };
const LOCK = { kind: "spinLock", offset: 0, size: 4 } as const;
const TIMER = { kind: "timer", offset: 0, size: 16 } as const;
const MAPS: MapFacts[] = [
  ARRAY,
  { ...ARRAY, handle: 2, type: 1, keySize: 8 },
  { handle: 5, type: 3, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 },
  { handle: 6, type: 27, keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 },
  { ...ARRAY, handle: 7, specialFields: [LOCK] },
  { ...ARRAY, handle: 11, specialFields: [TIMER] },
];
const STORAGE = (handle: number, valueSize: number): MapFacts => ({
  handle,
  type: 19,
  keySize: 8,
  valueSize,
  maxEntries: 0,
  flags: 0,
});
const TRIE: MapFacts = { handle: 10, type: 11, keySize: 8, valueSize: 8, maxEntries: 1, flags: 1 };
const OWN_TYPE: MapFacts = { ...ARRAY, handle: 1, type: 200 };
const TC = 3, CGROUP_SKB = 8, TRACING = 26, RAW_TP = 23, SLEEPABLE = 16;
const TASK = 10;
const TYPES: KernelTypeFacts = {
  structs: [{ type: TASK, size: 64, name: "struct task_struct" }],
  answers: [{ type: TASK, offset: 48, what: 8, kind: "pointer", target: TASK, flags: F.user }],
  attach: {
    target: "vfs_read",
    slots: [
      { kind: "pointer", type: TASK, flags: F.trusted },
      { kind: "other" },
      { kind: "scalar" },
      { kind: "buffer", flags: 3 },
    ],
  },
};
const tracing: Partial<VerifyRequest> = { programType: TRACING, attachType: RAW_TP, kernelTypes: TYPES };
const done: Line[] = ["out", mov(0, 0), exit()];
const nested = (depth: number): Line[] =>
  Array.from({ length: depth }, (_, i): Line[] => [
    `f${i}`,
    ...(i + 1 < depth ? [callLocal(`f${i + 1}`)] : []),
    mov(0, 0),
    exit(),
  ]).flat();
const loop = (body: Line[]): Line[] => [
  mov(1, 3),
  loadFunction(2, "callback"),
  mov(3, 0),
  mov(4, 0),
  call(181),
  ...done,
  "callback",
  ...body,
];
const reserve: Line[] = [loadMap(1, 6), mov(2, 8), mov(3, 0), call(131)];

const ASSEMBLED: [code: number, lines: Line[], more?: Partial<VerifyRequest>][] = [
  [2, []],
  [3, [...Array.from({ length: 1_000_001 }, () => mov(0, 0)), exit()]],
  [4, [{ op: 0xff }, exit()]],
  [5, [{ op: 0x95, imm: 1 }]],
  [6, [{ op: 0xb7, dst: 12 }, exit()]],
  [7, [mov(10, 0), mov(0, 0), exit()]],
  [8, [mov(0, 0), { op: 0x05, off: 9 }, exit()]],
  [9, [mov(0, 0), { op: 0x15, dst: 0, off: 1 }, load64(1, 1n), exit()]],
  [10, [mov(0, 0), { op: 0x18, dst: 1 }]],
  [11, [mov(0, 0)]],
  [12, [mov(0, 0), exit(), mov(0, 1), exit()]],
  [14, [
    ...Array.from({ length: 257 }, (_, i) => callLocal(`f${i}`)),
    ...done,
    ...Array.from({ length: 257 }, (_, i): Line[] => [`f${i}`, mov(0, 0), exit()]).flat(),
  ]],
  [15, [callLocal("f0"), ...done, ...nested(9)]],
  [18, [...Array.from({ length: 65 }, (_, i) => loadMap(1, i + 1)), ...done], {
    maps: Array.from({ length: 65 }, (_, i) => ({ ...ARRAY, handle: i + 1 })),
  }],
  [19, [
    callLocal("f"),
    ...done,
    "f",
    storeImm(8, 10, -256, 0),
    callLocal("g"),
    mov(0, 0),
    exit(),
    "g",
    loadMap(2, 5),
    mov(3, 0),
    call(12),
    mov(0, 0),
    exit(),
  ]],
  [20, [mov(0, 0), exit()], {
    subprograms: [{ start: 0, linkage: "global", name: "main" }, { start: 7, linkage: "static", name: "f" }],
  }],
  [30, [mov(0, 0), "l", alu("add", 0, 1), jump("ne", 0, -1, "l"), exit()], { limits: { visits: 10_000 } }],
  [31, [
    load(4, 6, 1, 0),
    ...Array.from({ length: 40 }, (_, i): Line[] => [jump("eq", 6, i, "out")]).flat(),
    ...done,
  ], { limits: { states: 2 } }],
  [32, [
    load(4, 6, 1, 0),
    ...Array.from({ length: 40 }, (_, i): Line[] => [jump("eq", 6, i, "out")]).flat(),
    ...done,
  ], { limits: { memoryBytes: 4096 } }],
  [33, [
    load(4, 6, 1, 0),
    ...Array.from({ length: 9000 }, (_, i): Line[] => [jump("eq", 6, i, "out")]).flat(),
    ...done,
  ]],
  [42, [
    load(8, 2, 1, 16),
    load(8, 1, 1, 0),
    alu("and", 2, 8),
    aluReg("add", 1, 2),
    load(8, 2, 1, 8),
    ...done,
  ], tracing],
  [46, [mov(0, 1), alu("lsh", 0, 64), exit()]],
  [47, [mov(0, 1), alu("div", 0, 0), exit()]],
  [65, [store(8, 10, -8, 1), load(4, 0, 10, -8), exit()]],
  [72, [
    load(4, 2, 1, 76),
    load(4, 3, 1, 0),
    alu("and", 3, 7),
    aluReg("sub", 2, 3),
    load(1, 0, 2, 0),
    exit(),
  ]],
  [74, [alu("add", 1, 4), load(4, 0, 1, 0), exit()]],
  [76, [load(8, 1, 1, 24), jump("eq", 1, 0, "out"), storeImm(8, 1, 0, 0), ...done], tracing],
  [80, [loadSigned(4, 2, 1, 76), ...done]],
  [81, [loadMapValue(1, 1, 64), ...done]],
  [83, [store(8, 1, 48, 10), ...done], { strict: true }],
  [84, [loadMap(1, 99), ...done]],
  [85, [
    load(4, 7, 1, 0),
    movReg(6, 1),
    jump("eq", 7, 0, "go"),
    storeImm(4, 10, -56, 0),
    movReg(6, 10),
    alu("add", 6, -64),
    "go",
    load(4, 0, 6, 8),
    exit(),
  ]],
  [90, [load(8, 1, 1, 0), load(8, 1, 1, 48), load(4, 2, 1, 0), ...done], tracing],
  [95, [
    movReg(1, 10),
    alu("add", 1, -8),
    callLocal("f"),
    mov(0, 0),
    exit(),
    "f",
    store(8, 1, 0, 1),
    mov(0, 0),
    exit(),
  ]],
  [100, [call(9999), exit()]],
  [113, [mov(1, 1), mov(2, 0), mov(3, 0), mov(4, 0), call(181), ...done]],
  [114, [mov(1, 7), call(187), mov(0, 1), exit()], { programType: 15, attachType: 6 }],
  [115, [loadMap(1, 7), ...done], { programType: 1 }],
  [117, [mov(0, 0), exit()], { programFlags: SLEEPABLE }],
  [118, done, {
    programType: TRACING,
    attachType: 28,
    programFlags: SLEEPABLE,
    maps: [TRIE],
    kernelTypes: TYPES,
  }],
  [119, [loadMap(1, 8), mov(2, 0), call(81), loadMap(1, 9), mov(2, 0), call(81), mov(0, 1), exit()], {
    programType: CGROUP_SKB,
    maps: [STORAGE(8, 8), STORAGE(9, 16)],
  }],
  [124, loop([...reserve, mov(0, 0), exit()])],
  [131, [movReg(0, 1), exit()], { programType: CGROUP_SKB }],
  [142, [callLocal("f"), ...done, "f", movReg(0, 10), exit()]],
  [143, loop([movReg(6, 1), { op: 0x20 }, mov(0, 0), exit()])],
  [146, [loadMap(1, 11), ...done], { programType: 2 }],
  [150, [
    movReg(7, 10),
    alu("add", 7, -8),
    movReg(1, 7),
    mov(2, 0),
    mov(3, 9),
    { op: 0x85, src: 2, imm: 50 },
    mov(1, 0),
    store(8, 10, -8, 1),
    ...done,
  ], { kfuncs: [{ btfId: 50, name: "bpf_iter_num_new" }] }],
  [151, [{ op: 0x85, src: 2, imm: 50 }, ...done], {
    kfuncs: [{ btfId: 50, name: "bpf_iter_num_new" }],
    gplCompatible: false,
  }],
  [160, [mov(0, 0), exit()], { programType: 29 }],
  [161, [mov(1, 0), mov(2, 0), call(165), ...done]],
  [162, [{ op: 0x85, src: 2, imm: 50 }, ...done], { kfuncs: [{ btfId: 50, name: "bpf_rbtree_add" }] }],
  [152, [{ op: 0x85, src: 2, imm: 50 }, ...done], { kfuncs: [{ btfId: 50, name: "bpf_sock_destroy" }] }],
  [163, [{ op: 0x18, dst: 1, src: 5, imm2: 0 }, ...done]],
  [164, [loadMap(1, 1), load(8, 2, 1, 0), ...done]],
  [165, [mov(1, 0), callLocal("f"), ...done, "f", mov(0, 0), exit()], {
    subprograms: [{
      start: 4,
      linkage: "global",
      name: "f",
      arguments: [{ kind: "other" }],
      returns: "scalar",
    }],
  }],
  [166, [storeImm(4, 10, -4, 0), movReg(2, 10), alu("add", 2, -4), loadMap(1, 1), call(1), ...done], {
    maps: [OWN_TYPE],
  }],
  [167, done, { ...tracing, strict: true }],
  [169, [{ op: 0x18, dst: 1, src: 3, imm: 77, imm2: 0 }, ...done]],
  [170, [load(8, 1, 1, 0), load(2, 2, 1, 2), ...done], tracing],
  [172, [load(8, 1, 1, 8), ...done], tracing],
  [173, [mov(0, 0), exit()], { ...tracing, exceptionCallback: "handler" }],
  [174, [{ op: 0x85, imm: 2_002_000_000 }, ...done], {
    kfuncs: [{ btfId: 2_002_000_000, name: "bpf_gone" }],
  }],
];

/** Source of an assembled program: it has names of maps and nothing else. */
function bareSource(instructions: Uint8Array): SourceMap {
  return new SourceMap(
    { instructions, functions: [], lines: [], references: new Map(), maps: [] },
    NAMES.map((name) => ({ name }) as MapDefinition),
  );
}

for (const [code, lines, more] of ASSEMBLED) {
  Deno.test(`words: ${codeLabel(code)} ${CODES.get(code)!.name} of an assembled program has nothing internal`, () => {
    const instructions = assemble(lines);
    const report = verify(module, {
      name: "test",
      programType: TC,
      gplCompatible: true,
      instructions,
      maps: MAPS,
      ...more,
    });
    const message = sentenceOf(report, bareSource(instructions), "a sched_cls program");
    equal(report.code, code, `${codeLabel(report.code)}: ${message}`);
    note(code, message, "");
  });
}

Deno.test("words: every code is said by a program, is retired, or says why it has none", () => {
  const missing = [...CODES.keys()].filter((code) =>
    !said.has(code) && !RETIRED.has(code) && WITHOUT_PROGRAM[code] === undefined
  );
  if (clang.missing) return;
  equal(missing.map((code) => `${codeLabel(code)} ${CODES.get(code)!.name}`).join(", "), "");
  for (const code of RETIRED) ok(!said.has(code), `${codeLabel(code)} is retired, and a program gets it`);
});
