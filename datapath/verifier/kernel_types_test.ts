import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  alu,
  aluReg,
  assemble,
  call,
  exit,
  jump,
  type Line,
  load,
  mov,
  movReg,
  store,
  storeImm,
} from "./asm.ts";
import { buildVerifier } from "./build.ts";
import { CODES } from "./codes.ts";
import { type KernelTypeFacts, POINTER_FLAGS as F, QUESTIONS, STRUCT_CLASSES } from "./kernel_types.ts";
import { verifierWasmUrl, verify, verifyBytes } from "./module.ts";
import { decodeReport, reportMessage } from "./report.ts";
import { encodeRequest, type VerifyRequest } from "./request.ts";

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));

const TRACING = 26, RAW_TP = 23, FENTRY = 24, FEXIT = 25, MODIFY_RETURN = 26, ITER = 28, SLEEPABLE = 16;
const TASK = 10, OTHER = 11;
const IS_TASK = QUESTIONS.isStruct + STRUCT_CLASSES.indexOf("task_struct");
const TASK_ID = QUESTIONS.structId + STRUCT_CLASSES.indexOf("task_struct");

/** A kernel with two structs: a task with a number, pointers of every sort, and another struct. */
const TYPES: KernelTypeFacts = {
  structs: [{ type: TASK, size: 64, name: "struct task_struct" }, {
    type: OTHER,
    size: 16,
    name: "struct other",
  }],
  answers: [
    { type: TASK, offset: 0, what: 4, kind: "scalar" },
    { type: TASK, offset: 8, what: 8, kind: "pointer", target: OTHER },
    { type: TASK, offset: 16, what: 8, kind: "pointer", target: TASK, flags: F.safeRcu },
    { type: TASK, offset: 24, what: 8, kind: "pointer", target: TASK, flags: F.safeRcuOrNull },
    { type: TASK, offset: 32, what: 8, kind: "pointer", target: TASK, flags: F.safeTrusted },
    { type: TASK, offset: 40, what: 8, kind: "opaque" },
    { type: TASK, offset: 48, what: 8, kind: "pointer", target: TASK, flags: F.user },
    { type: TASK, offset: 56, what: 8, kind: "pointer", target: TASK, flags: F.untrusted },
    { type: TASK, offset: 64, what: 8, kind: "refused", flags: 1 },
    { type: TASK, offset: 0, what: IS_TASK, kind: "scalar" },
    { type: TASK, offset: 8, what: QUESTIONS.memory + 4, kind: "scalar" },
    { type: TASK, offset: 0, what: QUESTIONS.memory + 60, kind: "refused", flags: 3 },
    { type: OTHER, offset: 0, what: 8, kind: "scalar" },
    { type: OTHER, offset: 0, what: IS_TASK, kind: "refused" },
    { type: 0, offset: 0, what: TASK_ID, kind: "pointer", target: TASK },
  ],
};
const SLOTS: NonNullable<KernelTypeFacts["attach"]>["slots"] = [
  { kind: "pointer", type: TASK, flags: F.trusted },
  { kind: "pointer", type: TASK, flags: F.trusted | F.nullable },
  { kind: "scalar" },
  { kind: "scalar", flags: 1 },
  { kind: "opaque" },
  { kind: "other" },
  { kind: "pointer", type: TASK },
  { kind: "buffer", flags: 3 },
];

function request(lines: Line[], extra: Partial<VerifyRequest> = {}): VerifyRequest {
  return {
    name: "t",
    programType: TRACING,
    attachType: RAW_TP,
    gplCompatible: true,
    instructions: assemble(lines),
    kernelTypes: { ...TYPES, attach: { target: "t", slots: SLOTS } },
    ...extra,
  };
}

function check(
  cases: [what: string, expected: string, lines: Line[], extra?: Partial<VerifyRequest>][],
): void {
  for (const [what, expected, lines, extra] of cases) {
    const report = verify(module, request(lines, extra));
    assert.equal(
      report.code === 0 ? "accepted" : CODES.get(report.code)!.name,
      expected,
      `${what}: ${reportMessage(report)}`,
    );
  }
}

const done: Line[] = ["out", mov(0, 0), exit()];
const task = (slot = 0): Line => load(8, 1, 1, slot * 8);
const stack: Line[] = [movReg(2, 10), alu("add", 2, -64), mov(3, 64), mov(4, 0), call(141)];

Deno.test("verify() reads a tracing program's arguments as the target has them", () => {
  check([
    ["a pointer", "accepted", [task(), ...done]],
    ["half a pointer", "context-access", [load(4, 1, 1, 0), ...done]],
    ["a number", "accepted", [load(4, 1, 1, 16), ...done]],
    ["the upper half of a number", "context-access", [load(4, 1, 1, 20), ...done]],
    ["half an address", "context-access", [load(4, 1, 1, 24), ...done]],
    ["an argument that is not there", "context-access", [load(8, 1, 1, 64), ...done]],
    ["memory of an element, unchecked", "null-dereference", [load(8, 1, 1, 56), load(8, 2, 1, 0), ...done]],
    ["memory of an element", "accepted", [
      load(8, 1, 1, 56),
      jump("eq", 1, 0, "out"),
      load(8, 2, 1, 400),
      ...done,
    ]],
    ["memory of an element, written", "memory-read-only", [
      load(8, 1, 1, 56),
      jump("eq", 1, 0, "out"),
      storeImm(8, 1, 0, 0),
      ...done,
    ]],
    ["before the first", "context-access", [load(8, 1, 1, -8), ...done]],
    ["something without a model", "unsupported-attach-target", [load(8, 1, 1, 40), ...done]],
    ["written", "context-access", [storeImm(8, 1, 0, 0), ...done]],
    ["no target", "unknown-attach-target", done, { kernelTypes: TYPES }],
    ["refused target", "unknown-attach-target", done, {
      kernelTypes: { attach: { target: "t", refused: "not there", slots: [] } },
    }],
  ]);
});

Deno.test("verify() reads fields through typed pointers, and only those", () => {
  check([
    ["a field", "accepted", [task(), load(4, 2, 1, 0), ...done]],
    ["past the end", "kernel-struct-access", [task(), load(8, 2, 1, 64), ...done]],
    ["before the start", "kernel-struct-access", [task(), load(8, 2, 1, -8), ...done]],
    ["moved to a field", "accepted", [task(), alu("add", 1, 8), load(8, 2, 1, 0), ...done]],
    ["a field nobody was asked about", "type-question", [task(), load(2, 2, 1, 2), ...done]],
    ["a field of what a field points to", "accepted", [task(), load(8, 2, 1, 8), load(8, 3, 2, 0), ...done]],
    ["moved by a number", "pointer-variable-offset", [
      load(8, 2, 1, 16),
      task(),
      alu("and", 2, 8),
      aluReg("add", 1, 2),
      load(8, 2, 1, 8),
      ...done,
    ]],
    ["written", "kernel-struct-write", [task(), storeImm(4, 1, 0, 1), ...done]],
    ["perhaps NULL", "null-dereference", [task(1), load(4, 2, 1, 0), ...done]],
    ["NULL checked", "accepted", [task(1), jump("eq", 1, 0, "out"), load(4, 2, 1, 0), ...done]],
    ["no struct behind it", "kernel-pointer-opaque", [task(), load(8, 2, 1, 40), load(1, 3, 2, 0), ...done]],
    ["an argument without a struct", "kernel-pointer-opaque", [task(4), load(1, 3, 1, 0), ...done]],
    ["an address of user space", "kernel-pointer-elsewhere", [
      task(),
      load(8, 2, 1, 48),
      load(4, 3, 2, 0),
      ...done,
    ]],
    ["saved and read back", "accepted", [
      task(),
      store(8, 10, -8, 1),
      load(8, 2, 10, -8),
      load(4, 3, 2, 0),
      ...done,
    ]],
    ["another licence", "kernel-struct-licence", [task(), load(4, 2, 1, 0), ...done], {
      gplCompatible: false,
    }],
    ["no answers at all", "type-question", [task(), load(4, 2, 1, 0), ...done], {
      kernelTypes: { attach: { target: "t", slots: SLOTS } },
    }],
    ["unaligned, and that matters", "misaligned-access", [task(), load(8, 2, 1, 12), ...done], {
      programFlags: 1,
    }],
  ]);
});

Deno.test("verify() hands kernel pointers to helpers only while what they point to is sure to be there", () => {
  const field = (offset: number): Line[] => [task(), load(8, 1, 1, offset)];
  const sleeps = { attachType: ITER, programFlags: SLEEPABLE };
  check([
    ["trusted", "accepted", [task(), ...stack, ...done]],
    ["an argument of a function", "accepted", [task(6), ...stack, ...done]],
    ["perhaps NULL", "argument-null", [task(1), ...stack, ...done]],
    ["another struct", "argument-type", [...field(8), ...stack, ...done]],
    ["a number", "argument-type", [load(8, 1, 1, 16), ...stack, ...done]],
    ["under RCU", "accepted", [...field(16), ...stack, ...done]],
    ["under RCU, perhaps NULL", "argument-null", [...field(24), ...stack, ...done]],
    ["kept alive by its owner", "accepted", [...field(32), ...stack, ...done], sleeps],
    [
      "under RCU, which a program that sleeps is not",
      "argument-untrusted",
      [...field(16), ...stack, ...done],
      sleeps,
    ],
    ["behind a union", "argument-untrusted", [...field(56), ...stack, ...done]],
    ["through what is untrusted", "argument-untrusted", [...field(56), load(8, 1, 1, 32), ...stack, ...done]],
    ["of user space", "kernel-pointer-elsewhere", [...field(48), ...stack, ...done]],
    ["the running task", "accepted", [call(158), movReg(1, 0), ...stack, ...done]],
    ["address for a probing read", "accepted", [
      ...field(40),
      movReg(3, 1),
      movReg(1, 10),
      alu("add", 1, -16),
      mov(2, 16),
      call(113),
      ...done,
    ]],
    ["a field as memory for a helper", "accepted", [task(), alu("add", 1, 8), mov(2, 4), call(6), ...done]],
    ["more than the field as memory", "kernel-struct-access", [task(), mov(2, 60), call(6), ...done]],
    ["perhaps no byte of a field", "unsupported-btf-pointer", [
      load(8, 6, 1, 16),
      alu("and", 6, 7),
      task(),
      movReg(3, 1),
      movReg(4, 6),
      movReg(1, 10),
      alu("add", 1, -64),
      mov(2, 8),
      call(177),
      ...done,
    ]],
    ["what is not trusted, as memory", "argument-type", [task(6), mov(2, 4), call(6), ...done]],
    ["sequence output elsewhere", "helper-not-allowed", [task(), mov(2, 0), mov(3, 0), call(127), ...done]],
  ]);
});

Deno.test("verify() bounds what tracing programs return, and who may sleep", () => {
  const two: Line[] = [mov(0, 2), exit()];
  check([
    ["tracepoint", "accepted", two],
    ["entry", "return-value", two, { attachType: FENTRY }],
    ["exit", "return-value", two, { attachType: FEXIT }],
    ["entry, 0", "accepted", [mov(0, 0), exit()], { attachType: FENTRY }],
    ["changed result", "accepted", two, { attachType: MODIFY_RETURN }],
    ["iterator", "return-value", two, { attachType: ITER }],
    ["iterator, 1", "accepted", [mov(0, 1), exit()], { attachType: ITER }],
    ["a tracepoint that sleeps", "not-sleepable", two, { programFlags: SLEEPABLE }],
    ["an iterator that sleeps", "accepted", [mov(0, 0), exit()], {
      attachType: ITER,
      programFlags: SLEEPABLE,
    }],
    ["XDP that sleeps", "not-sleepable", two, { programType: 6, attachType: 37, programFlags: SLEEPABLE }],
    ["sleeping with a map that may go", "sleepable-map", [mov(0, 0), exit()], {
      attachType: ITER,
      programFlags: SLEEPABLE,
      maps: [{ handle: 1, type: 11, keySize: 8, valueSize: 8, maxEntries: 1, flags: 1 }],
    }],
    ["an exception callback", "unsupported-exception-callback", two, { exceptionCallback: "handler" }],
  ]);
});

Deno.test("verify() takes a context moved by a number as an address to probe, and for nothing else", () => {
  const kprobe = { programType: 2, attachType: 0, kernelTypes: undefined };
  const moved: Line[] = [movReg(6, 1), load(8, 2, 1, 0), alu("and", 2, 0xff), aluReg("add", 6, 2)];
  check([
    ["probed", "accepted", [
      ...moved,
      movReg(3, 6),
      movReg(1, 10),
      alu("add", 1, -8),
      mov(2, 8),
      call(113),
      ...done,
    ], kprobe],
    ["read", "context-offset", [...moved, load(8, 3, 6, 0), ...done], kprobe],
    [
      "handed over as the context",
      "context-argument-offset",
      [...moved, movReg(1, 6), call(173), ...done],
      kprobe,
    ],
    ["sleeping helper", "accepted", [
      mov(3, 0),
      movReg(1, 10),
      alu("add", 1, -8),
      mov(2, 8),
      call(148),
      ...done,
    ], {
      ...kprobe,
      programFlags: SLEEPABLE,
    }],
    ["sleeping helper, awake", "helper-not-allowed", [
      mov(3, 0),
      movReg(1, 10),
      alu("add", 1, -8),
      mov(2, 8),
      call(148),
      ...done,
    ], kprobe],
  ]);
});

Deno.test("verify() answers damaged facts about kernel types with a report", () => {
  const plain = request([task(1), load(4, 2, 1, 0), ...done]);
  const bytes = encodeRequest(plain);
  const without = encodeRequest({ ...plain, kernelTypes: undefined });
  let seed = 7;
  const next = () => seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  const verdicts = new Set<string>();
  for (let round = 0; round < 400; round++) {
    const damaged = bytes.slice(0, round % 5 === 0 ? bytes.length - 4 * (1 + next() % 40) : bytes.length);
    // Only what lies behind the part that every request has.
    for (let n = 1 + next() % 3; n > 0; n--) {
      const at = without.length - 16 + next() % Math.max(1, damaged.length - without.length + 16);
      damaged[at] = next() >>> 13;
    }
    const report = decodeReport(verifyBytes(module, damaged));
    assert.notEqual(report.code, 199, `round ${round}`);
    verdicts.add(report.verdict);
  }
  // Damage of both kinds: what cannot be read, and what reads as other facts.
  assert.ok(verdicts.has("unsupported") && verdicts.has("unsafe"), [...verdicts].join());
  const unsorted = { ...TYPES, answers: [TYPES.answers![1], TYPES.answers![1]] };
  const twice = verify(
    module,
    request(done, { kernelTypes: { ...unsorted, attach: { target: "t", slots: SLOTS } } }),
  );
  assert.equal(CODES.get(twice.code)?.name, "malformed-request");
});
