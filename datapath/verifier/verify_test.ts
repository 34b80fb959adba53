import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import {
  alu,
  alu32,
  alu32Reg,
  aluReg,
  assemble,
  atomic,
  call,
  callLocal,
  exit,
  goto,
  jump,
  jump32,
  jumpReg,
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
} from "./asm.ts";
import { buildVerifier } from "./build.ts";
import { CODES } from "./codes.ts";
import { verifierWasmUrl, verify } from "./module.ts";
import { reportMessage, type VerifyReport } from "./report.ts";
import type { MapFacts, VerifyRequest } from "./request.ts";

await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));

const SOCKET_FILTER = 1,
  TC = 3,
  XDP = 6,
  CGROUP_SKB = 8,
  SOCK_ADDR = 18,
  SK_LOOKUP = 30,
  SK_LOOKUP_ATTACH = 36;
const ARRAY: MapFacts = { handle: 1, type: 2, keySize: 4, valueSize: 64, maxEntries: 1, flags: 0 };
const HASH: MapFacts = { handle: 2, type: 1, keySize: 8, valueSize: 16, maxEntries: 64, flags: 0 };
const READ_ONLY: MapFacts = {
  ...ARRAY,
  handle: 3,
  flags: 0x80,
  frozen: true,
  contents: new Uint8Array(64).fill(7),
};
const OUTER: MapFacts = {
  handle: 4,
  type: 12,
  keySize: 4,
  valueSize: 4,
  maxEntries: 4,
  flags: 0,
  inner: HASH,
};
const PROGS: MapFacts = { handle: 5, type: 3, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 };
const RING: MapFacts = { handle: 6, type: 27, keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 };
const MAPS = [ARRAY, HASH, READ_ONLY, OUTER, PROGS, RING];

function run(lines: Line[], more: Partial<VerifyRequest> = {}): VerifyReport {
  return verify(module, {
    name: "test",
    programType: TC,
    gplCompatible: true,
    instructions: assemble(lines),
    maps: MAPS,
    ...more,
  });
}

/** r0 = pointer to a value of ARRAY or NULL; uses the stack at -4. */
const lookup: Line[] = [
  storeImm(4, 10, -4, 1),
  movReg(2, 10),
  alu("add", 2, -4),
  loadMap(1, 1),
  call(1),
];
/** r2 = packet, r3 = its end. */
const packet: Line[] = [load(4, 2, 1, 76), load(4, 3, 1, 80)];
const done: Line[] = ["out", mov(0, 0), exit()];

type Case = [name: string, expected: string, lines: Line[], more?: Partial<VerifyRequest>];

function check(cases: Case[]): void {
  for (const [name, expected, lines, more] of cases) {
    const report = run(lines, more);
    const got = report.verdict === "accepted" ? "accepted" : CODES.get(report.code)!.name;
    assert.equal(got, expected, `${name}: ${reportMessage(report)} at ${report.instruction}`);
  }
}

Deno.test("verify() judges program structure", () =>
  check([
    ["smallest", "accepted", [mov(0, 0), exit()]],
    ["empty", "empty-program", []],
    ["no return value", "return-uninitialised", [exit()]],
    ["unknown opcode", "unknown-opcode", [{ op: 0xff }, exit()]],
    ["unreachable", "unreachable-instruction", [mov(0, 0), exit(), mov(0, 1), exit()]],
    ["falls off", "falls-off-end", [mov(0, 0)]],
    ["jump out", "jump-out-of-range", [mov(0, 0), { op: 0x05, off: 9 }, exit()]],
    [
      "jump into ld_imm64",
      "jump-into-ld-imm64",
      [mov(0, 0), { op: 0x15, dst: 0, off: 1 }, load64(1, 1n), exit()],
    ],
    ["frame pointer written", "frame-pointer-write", [mov(10, 0), mov(0, 0), exit()]],
    ["recursion", "recursive-call", [callLocal("f"), exit(), "f", callLocal("f"), exit()]],
    ["bounded loop", "accepted", [mov(0, 0), "l", alu("add", 0, 1), jump("lt", 0, 500, "l"), exit()]],
    [
      "endless loop",
      "infinite-loop",
      [
        mov(0, 0),
        "l",
        ...Array.from({ length: 12 }, () => mov(1, 0)),
        jump("eq", 1, 0, "x"),
        "x",
        jump("eq", 0, 0, "l"),
        exit(),
      ],
    ],
    [
      "loop without bound",
      "visit-limit",
      [mov(0, 0), "l", alu("add", 0, 1), jump("ne", 0, -1, "l"), exit()],
      {
        limits: { visits: 10_000 },
      },
    ],
    ["division by constant zero", "division-by-zero", [mov(0, 1), alu("div", 0, 0), exit()]],
    ["may_goto", "accepted", [mov(0, 0), { op: 0xe5, off: 0 }, exit()]],
    ["a loop that may_goto bounds", "accepted", [
      mov(0, 0),
      "l",
      { op: 0xe5, off: 2 },
      alu("add", 0, 1),
      goto("l"),
      exit(),
    ]],
    ["may_goto to itself", "infinite-loop", [mov(0, 0), "l", { op: 0xe5, off: -1 }, exit()]],
    ["may_goto with a register", "reserved-field", [mov(0, 0), { op: 0xe5, dst: 1, off: 0 }, exit()]],
    ["unknown type", "unsupported-program-type", [mov(0, 0), exit()], { programType: 26 }],
  ]));

Deno.test("verify() lets one instruction be one kind of access", () => {
  const either = (second: Line[]): Line[] => [
    load(4, 7, 1, 0),
    movReg(6, 1),
    jump("eq", 7, 0, "go"),
    storeImm(4, 10, -56, 0),
    ...second,
    "go",
    load(4, 0, 6, 8),
    exit(),
  ];
  check([
    ["context on both paths", "accepted", either([movReg(6, 1)])],
    ["context or stack", "mixed-pointers", either([movReg(6, 10), alu("add", 6, -64)])],
  ]);
});

Deno.test("verify() judges packet accesses by what was compared", () => {
  const access = (proved: number, off: number, size: number, op: "gt" | "ge"): Line[] => [
    ...packet,
    movReg(4, 2),
    alu("add", 4, proved),
    jumpReg(op, 4, 3, "out"),
    load(size, 0, 2, off),
    ...done,
  ];
  check([
    ["proved", "accepted", access(14, 12, 2, "gt")],
    ["one byte too far", "packet-out-of-bounds", access(14, 12, 4, "gt")],
    ["strict comparison proves one more", "accepted", access(13, 12, 2, "ge")],
    ["but not two", "packet-out-of-bounds", access(12, 12, 2, "ge")],
    ["never compared", "packet-out-of-bounds", [...packet, load(1, 0, 2, 0), exit()]],
    [
      "lost by a helper",
      "not-a-pointer",
      [
        movReg(6, 1),
        ...packet,
        movReg(7, 2),
        alu("add", 2, 14),
        jumpReg("gt", 2, 3, "out"),
        movReg(1, 6),
        mov(2, 0),
        call(39),
        load(1, 0, 7, 0),
        ...done,
      ],
    ],
    [
      "written by a type that may not",
      "packet-read-only",
      [...packet, movReg(4, 2), alu("add", 4, 1), jumpReg("gt", 4, 3, "out"), storeImm(1, 2, 0, 0), ...done],
      { programType: CGROUP_SKB },
    ],
    ["end as an address", "packet-end-arithmetic", [...packet, load(1, 0, 3, 0), exit()]],
    ["meta without proof", "packet-out-of-bounds", [
      load(4, 2, 1, 140),
      load(4, 3, 1, 76),
      movReg(4, 2),
      alu("add", 4, 8),
      jumpReg("gt", 4, 3, "out"),
      load(8, 0, 2, 1),
      ...done,
    ]],
  ]);
});

Deno.test("verify() judges maps, NULL checks, stack and context", () =>
  check([
    ["lookup and check", "accepted", [...lookup, jump("eq", 0, 0, "out"), load(8, 1, 0, 56), ...done]],
    ["no check", "null-dereference", [...lookup, load(8, 1, 0, 0), ...done]],
    ["beyond the value", "map-value-out-of-bounds", [
      ...lookup,
      jump("eq", 0, 0, "out"),
      load(8, 1, 0, 60),
      ...done,
    ]],
    ["check serves copies", "accepted", [
      ...lookup,
      movReg(6, 0),
      store(8, 10, -16, 0),
      jump("eq", 6, 0, "out"),
      load(8, 7, 10, -16),
      load(8, 1, 7, 0),
      ...done,
    ]],
    ["arithmetic before the check", "null-pointer-arithmetic", [...lookup, alu("add", 0, 8), ...done]],
    ["read-only map", "map-read-only", [loadMapValue(1, 3), storeImm(4, 1, 0, 0), ...done]],
    ["constant folded", "accepted", [
      loadMapValue(1, 3),
      load(1, 2, 1, 5),
      jump("eq", 2, 7, "out"),
      load(1, 0, 5, 0),
      ...done,
    ]],
    ["inner map", "accepted", [
      storeImm(4, 10, -4, 0),
      movReg(2, 10),
      alu("add", 2, -4),
      loadMap(1, 4),
      call(1),
      jump("eq", 0, 0, "out"),
      storeImm(8, 10, -16, 0),
      movReg(1, 0),
      movReg(2, 10),
      alu("add", 2, -16),
      call(1),
      jump("eq", 0, 0, "out"),
      load(8, 1, 0, 8),
      ...done,
    ]],
    ["stack too deep", "stack-out-of-bounds", [storeImm(8, 10, -520, 0), ...done]],
    ["stack misaligned", "stack-misaligned", [storeImm(8, 10, -12, 0), ...done]],
    ["part of a saved pointer", "stack-spill-corrupted", [store(8, 10, -8, 1), load(4, 0, 10, -8), exit()]],
    ["context field", "accepted", [load(4, 0, 1, 0), exit()]],
    ["no such field", "context-access", [load(4, 0, 1, 4096), exit()]],
    ["narrow pointer field", "context-access", [load(2, 0, 1, 76), exit()]],
    ["moved context", "context-offset", [alu("add", 1, 4), load(4, 0, 1, 0), exit()]],
    ["return range", "return-value", [mov(0, 7), exit()], { programType: CGROUP_SKB }],
    ["return range of recvmsg", "return-value", [mov(0, 0), exit()], {
      programType: SOCK_ADDR,
      attachType: 19,
    }],
    ["pointer returned", "return-pointer", [movReg(0, 1), exit()], { programType: CGROUP_SKB }],
  ]));

Deno.test("verify() judges helpers and references", () => {
  const sock: Line[] = [
    storeImm(8, 10, -16, 0),
    storeImm(4, 10, -8, 0),
    movReg(2, 10),
    alu("add", 2, -16),
    mov(3, 12),
    mov(4, 0),
    mov(5, 0),
    call(84),
  ];
  check([
    ["released", "accepted", [...sock, jump("eq", 0, 0, "out"), movReg(1, 0), call(86), ...done]],
    ["leaked", "reference-leak", [...sock, ...done]],
    ["released unchecked", "argument-null", [...sock, movReg(1, 0), call(86), ...done]],
    ["released twice", "uninitialised-register", [
      ...sock,
      jump("eq", 0, 0, "out"),
      movReg(1, 0),
      call(86),
      call(86),
      ...done,
    ]],
    ["copy after release", "reference-not-owned", [
      ...sock,
      jump("eq", 0, 0, "out"),
      movReg(6, 0),
      movReg(1, 0),
      call(86),
      movReg(1, 6),
      call(86),
      ...done,
    ]],
    ["held at a tail call", "reference-at-tail-call", [
      movReg(6, 1),
      ...sock,
      jump("eq", 0, 0, "out"),
      movReg(1, 6),
      loadMap(2, 5),
      mov(3, 0),
      call(12),
      ...done,
    ]],
    ["tail call gives nothing", "return-uninitialised", [loadMap(2, 5), mov(3, 0), call(12), exit()]],
    ["caller-saved after a call", "uninitialised-register", [mov(1, 1), call(7), movReg(0, 1), exit()]],
    ["not for this type", "helper-not-allowed", [call(44), exit()]],
    ["no such helper", "unknown-helper", [call(9999), exit()]],
    ["GPL only", "helper-needs-gpl", [mov(1, 0), mov(2, 0), mov(3, 0), call(4), exit()], {
      programType: 2,
      gplCompatible: false,
    }],
    ["map of another type", "map-helper-mismatch", [
      storeImm(4, 10, -4, 0),
      movReg(2, 10),
      alu("add", 2, -4),
      loadMap(1, 5),
      call(1),
      ...done,
    ]],
    ["ring buffer", "accepted", [
      loadMap(1, 6),
      mov(2, 32),
      mov(3, 0),
      call(131),
      jump("eq", 0, 0, "out"),
      storeImm(8, 0, 24, 1),
      movReg(1, 0),
      mov(2, 0),
      call(132),
      ...done,
    ]],
    ["beyond the reservation", "memory-out-of-bounds", [
      loadMap(1, 6),
      mov(2, 32),
      mov(3, 0),
      call(131),
      jump("eq", 0, 0, "out"),
      storeImm(8, 0, 25, 1),
      ...done,
    ]],
    ["bpf_loop", "accepted", [
      mov(1, 100),
      loadFunction(2, "f"),
      movReg(3, 10),
      alu("add", 3, -8),
      mov(4, 0),
      storeImm(8, 10, -8, 0),
      call(181),
      mov(0, 0),
      exit(),
      "f",
      load(8, 3, 2, 0),
      alu("add", 3, 1),
      store(8, 2, 0, 3),
      mov(0, 0),
      exit(),
    ]],
    ["callback result", "callback-return", [
      mov(1, 100),
      loadFunction(2, "f"),
      mov(3, 0),
      mov(4, 0),
      call(181),
      mov(0, 0),
      exit(),
      "f",
      mov(0, 2),
      exit(),
    ]],
    ["static function", "accepted", [
      ...packet,
      movReg(1, 2),
      movReg(2, 3),
      callLocal("f"),
      exit(),
      "f",
      mov(0, 0),
      movReg(4, 1),
      alu("add", 4, 8),
      jumpReg("gt", 4, 2, "o"),
      load(8, 0, 1, 0),
      "o",
      exit(),
    ]],
    ["global function with a number for memory", "global-argument", [
      mov(1, 5),
      callLocal("f"),
      exit(),
      "f",
      load(4, 0, 1, 0),
      exit(),
    ], {
      subprograms: [{ start: 0, linkage: "static", name: "main" }, {
        start: 3,
        linkage: "global",
        name: "f",
        arguments: [{ kind: "mem", size: 4 }],
        returns: "scalar",
      }],
    }],
  ]);
});

/** r0 = value + r1 must stay inside 64 bytes: accepted only if r1 is known to be at most 56. */
const index: Line[] = [
  store(8, 10, -16, 1),
  ...lookup,
  jump("eq", 0, 0, "out"),
  load(8, 1, 10, -16),
  aluReg("add", 0, 1),
  load(8, 1, 0, 0),
  ...done,
];

Deno.test("verify() avoids the known soundness traps of verifiers", () =>
  check([
    ["movsx w to w re-zero-extends", "map-value-out-of-bounds", [
      load(4, 1, 1, 0),
      alu32("and", 1, 0xff),
      alu32Reg("mov", 1, 1, 8),
      ...index,
    ]],
    ["32-bit compare leaves the 64-bit view", "pointer-offset-range", [
      load(8, 1, 1, 48),
      jump32("gt", 1, 56, "out"),
      ...index,
    ]],
    ["context load across a pointer field", "context-access", [load(8, 0, 1, 76), exit()]],
    ["load next to a pointer field", "context-access", [load(4, 0, 1, 74), exit()]],
    ["slot overwritten by something else", "pointer-offset-range", [
      mov(2, 8),
      store(8, 10, -24, 2),
      load(8, 3, 1, 48),
      store(8, 10, -24, 3),
      load(8, 1, 10, -24),
      ...index,
    ]],
    ["uninitialised register stored", "uninitialised-register", [store(8, 10, -8, 5), mov(0, 0), exit()]],
    ["meet is not empty by mistake", "uninitialised-register", [
      load(4, 2, 1, 0),
      jump32("sgt", 2, -5, "a"),
      jump32("slt", 2, -5, "a"),
      movReg(0, 5),
      "a",
      mov(0, 0),
      exit(),
    ]],
    ["loop inside a callee", "visit-limit", [
      callLocal("f"),
      exit(),
      "f",
      mov(0, 0),
      "l",
      alu("add", 0, 1),
      jump("ne", 0, -1, "l"),
      exit(),
    ], { limits: { visits: 5000 } }],
    ["sign-extending load against unsigned bounds", "map-value-out-of-bounds", [
      storeImm(8, 10, -24, -8),
      load(4, 2, 1, 0),
      store(1, 10, -24, 2),
      loadSigned(1, 1, 10, -24),
      jump("sgt", 1, 56, "out"),
      ...index,
    ]],
    ["variable store marks its width", "pointer-offset-range", [
      mov(2, 8),
      store(8, 10, -24, 2),
      store(8, 10, -32, 2),
      load(4, 3, 1, 0),
      alu("and", 3, 8),
      load(8, 4, 1, 48),
      movReg(5, 10),
      aluReg("add", 5, 3),
      store(8, 5, -32, 4),
      load(8, 1, 10, -24),
      ...index,
    ]],
    ["sdiv of INT_MIN by -1", "accepted", [
      load64(1, -(1n << 63n)),
      mov(2, -1),
      aluReg("div", 1, 2, 1),
      load64(3, -(1n << 63n)),
      jumpReg("eq", 1, 3, "out"),
      load(1, 0, 5, 0),
      ...done,
    ]],
    ["sdiv by a negative", "accepted", [
      mov(1, -7),
      mov(2, -2),
      aluReg("div", 1, 2, 1),
      jump("eq", 1, 3, "out"),
      load(1, 0, 5, 0),
      ...done,
    ]],
    ["BPF_ST sign-extends", "accepted", [
      storeImm(8, 10, -24, -1),
      load(8, 1, 10, -24),
      jump("eq", 1, -1, "out"),
      load(1, 0, 5, 0),
      ...done,
    ]],
    ["store to ctx->data", "context-access", [storeImm(4, 1, 76, 0), mov(0, 0), exit()]],
    ["32-bit add on a pointer", "pointer-arithmetic", [movReg(2, 10), alu32("add", 2, 8), mov(0, 0), exit()]],
    ["stale registers after a call", "uninitialised-register", [mov(3, 1), call(7), movReg(0, 3), exit()]],
    ["packet pointer over a call that moves it", "not-a-pointer", [
      movReg(6, 1),
      load(4, 7, 1, 76),
      load(4, 3, 1, 80),
      movReg(4, 7),
      alu("add", 4, 8),
      jumpReg("gt", 4, 3, "out"),
      mov(2, 0),
      mov(3, 0),
      call(43),
      load(1, 0, 7, 0),
      ...done,
    ]],
    ["key shorter than the map's", "stack-out-of-bounds", [
      storeImm(4, 10, -4, 0),
      movReg(2, 10),
      alu("add", 2, -4),
      loadMap(1, 2),
      call(1),
      ...done,
    ]],
    ["frame number travels with the pointer (7.2 stack_ptr_arith_preserves_frameno)", "not-a-pointer", [
      ...lookup,
      jump("eq", 0, 0, "out"),
      movReg(1, 0),
      callLocal("f"),
      ...done,
      "f",
      store(8, 10, -8, 1),
      mov(6, -8),
      aluReg("add", 6, 10),
      mov(2, 42),
      store(8, 6, 0, 2),
      load(8, 1, 10, -8),
      load(8, 0, 1, 0),
      mov(0, 0),
      exit(),
    ]],
    ["stack pointer saved in the caller's stack", "stack-pointer-in-caller", [
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
    ["atomic on the packet", "atomic-target", [
      ...packet,
      movReg(4, 2),
      alu("add", 4, 8),
      jumpReg("gt", 4, 3, "out"),
      mov(1, 1),
      atomic(8, 0, 2, 0, 1),
      ...done,
    ]],
  ]));

Deno.test("verify() keeps no fact of what a register was before", () => {
  const either = (handle: number, other: number): Line[] => [
    load(4, 7, 1, 0),
    storeImm(8, 10, -8, 0),
    movReg(2, 10),
    alu("add", 2, -8),
    loadMap(1, handle),
    jump("eq", 7, 0, "go"),
    loadMap(1, other),
    "go",
    call(1),
    jump("ne", 0, 0, "found"),
    exit(),
    "found",
    load(4, 0, 0, 20),
    exit(),
  ];
  check([
    ["a number where a proved packet pointer was", "not-a-pointer", [
      ...packet,
      movReg(4, 2),
      alu("add", 4, 14),
      jumpReg("gt", 4, 3, "out"),
      load(4, 2, 1, 0),
      load(1, 0, 2, 0),
      ...done,
    ]],
    ["a context where a moved stack pointer was", "accepted", [
      movReg(2, 10),
      alu("add", 2, -64),
      movReg(2, 1),
      load(4, 0, 2, 8),
      exit(),
    ]],
    ["an offset added to what is a pointer on one path only", "not-a-pointer", [
      ...packet,
      load(4, 7, 1, 0),
      movReg(4, 2),
      alu("add", 4, 14),
      jumpReg("gt", 4, 3, "out"),
      jump("eq", 7, 0, "go"),
      mov(2, 0),
      "go",
      alu("add", 2, 4),
      load(1, 0, 2, 0),
      ...done,
    ]],
    ["a value of the smaller of two maps", "map-value-out-of-bounds", either(1, 2), {
      maps: [ARRAY, { ...HASH, keySize: 4 }],
    }],
    ["values of two maps that are large enough", "accepted", either(1, 3)],
  ]);
});

Deno.test("verify() needs no depth of its own for a long chain of branches", () => {
  const chain: Line[] = [load(4, 7, 1, 0), mov(0, 0)];
  for (let n = 0; n < 3000; n++) chain.push(jump("eq", 7, n, "out"));
  const report = run([...chain, "out", exit()]);
  assert.ok(["accepted", "limit"].includes(report.verdict), reportMessage(report));
});

Deno.test("verify() ends exponential shapes within its limits", () => {
  const lines: Line[] = [movReg(6, 1)];
  for (let n = 0; n < 200; n++) {
    lines.push(call(7), jump("set", 0, 1, `a${n}`), alu("add", 7 + (n & 1), 1), `a${n}`);
  }
  lines.splice(1, 0, mov(7, 0), mov(8, 0));
  // dead branches make both counters matter at every join: their values multiply
  lines.push(jump("gt", 7, 300, "bad"), jump("gt", 8, 300, "bad"), goto("out"), "bad", load(1, 0, 5, 0));
  const start = performance.now();
  const report = run([...lines, ...done], { limits: { visits: 200_000 } });
  assert.equal(report.verdict, "limit");
  assert.ok(report.visits > 100_000 && report.visits <= 200_001);
  assert.ok(report.memoryPeak < 64 << 20);
  assert.ok(performance.now() - start < 20_000);
});

Deno.test("verify() answers random bytes with a report", () => {
  let seed = 1;
  const next = () => seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  const types = [SOCKET_FILTER, TC, XDP, CGROUP_SKB];
  for (let n = 0; n < 300; n++) {
    const bytes = new Uint8Array(8 * (1 + next() % 24));
    for (let i = 0; i < bytes.length; i++) bytes[i] = next() >>> 16;
    const report = run([], { instructions: bytes, programType: types[n % 4] });
    assert.ok(report.verdict !== "limit", `seed ${n}`);
  }
});

Deno.test("verify() gives path, registers, visits and claims", () => {
  const report = run([
    ...packet,
    jump("eq", 2, 0, "out"),
    mov(0, 1),
    load(4, 0, 0, 0),
    "out",
    mov(0, 0),
    exit(),
  ], {
    recordVisits: true,
    claims: "all",
  });
  assert.equal(report.verdict, "unsafe");
  assert.deepEqual(report.path, [{ instruction: 2, taken: false }]);
  assert.equal(report.registers[0].bits, 1n);
  assert.equal(report.instructionVisits[3], 1);
  assert.ok(report.claims.some((claim) => claim.instruction === 4 && claim.registers[0].umax === 1n));
});

Deno.test("verify() holds a spin lock between two calls on one value, with nothing called meanwhile", () => {
  const locked: MapFacts = { ...ARRAY, handle: 8, specialFields: [{ kind: "spinLock", offset: 8, size: 4 }] };
  const take: Line[] = [
    storeImm(4, 10, -4, 1),
    movReg(2, 10),
    alu("add", 2, -4),
    loadMap(1, 8),
    call(1),
    jump("eq", 0, 0, "out"),
    movReg(6, 0),
    movReg(1, 6),
    alu("add", 1, 8),
    call(93),
  ];
  const give: Line[] = [movReg(1, 6), alu("add", 1, 8), call(94)];
  const cases: [string, string, Line[], number?][] = [
    ["taken and given", "accepted", [...take, storeImm(4, 6, 0, 1), ...give, ...done]],
    ["never given", "lock-leak", [...take, ...done]],
    ["given twice", "lock-not-held", [...take, ...give, ...give, ...done]],
    ["taken twice", "call-under-lock", [...take, movReg(1, 6), alu("add", 1, 8), call(93), ...give, ...done]],
    ["a helper meanwhile", "call-under-lock", [...take, call(7), ...give, ...done]],
    ["a tail call meanwhile", "call-under-lock", [...take, call(12), ...done]],
    ["another value's lock", "lock-not-held", [
      ...take.slice(0, -3),
      movReg(7, 0),
      ...take.slice(0, 6),
      movReg(6, 0),
      movReg(1, 7),
      alu("add", 1, 8),
      call(93),
      ...give,
      ...done,
    ]],
    ["beside the lock", "lock-not-found", [...take.slice(0, -2), alu("add", 1, 4), call(93), ...done]],
    ["on the stack", "argument-type", [movReg(1, 10), alu("add", 1, -8), call(93), ...done]],
    ["before the check for NULL", "null-pointer-arithmetic", [
      ...take.slice(0, 5),
      movReg(1, 0),
      alu("add", 1, 8),
      call(93),
      ...done,
    ]],
    ["the lock read directly", "map-value-special-field", [...take.slice(0, 6), load(4, 1, 0, 8), ...done]],
    ["in a socket filter", "lock-map-program", [...take, ...give, ...done], SOCKET_FILTER],
    ["without the map's types", "lock-not-found", [
      ...lookup,
      jump("eq", 0, 0, "out"),
      movReg(1, 0),
      call(93),
      ...done,
    ]],
  ];
  for (const [name, expected, lines, programType] of cases) {
    check([[name, expected, lines, { maps: [...MAPS, locked], programType: programType ?? TC }]]);
  }
});

Deno.test("verify() lets sockets, and nothing else, into a sockmap where the kernel does", () => {
  const sockets: MapFacts = { handle: 8, type: 15, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 };
  const put = (value: Line[], socketOffset = 0): Line[] => [
    movReg(6, 1),
    storeImm(4, 10, -4, 0),
    load(8, 7, 1, socketOffset),
    ...value,
    movReg(2, 10),
    alu("add", 2, -4),
    loadMap(1, 8),
    mov(4, 0),
    call(2),
    ...done,
  ];
  const socket: Line[] = [jump("eq", 7, 0, "out"), movReg(3, 7)];
  const cases: [string, string, Line[], number?][] = [
    ["the socket that was chosen", "accepted", put(socket)],
    ["one that may be NULL", "argument-null", put([movReg(3, 7)])],
    ["memory", "argument-type", put([movReg(3, 10), alu("add", 3, -4)])],
    ["in an egress program of a control group", "map-helper-mismatch", put(socket, 168), CGROUP_SKB],
    // kernels up to 7.2 take this: the socket's lock may be held there
    ["in a tc program", "map-helper-mismatch", put(socket, 168), TC],
  ];
  for (const [name, expected, lines, programType] of cases) {
    check([[name, expected, lines, {
      maps: [...MAPS, sockets],
      programType: programType ?? SK_LOOKUP,
      attachType: programType === undefined ? SK_LOOKUP_ATTACH : 0,
    }]]);
  }
});
