/** Programs that earlier versions accepted although they are unsafe, each beside one that differs by the mistake. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  alu,
  aluReg,
  assemble,
  call,
  callLocal,
  exit,
  goto,
  jump,
  jumpReg,
  type Line,
  load,
  loadFunction,
  loadMap,
  loadMapValue,
  mov,
  movReg,
  store,
  storeImm,
} from "./asm.ts";
import { buildVerifier } from "./build.ts";
import { CODES } from "./codes.ts";
import { verifierWasmUrl, verify } from "./module.ts";
import { reportMessage } from "./report.ts";
import type { MapFacts, SubprogramFacts, VerifyRequest } from "./request.ts";

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));

const SOCKET_FILTER = 1, KPROBE = 2, TC = 3, XDP = 6, CGROUP_SKB = 8, CGROUP_DEVICE = 15, SOCKOPT = 25;
const SYSCALL = 31, SLEEPABLE = 16;
const KEEP_EVERY_STATE = 8;
const Helper = {
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  random: 7,
  storeBytes: 9,
  tailCall: 12,
  localStorage: 81,
  forEach: 164,
  copyFromUser: 148,
  close: 168,
  timerSetCallback: 170,
  setRetval: 187,
  loop: 181,
};

const WIDE: MapFacts = { handle: 1, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 };
const NARROW: MapFacts = { ...WIDE, handle: 2, valueSize: 8 };
const PROGS: MapFacts = { ...WIDE, handle: 3, type: 3, valueSize: 4 };
const DEVICES: MapFacts = { ...WIDE, handle: 4, type: 14, valueSize: 8 };
const DEVICES_HASH: MapFacts = { ...DEVICES, handle: 5, type: 25 };
const READ_ONLY: MapFacts = { ...WIDE, handle: 6, type: 1, flags: 0x80 };
const TIMERS: MapFacts = {
  ...WIDE,
  handle: 10,
  type: 1,
  specialFields: [{ kind: "timer", offset: 0, size: 16 }],
};
const STORAGE: MapFacts = { handle: 7, type: 19, keySize: 16, valueSize: 8, maxEntries: 0, flags: 0 };
const WIDE_STORAGE: MapFacts = { ...STORAGE, handle: 8, valueSize: 16 };
const CPU_STORAGE: MapFacts = { ...WIDE_STORAGE, handle: 9, type: 21 };
const MAPS = [
  WIDE,
  NARROW,
  PROGS,
  DEVICES,
  DEVICES_HASH,
  READ_ONLY,
  STORAGE,
  WIDE_STORAGE,
  CPU_STORAGE,
  TIMERS,
];

interface Program {
  lines: Line[];
  type?: number;
  attach?: number;
  flags?: number;
  subprograms?: SubprogramFacts[];
}

function judge({ lines, type = TC, attach = 0, flags = KEEP_EVERY_STATE, subprograms }: Program): string {
  const used = new Set(
    lines.flatMap((line) => typeof line === "object" && line.op === 0x18 ? line.imm ?? 0 : []),
  );
  const request: VerifyRequest = {
    name: "test",
    programType: type,
    attachType: attach,
    programFlags: flags,
    gplCompatible: true,
    instructions: assemble(lines),
    maps: MAPS.filter(({ handle }) => used.has(handle)),
    subprograms,
  };
  const report = verify(module, request);
  return report.verdict === "accepted"
    ? "accepted"
    : CODES.get(report.code)?.name ?? `${report.verdict} ${reportMessage(report)}`;
}

/** Refused with that code, and accepted with the mistake taken out. */
function refuses(code: string, unsafe: Program, safe: Program): void {
  assert.equal(judge(unsafe), code);
  assert.equal(judge(safe), "accepted");
}

const end: Line[] = [mov(0, 0), exit()];

/** One of two maps is walked; the callback misbehaves from its second round on, which a flag on the stack tells. */
function secondRound(other: MapFacts): Line[] {
  return [
    storeImm(8, 10, -8, 0),
    call(Helper.random),
    jump("eq", 0, 0, "other"),
    loadMap(1, WIDE.handle),
    goto("walk"),
    "other",
    loadMap(1, other.handle),
    "walk",
    loadFunction(2, "callback"),
    movReg(3, 10),
    alu("add", 3, -8),
    mov(4, 0),
    call(Helper.forEach),
    ...end,
    "callback",
    load(8, 5, 4, 0),
    jump("ne", 5, 0, "again"),
    storeImm(8, 4, 0, 1),
    goto("out"),
    "again",
    load(8, 0, 3, 56),
    goto("out"),
    "out",
    ...end,
  ];
}

Deno.test("pruning in a callback looks at what the call that repeats it hands over again", () => {
  refuses("map-value-out-of-bounds", { lines: secondRound(NARROW) }, { lines: secondRound(WIDE) });
});

/** A callback that counts its rounds, which tells every round from the others, and returns what one of two paths made. */
function counting(usual: number, other: number): Line[] {
  return [
    storeImm(8, 10, -8, 0),
    mov(1, 3),
    loadFunction(2, "callback"),
    movReg(3, 10),
    alu("add", 3, -8),
    mov(4, 0),
    call(Helper.loop),
    ...end,
    "callback",
    load(8, 7, 2, 0),
    loadMapValue(3, WIDE.handle),
    aluReg("add", 3, 7),
    storeImm(1, 3, 0, 1),
    alu("add", 7, 1),
    store(8, 2, 0, 7),
    call(Helper.random),
    mov(6, usual),
    jump("ne", 0, 0, "join"),
    mov(6, other),
    "join",
    movReg(0, 6),
    exit(),
  ];
}

Deno.test("what a callback returns counts where its paths come together", () => {
  refuses("callback-return", { lines: counting(0, 5) }, { lines: counting(0, 1) });
  refuses("callback-return", { lines: counting(5, 0) }, { lines: counting(1, 0) });
});

const tailCall: Line[] = [movReg(1, 6), loadMap(2, PROGS.handle), mov(3, 0), call(Helper.tailCall)];

Deno.test("a tail call in a function may return to the caller with any number", () => {
  const lines = (mask: Line[]): Line[] => [
    callLocal("function"),
    ...mask,
    loadMapValue(1, WIDE.handle),
    aluReg("add", 1, 0),
    load(1, 0, 1, 0),
    ...end,
    "function",
    movReg(6, 1),
    ...tailCall,
    mov(0, 7),
    exit(),
  ];
  refuses("pointer-offset-range", { lines: lines([]) }, { lines: lines([alu("and", 0, 63)]) });
});

Deno.test("a tail call in a function may return to the caller without the function's later stores", () => {
  const lines = (before: number): Line[] => [
    storeImm(8, 10, -8, before),
    movReg(2, 10),
    alu("add", 2, -8),
    callLocal("function"),
    load(8, 1, 10, -8),
    loadMapValue(2, WIDE.handle),
    aluReg("add", 2, 1),
    load(1, 0, 2, 0),
    ...end,
    "function",
    movReg(6, 1),
    movReg(7, 2),
    ...tailCall,
    storeImm(8, 7, 0, 16),
    ...end,
  ];
  refuses("map-value-out-of-bounds", { lines: lines(1024) }, { lines: lines(8) });
});

Deno.test("a packet load that fails returns from its function with 0, not from the program", () => {
  const subprograms: SubprogramFacts[] = [
    { start: 0, name: "program", linkage: "static" },
    { start: 9, name: "function", linkage: "static", arguments: [], returns: "scalar" },
  ];
  const lines = (before: number): Line[] => [
    storeImm(8, 10, -8, before),
    movReg(2, 10),
    alu("add", 2, -8),
    callLocal("function"),
    load(8, 1, 10, -8),
    movReg(2, 10),
    aluReg("add", 2, 1),
    load(8, 0, 2, 0),
    exit(),
    "function",
    movReg(6, 1),
    movReg(7, 2),
    { op: 0x20, imm: 0 },
    storeImm(8, 7, 0, -8),
    ...end,
  ];
  refuses(
    "stack-out-of-bounds",
    { lines: lines(-1024), type: SOCKET_FILTER, subprograms },
    { lines: lines(-8), type: SOCKET_FILTER, subprograms },
  );
});

Deno.test("the callers of a tail call hold less than 256 bytes of stack together", () => {
  const lines = (bytes: number): Line[] => [
    storeImm(8, 10, -128, 0),
    callLocal("middle"),
    ...end,
    "middle",
    storeImm(8, 10, -bytes, 0),
    callLocal("last"),
    ...end,
    "last",
    movReg(6, 1),
    ...tailCall,
    ...end,
  ];
  refuses("stack-before-tail-call", { lines: lines(128) }, { lines: lines(112) });
});

Deno.test("no tail call leaves a callback, and no packet load does", () => {
  const lines = (body: Line[]): Line[] => [
    mov(1, 3),
    loadFunction(2, "callback"),
    mov(3, 0),
    mov(4, 0),
    call(Helper.loop),
    ...end,
    "callback",
    ...body,
    ...end,
  ];
  refuses("tail-call-in-callback", { lines: lines([movReg(6, 1), ...tailCall]) }, { lines: lines([]) });
  assert.equal(judge({ lines: lines([movReg(6, 1), { op: 0x20 }]) }), "ld-abs");
  const deeper: Line[] = [callLocal("deeper"), ...end, "deeper", movReg(6, 1)];
  assert.equal(judge({ lines: lines([...deeper, ...tailCall]) }), "tail-call-in-callback");
  assert.equal(judge({ lines: lines([...deeper, { op: 0x20 }]) }), "ld-abs");
});

Deno.test("what a lookup in a map of devices gives is read only", () => {
  const lines = (map: MapFacts, access: Line[]): Line[] => [
    storeImm(4, 10, -4, 0),
    movReg(2, 10),
    alu("add", 2, -4),
    loadMap(1, map.handle),
    call(Helper.mapLookup),
    jump("eq", 0, 0, "out"),
    ...access,
    "out",
    ...end,
  ];
  for (const map of [DEVICES, DEVICES_HASH]) {
    for (const access of [[storeImm(4, 0, 0, 1)], [mov(1, 1), store(8, 0, 0, 1)]]) {
      refuses("map-read-only", { lines: lines(map, access) }, { lines: lines(map, [load(4, 1, 0, 0)]) });
    }
  }
});

Deno.test("elements of a map that is read only for programs are not changed by helpers either", () => {
  const lines = (helper: number, map: MapFacts): Line[] => [
    storeImm(4, 10, -4, 0),
    loadMap(1, map.handle),
    movReg(2, 10),
    alu("add", 2, -4),
    loadMapValue(3, WIDE.handle),
    mov(4, 0),
    call(helper),
    ...end,
  ];
  for (const helper of [Helper.mapUpdate, Helper.mapDelete]) {
    refuses("map-read-only", { lines: lines(helper, READ_ONLY) }, { lines: lines(helper, WIDE) });
  }
});

Deno.test("a program has one storage of control groups of a type", () => {
  const lines = (second: MapFacts): Line[] => [
    loadMap(1, STORAGE.handle),
    mov(2, 0),
    call(Helper.localStorage),
    loadMap(1, second.handle),
    mov(2, 0),
    call(Helper.localStorage),
    load(8, 0, 0, 8),
    mov(0, 1),
    exit(),
  ];
  const inGroup = { type: CGROUP_SKB };
  refuses("second-storage-map", { lines: lines(WIDE_STORAGE), ...inGroup }, {
    lines: lines(CPU_STORAGE),
    ...inGroup,
  });
});

Deno.test("a packet pointer that was moved proves nothing by where it was", () => {
  const lines = (back: Line, access: number): Line[] => [
    load(4, 9, 1, 76),
    load(4, 8, 1, 80),
    alu("add", 9, 256),
    jumpReg("ge", 9, 8, "beyond"),
    ...end,
    "beyond",
    back,
    jumpReg("lt", 9, 8, "within"),
    ...end,
    "within",
    load(1, 0, 9, access),
    ...end,
  ];
  for (const [op, by] of [["sub", 256], ["add", -256]] as const) {
    assert.equal(judge({ lines: lines(alu(op, 9, by), 0) }), "packet-out-of-bounds");
  }
  assert.equal(judge({ lines: lines(alu("sub", 9, 254), 1) }), "packet-out-of-bounds");
  assert.equal(judge({ lines: lines(alu("sub", 9, 254), 0) }), "accepted");
});

Deno.test("a variable move of a packet pointer ends what was proved of it, and leaves its copies alone", () => {
  const lines = (pointer: number, access: number): Line[] => [
    load(4, 7, 1, 76),
    load(4, 8, 1, 80),
    load(4, 6, 1, 0),
    alu("and", 6, 7),
    movReg(4, 7),
    alu("add", 4, 16),
    jumpReg("gt", 4, 8, "out"),
    movReg(5, 7),
    aluReg("add", 5, 6),
    load(8, 0, pointer, access),
    "out",
    ...end,
  ];
  refuses("packet-out-of-bounds", { lines: lines(5, 0) }, { lines: lines(7, 8) });
});

Deno.test("a global function that may move the packet gets no memory in it", () => {
  const subprograms: SubprogramFacts[] = [
    { start: 0, name: "program", linkage: "static" },
    {
      start: 11,
      name: "function",
      linkage: "global",
      arguments: [{ kind: "context" }, { kind: "mem", size: 8 }],
      returns: "scalar",
    },
  ];
  const lines = (body: Line[]): Line[] => [
    load(4, 2, 1, 76),
    load(4, 3, 1, 80),
    movReg(4, 2),
    alu("add", 4, 8),
    jumpReg("gt", 4, 3, "out"),
    callLocal("function"),
    mov(0, 0),
    mov(0, 0),
    "out",
    mov(0, 0),
    mov(0, 0),
    exit(),
    "function",
    movReg(6, 2),
    ...body,
    load(8, 0, 6, 0),
    exit(),
  ];
  const storeBytes: Line[] = [
    mov(2, 0),
    movReg(3, 10),
    alu("add", 3, -8),
    mov(4, 8),
    mov(5, 0),
    call(Helper.storeBytes),
  ];
  refuses("global-argument", { lines: lines(storeBytes), subprograms }, { lines: lines([]), subprograms });
});

Deno.test("a pointer that was moved without a bound may be 0, and proves nothing of its equal", () => {
  const lines = (bound: Line[]): Line[] => [
    load(4, 8, 1, 0),
    { op: 0x67, dst: 8, imm: 31 },
    ...bound,
    storeImm(4, 10, -4, 0),
    loadMap(1, READ_ONLY.handle),
    movReg(2, 10),
    alu("add", 2, -4),
    call(Helper.mapLookup),
    movReg(7, 0),
    loadMapValue(6, WIDE.handle),
    aluReg("add", 6, 8),
    jumpReg("ne", 7, 6, "out"),
    load(1, 0, 7, 0),
    "out",
    ...end,
  ];
  refuses("null-dereference", { lines: lines([]) }, { lines: lines([alu("and", 8, 0xff)]) });
});

/** A program that may sleep, and a timer of it that may not. */
Deno.test("what a timer calls may not sleep, whatever its program may", () => {
  const lines = (helper: Line[], inTimer: boolean): Line[] => [
    ...(inTimer ? [] : helper),
    storeImm(4, 10, -4, 0),
    loadMap(1, TIMERS.handle),
    movReg(2, 10),
    alu("add", 2, -4),
    call(Helper.mapLookup),
    jump("eq", 0, 0, "out"),
    movReg(1, 0),
    loadFunction(2, "later"),
    call(Helper.timerSetCallback),
    "out",
    ...end,
    "later",
    ...(inTimer ? helper : []),
    ...end,
  ];
  const copy: Line[] = [movReg(1, 10), alu("add", 1, -8), mov(2, 8), mov(3, 0), call(Helper.copyFromUser)];
  const close: Line[] = [mov(1, 3), call(Helper.close)];
  for (const helper of [copy, close]) {
    refuses(
      "sleepable-only",
      { lines: lines(helper, true), type: SYSCALL, flags: SLEEPABLE },
      { lines: lines(helper, false), type: SYSCALL, flags: SLEEPABLE },
    );
  }
});

Deno.test("bpf_set_retval takes 0 or an error; getsockopt alone takes any number", () => {
  const lines = (value: Line): Line[] => [value, call(Helper.setRetval), mov(0, 1), exit()];
  const device = { type: CGROUP_DEVICE, attach: 6 };
  for (const value of [1, -4096, 4096]) {
    refuses("argument-value", { lines: lines(mov(1, value)), ...device }, {
      lines: lines(mov(1, value)),
      type: SOCKOPT,
      attach: 21,
    });
  }
  for (const value of [0, -1, -4095]) {
    assert.equal(judge({ lines: lines(mov(1, value)), ...device }), "accepted");
  }
  assert.equal(judge({ lines: lines(mov(1, 1)), type: SOCKOPT, attach: 22 }), "argument-value");
  // The second path must not be taken for the first one.
  const pruned: Line[] = [
    call(Helper.random),
    mov(1, 0),
    jump("eq", 0, 0, "set"),
    mov(1, 1),
    goto("set"),
    "set",
    call(Helper.setRetval),
    mov(0, 1),
    exit(),
  ];
  assert.equal(judge({ lines: pruned, ...device }), "argument-value");
});

Deno.test("programs of a session return 0 or 1, other probes anything", () => {
  const lines = (value: number): Line[] => [mov(0, value), exit()];
  for (const attach of [56, 57]) {
    refuses("return-value", { lines: lines(2), type: KPROBE, attach }, {
      lines: lines(1),
      type: KPROBE,
      attach,
    });
  }
  assert.equal(judge({ lines: lines(2), type: KPROBE }), "accepted");
});

Deno.test("JMP32 has no call and no exit", () => {
  for (const op of [0x86, 0x8e, 0x96, 0x9e]) {
    assert.equal(judge({ lines: [mov(0, 0), { op }, ...end], type: XDP }), "unknown-opcode");
  }
});
