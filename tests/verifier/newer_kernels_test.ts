/**
 * What newer kernels have learned to accept, and beside each the nearest that stays unsafe: judged by ours and, where the
 * running kernel is new enough, by it.
 */
import {
  alu,
  aluReg,
  call,
  callLocal,
  exit,
  jump,
  jumpReg,
  type Line,
  load,
  loadMap,
  loadMapValue,
  loadSigned,
  mov,
  movReg,
  store,
  storeImm,
} from "../../datapath/verifier/asm.ts";
import type { KernelMap } from "../../scripts/probe/kernel.ts";
import { type Case, judge } from "./beside_kernel.ts";

const SOCKET_FILTER = 1, KPROBE = 2, TC = 3, RAW_TRACEPOINT = 17;
const HASH = 1, ARRAY = 2, PROG_ARRAY = 3, PERCPU_ARRAY = 6, ARRAY_OF_MAPS = 12;

/** Maps by the number that stands in the lines; the first is the inner map of the map of maps. */
const MAPS: readonly KernelMap[] = [
  { type: ARRAY, keyBytes: 4, valueBytes: 48, entriesMax: 2 },
  { type: PERCPU_ARRAY, keyBytes: 4, valueBytes: 48, entriesMax: 2 },
  { type: HASH, keyBytes: 4, valueBytes: 48, entriesMax: 2 },
  { type: ARRAY, keyBytes: 4, valueBytes: 48, entriesMax: 1 },
  { type: PROG_ARRAY, keyBytes: 4, valueBytes: 4, entriesMax: 2 },
  { type: ARRAY_OF_MAPS, keyBytes: 4, valueBytes: 4, entriesMax: 2 },
  { type: ARRAY, keyBytes: 4, valueBytes: 48, entriesMax: 1, flags: 0x80 },
  { type: ARRAY, keyBytes: 4, valueBytes: 48, entriesMax: 1, flags: 0x100 },
];
/** A lookup in `map` with what `key` leaves at fp + `at`; what is found is read at once. */
function lookup(map: number, key: Line[], at = -8): Line[] {
  return [
    ...key,
    loadMap(1, map),
    movReg(2, 10),
    alu("add", 2, at),
    call(1),
    load(8, 0, 0, 0),
    mov(0, 0),
    exit(),
  ];
}

Deno.test("verifier: an array has an element for a constant key in range, from 6.14 on", () => {
  const random: Line[] = [call(7)];
  const unknown: Line[] = [...random, alu("and", 0, 1), store(4, 10, -8, 0)];
  judge(6014, [
    { name: "a key in range", ours: "accepted", lines: lookup(0, [storeImm(4, 10, -8, 1)]) },
    { name: "a key out of a register", ours: "accepted", lines: lookup(0, [mov(3, 1), store(4, 10, -8, 3)]) },
    { name: "a key per CPU", ours: "accepted", lines: lookup(1, [storeImm(4, 10, -8, 1)]) },
    {
      name: "zero in the upper half of a word",
      ours: "accepted",
      lines: lookup(0, [storeImm(4, 10, -4, 0)], -4),
    },
    {
      name: "a kernel that does not know it",
      ours: "null-dereference",
      lines: lookup(0, [storeImm(4, 10, -8, 1)]),
      ignores: "constant-keys",
    },
    {
      name: "the first key out of range",
      ours: "null-dereference",
      lines: lookup(0, [storeImm(4, 10, -8, 2)]),
    },
    { name: "a negative key", ours: "null-dereference", lines: lookup(0, [storeImm(4, 10, -8, -1)]) },
    { name: "a hash map", ours: "null-dereference", lines: lookup(2, [storeImm(4, 10, -8, 0)]) },
    { name: "one of two keys", ours: "null-dereference", lines: lookup(0, unknown) },
    {
      name: "a key of which one byte was written over",
      ours: "null-dereference",
      lines: lookup(0, [storeImm(4, 10, -8, 1), call(7), store(1, 10, -7, 0)]),
    },
    {
      name: "a key that a helper may have written over",
      ours: "null-dereference",
      lines: lookup(0, [
        movReg(6, 1),
        storeImm(4, 10, -8, 1),
        movReg(1, 6),
        mov(2, 0),
        movReg(3, 10),
        alu("add", 3, -8),
        mov(4, 4),
        call(26),
      ]),
    },
    {
      name: "the same key in range and out of it, where paths come together",
      ours: "null-dereference",
      lines: lookup(0, [
        ...random,
        storeImm(4, 10, -8, 1),
        jump("eq", 0, 7, "in"),
        storeImm(4, 10, -8, 9),
        "in",
        mov(0, 0),
      ]),
    },
    {
      name: "an inner map, which may have less elements when the program runs",
      ours: "null-dereference",
      kernelTakes: true,
      lines: [
        storeImm(4, 10, -8, 1),
        loadMap(1, 5),
        movReg(2, 10),
        alu("add", 2, -8),
        call(1),
        jump("eq", 0, 0, "out"),
        movReg(1, 0),
        movReg(2, 10),
        alu("add", 2, -8),
        call(1),
        load(8, 0, 0, 0),
        "out",
        mov(0, 0),
        exit(),
      ],
    },
    {
      name: "what is found ends where the value does",
      ours: "map-value-out-of-bounds",
      lines: [
        storeImm(4, 10, -8, 1),
        loadMap(1, 0),
        movReg(2, 10),
        alu("add", 2, -8),
        call(1),
        load(8, 0, 0, 41),
        mov(0, 0),
        exit(),
      ],
    },
  ], MAPS);
});

const SIZES = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 } as const;
type Size = keyof typeof SIZES;
/** dst = *(src + off), before all that follows. */
const acquire = (size: Size, dst: number, src: number, off: number): Line => ({
  op: 0xc3 | SIZES[size],
  dst,
  src,
  off,
  imm: 0x100,
});
/** *(dst + off) = src, after all that precedes. */
const release = (size: Size, dst: number, off: number, src: number): Line => ({
  op: 0xc3 | SIZES[size],
  dst,
  src,
  off,
  imm: 0x110,
});
const end: Line[] = [mov(0, 0), exit()];

Deno.test("verifier: load-acquire and store-release are loads and stores of fewer kinds of memory, from 6.15 on", () => {
  const sizes: Size[] = [1, 2, 4, 8];
  judge(6015, [
    ...sizes.flatMap((size): Case[] => [
      {
        name: `${size} bytes of the stack`,
        ours: "accepted",
        lines: [mov(1, 7), release(size, 10, -8, 1), acquire(size, 2, 10, -8), ...end],
      },
      {
        name: `${size} bytes of a map value`,
        ours: "accepted",
        lines: [loadMapValue(1, 3, 0), mov(2, 7), release(size, 1, 8, 2), acquire(size, 2, 1, 8), ...end],
      },
      {
        name: `${size} bytes at the end of a map value`,
        ours: "accepted",
        lines: [loadMapValue(1, 3, 0), acquire(size, 2, 1, 48 - size), ...end],
      },
      {
        name: `${size} bytes beyond a map value`,
        ours: "map-value-out-of-bounds",
        lines: [loadMapValue(1, 3, 0), acquire(size, 2, 1, 48), ...end],
      },
      {
        name: `${size} bytes stored beyond a map value`,
        ours: "map-value-out-of-bounds",
        lines: [loadMapValue(1, 3, 0), mov(2, 0), release(size, 1, 48, 2), ...end],
      },
      {
        name: `${size} bytes beyond the stack`,
        ours: "stack-out-of-bounds",
        lines: [acquire(size, 2, 10, 0), ...end],
      },
      {
        name: `${size} bytes of the context`,
        ours: "atomic-target",
        lines: [acquire(size, 2, 1, 0), ...end],
      },
      {
        name: `${size} bytes stored to the context`,
        ours: "atomic-target",
        lines: [mov(2, 0), release(size, 1, 8, 2), ...end],
      },
      {
        name: `${size} bytes at a number`,
        ours: "not-a-pointer",
        lines: [mov(1, 8), acquire(size, 2, 1, 0), ...end],
      },
      {
        name: `${size} bytes from a register that nobody wrote`,
        ours: "uninitialised-register",
        lines: [acquire(size, 2, 3, 0), ...end],
      },
      {
        name: `${size} bytes of a register that nobody wrote`,
        ours: "uninitialised-register",
        lines: [release(size, 10, -8, 3), ...end],
      },
      {
        name: `${size} bytes into the frame pointer`,
        ours: "frame-pointer-write",
        lines: [acquire(size, 10, 10, -8), ...end],
      },
    ]),
    {
      name: "an address that is not aligned",
      ours: "misaligned-access",
      lines: [loadMapValue(1, 3, 0), acquire(4, 2, 1, 2), ...end],
    },
    {
      name: "an address that is not aligned, stored to",
      ours: "misaligned-access",
      lines: [loadMapValue(1, 3, 0), mov(2, 0), release(8, 1, 4, 2), ...end],
    },
    {
      name: "an element of an array that is not there",
      ours: "null-dereference",
      lines: [
        storeImm(4, 10, -8, 2),
        loadMap(1, 0),
        movReg(2, 10),
        alu("add", 2, -8),
        call(1),
        acquire(8, 0, 0, 0),
        ...end,
      ],
    },
    {
      name: "a store to a map that programs may only read",
      ours: "map-read-only",
      lines: [loadMapValue(1, 6, 0), mov(2, 0), release(8, 1, 0, 2), ...end],
    },
    {
      name: "a load from a map that programs may only write",
      ours: "map-write-only",
      lines: [loadMapValue(1, 7, 0), acquire(8, 2, 1, 0), ...end],
    },
    {
      name: "a pointer into the stack and back",
      ours: "accepted",
      lines: [release(8, 10, -8, 10), acquire(8, 1, 10, -8), storeImm(8, 1, -16, 0), ...end],
    },
    {
      name: "half of a pointer",
      ours: "stack-spill-corrupted",
      lines: [loadMapValue(1, 3, 0), release(4, 10, -8, 1), ...end],
    },
    {
      name: "a pointer that was written over",
      ours: "not-a-pointer",
      lines: [
        loadMapValue(1, 3, 0),
        store(8, 10, -8, 1),
        mov(2, 0),
        release(8, 10, -8, 2),
        acquire(8, 1, 10, -8),
        load(8, 0, 1, 0),
        ...end,
      ],
    },
    {
      name: "a number that differs on two paths is looked at on both",
      ours: "map-value-out-of-bounds",
      lines: [
        call(7),
        mov(3, 0),
        jump("eq", 0, 7, "in"),
        mov(3, 48),
        "in",
        release(8, 10, -8, 3),
        acquire(8, 2, 10, -8),
        loadMapValue(1, 3, 0),
        aluReg("add", 1, 2),
        load(1, 0, 1, 0),
        ...end,
      ],
    },
    {
      name: "the packet",
      ours: "atomic-target",
      lines: [
        load(4, 2, 1, 76),
        load(4, 3, 1, 80),
        movReg(4, 2),
        alu("add", 4, 8),
        jumpReg("gt", 4, 3, "out"),
        acquire(8, 0, 2, 0),
        "out",
        ...end,
      ],
    },
  ], MAPS);
});

/** A function that uses `bytes` of its stack and calls `next`. */
function frameOf(name: string, bytes: number, next?: Line[]): Line[] {
  return [name, storeImm(8, 10, -bytes, 0), ...(next ?? []), mov(0, 0), exit()];
}

/** Three functions one under the other. */
function chain(a: number, b: number, c: number, last: Line[] = []): Line[] {
  return [
    ...frameOf("main", a, [callLocal("second")]),
    ...frameOf("second", b, [callLocal("third")]),
    ...frameOf("third", c, last),
  ];
}

Deno.test({
  name: "verifier: functions of tracing programs have stacks of their own, from 6.13 on",
  ignore: Deno.build.arch !== "x86_64",
  fn: () => {
    const tailCall: Line[] = [loadMap(2, 4), mov(3, 0), call(12)];
    judge(6013, [
      { name: "three of 512 in a kprobe", type: KPROBE, ours: "accepted", lines: chain(512, 512, 512) },
      {
        name: "the same in a raw tracepoint",
        type: RAW_TRACEPOINT,
        ours: "accepted",
        lines: chain(512, 512, 512),
      },
      {
        name: "the same in a socket filter",
        type: SOCKET_FILTER,
        ours: "stack-depth",
        lines: chain(512, 512, 512),
      },
      { name: "the same for the network", type: TC, ours: "stack-depth", lines: chain(512, 512, 512) },
      {
        name: "the same in a kprobe of a kernel that does not know it",
        type: KPROBE,
        ours: "stack-depth",
        ignores: "private-stacks",
        lines: chain(512, 512, 512),
      },
      { name: "more than 512 in one", type: KPROBE, ours: "stack-out-of-bounds", lines: chain(520, 8, 8) },
      {
        name: "with a tail call all lie on one stack",
        type: KPROBE,
        ours: "stack-depth",
        lines: [
          movReg(6, 1),
          ...frameOf("main", 400, [callLocal("second"), movReg(1, 6), ...tailCall]),
          ...frameOf("second", 128),
        ],
      },
    ], MAPS);
  },
});

/** A number from `low` to `low` + 9, saved at fp - 8 and read back by `back`, indexes a value from `start` on. */
function savedAndIndexed(low: number, start: number, saved: Line[], back: Line[]): Line[] {
  return [
    call(7),
    alu("and", 0, 15),
    jump("gt", 0, 9, "out"),
    alu("add", 0, low),
    ...saved,
    ...back,
    alu("add", 1, start),
    loadMapValue(2, 3, 0),
    aluReg("add", 2, 1),
    load(1, 0, 2, 0),
    "out",
    ...end,
  ];
}

Deno.test("verifier: a number of one byte, saved on the stack and read back with its sign, is the same number", () => {
  const sizes: Size[] = [1, 2, 4];
  judge(6008, [
    ...sizes.flatMap((size): Case[] => {
      const saved = [store(size, 10, -8, 0)], back = [loadSigned(size, 1, 10, -8)];
      const beyondValue = size === 4 ? "pointer-offset-range" : "map-value-out-of-bounds";
      const beyond = size === 4 ? 0x7ffffffa : (1 << (8 * size - 1)) - 6;
      return [
        { name: `${size} bytes`, ours: "accepted", lines: savedAndIndexed(-15, 15, saved, back) },
        {
          name: `${size} bytes of eight`,
          ours: "accepted",
          lines: savedAndIndexed(-15, 15, [store(8, 10, -8, 0)], back),
        },
        {
          name: `${size} bytes, of either sign, where the kernel is less exact`,
          ours: "accepted",
          lines: savedAndIndexed(-5, 5, saved, back),
          kernelTakes: false,
        },
        {
          name: `${size} bytes, of either sign, for a kernel that is less exact`,
          ours: beyondValue,
          lines: savedAndIndexed(-5, 5, saved, back),
          ignores: "signs",
        },
        {
          name: `${size} bytes, for a kernel that is less exact`,
          ours: "accepted",
          lines: savedAndIndexed(-15, 15, saved, back),
          ignores: "signs",
        },
        {
          name: `${size} bytes, one below the value`,
          ours: "map-value-out-of-bounds",
          lines: savedAndIndexed(-15, 14, saved, back),
        },
        {
          name: `${size} bytes, one beyond the value`,
          ours: "map-value-out-of-bounds",
          lines: savedAndIndexed(-15, 54, saved, back),
        },
        {
          name: `${size} bytes, read without the sign`,
          ours: beyondValue,
          lines: savedAndIndexed(-15, 15, saved, [load(size, 1, 10, -8)]),
        },
        {
          name: `${size} bytes, the number beyond what they hold`,
          ours: beyondValue,
          lines: savedAndIndexed(beyond, -beyond, saved, back),
        },
      ];
    }),
    {
      name: "the low byte of two, which has another sign",
      ours: "map-value-out-of-bounds",
      lines: savedAndIndexed(-200, 200, [store(2, 10, -8, 0)], [loadSigned(1, 1, 10, -8)]),
    },
    {
      name: "a byte of another width written over it",
      ours: "pointer-offset-range",
      lines: savedAndIndexed(-15, 15, [store(4, 10, -8, 0), call(7), store(1, 10, -8, 0)], [
        loadSigned(4, 1, 10, -8),
      ]),
    },
  ], MAPS);
});

Deno.test("verifier: may_goto leaves all 512 bytes of stack to the program", () => {
  const mayGoto: Line = { op: 0xe5, to: "out" };
  const loop = (bytes: number): Line[] => [
    storeImm(8, 10, -bytes, 0),
    "again",
    mayGoto,
    { op: 0x05, to: "again" },
    "out",
    ...end,
  ];
  judge(6015, [
    { name: "512 bytes", ours: "accepted", lines: loop(512) },
    { name: "504 bytes", ours: "accepted", lines: loop(504) },
    { name: "520 bytes", ours: "stack-out-of-bounds", lines: loop(520) },
    {
      name: "512 bytes and a function below",
      ours: "stack-depth",
      lines: [
        storeImm(8, 10, -512, 0),
        callLocal("f"),
        mayGoto,
        "out",
        ...end,
        ...frameOf("f", 8),
      ],
    },
  ], MAPS);
});
