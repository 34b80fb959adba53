/** Operands that a kernel refuses and that a matrix of all operands found accepted here once: by hand, so that no kernel is needed. */
import assert from "node:assert/strict";
import {
  alu,
  aluReg,
  assemble,
  atomic,
  call,
  exit,
  jump,
  jumpReg,
  type Line,
  load,
  loadMap,
  mov,
  movReg,
  storeImm,
} from "../../datapath/verifier/asm.ts";
import { probedType } from "../../scripts/probe/program_types.ts";
import { Subject } from "./subject.ts";

const HASH = { fd: 5, type: 1, keyBytes: 4, valueBytes: 8, entriesMax: 4, flags: 0 };
const STORAGE = { fd: 6, type: 24, keyBytes: 4, valueBytes: 8, entriesMax: 0, flags: 1 };
const SOCKET_OF_SKB = 168;
const end: Line[] = ["out", mov(0, 0), exit()];
const checked = (register: number): Line => jump("eq", register, 0, "out");

/** What is looked up is read after `check`. */
function lookedUp(check: Line[]): Line[] {
  const key: Line[] = [storeImm(4, 10, -4, 1), loadMap(1, HASH.fd), movReg(2, 10), alu("add", 2, -4)];
  return [...key, call(1), ...check, load(8, 1, 0, 0), ...end];
}

/** An atomic addition to the stack; R0 is 0 or 8. */
function added(move: Line[]): Line[] {
  const words: Line[] = [storeImm(8, 10, -8, 0), storeImm(8, 10, -16, 0), call(7), alu("and", 0, 8)];
  const last: Line[] = [mov(1, 1), atomic(8, 0, 2, 0, 1), mov(0, 0), exit()];
  return [...words, movReg(2, 10), alu("add", 2, -16), ...move, ...last];
}

/** Name, program type, what is wrong, and the same put right. */
const CASES: [string, string, Line[], Line[]][] = [
  ...([[107, "storage of"], [108, "deleting the storage of"]] as const).map(
    ([helper, what]): [string, string, Line[], Line[]] => {
      const using = (check: Line[]): Line[] => [
        load(8, 2, 1, SOCKET_OF_SKB),
        ...check,
        loadMap(1, STORAGE.fd),
        mov(3, 0),
        mov(4, 1),
        call(helper),
        ...end,
      ];
      return [`${what} a socket that may be NULL`, "sched_cls", using([]), using([checked(2)])];
    },
  ),
  ["assigning a socket that may be NULL to a packet", "sched_cls", [
    load(8, 2, 1, SOCKET_OF_SKB),
    mov(3, 0),
    call(124),
    ...end,
  ], [load(8, 2, 1, SOCKET_OF_SKB), checked(2), mov(3, 0), call(124), ...end]],
  ["the cookie of a context where that of a socket is to be had", "sk_reuseport", [
    call(46),
    mov(0, 1),
    exit(),
  ], [load(8, 1, 1, 40), call(46), mov(0, 1), exit()]],
  ["the address of a function from a tracepoint", "tracepoint", [call(173), ...end.slice(1)], [
    call(14),
    ...end.slice(1),
  ]],
  ["the size of branch records without memory", "perf_event", [
    mov(2, 0),
    mov(3, 24),
    mov(4, 0),
    call(119),
    ...end.slice(1),
  ], [mov(2, 0), mov(3, 0), mov(4, 1), call(119), ...end.slice(1)]],
  ["a number added to a socket", "sched_cls", [
    load(8, 2, 1, SOCKET_OF_SKB),
    checked(2),
    alu("add", 2, 0),
    ...end,
  ], [load(8, 2, 1, SOCKET_OF_SKB), checked(2), ...end]],
  [
    "a check for NULL against a register",
    "sched_cls",
    lookedUp([mov(2, 0), jumpReg("eq", 0, 2, "out")]),
    lookedUp([checked(0)]),
  ],
  ["an atomic operation somewhere in the stack", "sched_cls", added([aluReg("add", 2, 0)]), added([])],
];

Deno.test("verifier: refuses operands that the kernel refuses, and takes them put right", () => {
  const subject = new Subject();
  const judge = (name: string, lines: Line[]) => {
    const { type, attach, flags } = probedType(name);
    return subject.verify(
      { type, attach, flags, instructions: assemble(lines), maps: [HASH, STORAGE] },
      false,
    );
  };
  try {
    for (const [what, type, wrong, right] of CASES) {
      const { verdict, message } = judge(type, wrong);
      assert.ok(verdict === "unsafe" || verdict === "not-proved", `${what}: ${verdict} ${message}`);
      const fixed = judge(type, right);
      assert.equal(fixed.verdict, "accepted", `${what}, put right: ${fixed.message}`);
    }
  } finally {
    subject.close();
  }
});
