/**
 * Alignment after pruning: of two paths that come together, one has an offset whose bounds lie within the other's and whose low
 * bits do not. Whoever compares bounds alone ends the second path at the first one's state and never sees it misaligned.
 */
import {
  alu,
  aluReg,
  exit,
  goto,
  jump,
  jumpReg,
  type Line,
  load,
  loadMapValue,
  mov,
  movReg,
  store,
} from "../../datapath/verifier/asm.ts";
import { type Case, judge } from "./beside_kernel.ts";

const STRICT_ALIGNMENT = 1, STATE_AT_EVERY_JUMP = 8;
const MAPS = [{ type: 2, keyBytes: 4, valueBytes: 64, entriesMax: 1 }];

/** R2 and R3: the packet and its end; R5 and R6: numbers of which nothing is known. */
const PACKET: Line[] = [load(4, 2, 1, 76), load(4, 3, 1, 80), load(4, 5, 1, 8), load(4, 6, 1, 0)];
/** Room for the offset, and packets start two bytes off a multiple of four. */
const READ: Line[] = [load(4, 0, 4, 2)];
const CHECK: Line[] = [movReg(7, 4), alu("add", 7, 6), jumpReg("gt", 7, 3, "out")];
const POINTER: Line[] = [movReg(4, 2), aluReg("add", 4, 5)];
const END: Line[] = ["out", mov(0, 0), exit()];
/** Nothing happens, long enough for a state to be worth keeping. */
const PAUSE: Line[] = Array.from({ length: 10 }, () => mov(8, 0));

/** What the two sides of a branch do with the offset, and what follows where they meet. */
function meeting(first: number, second: number, each: Line[], after: Line[]): Line[] {
  return [
    ...PACKET,
    jump("eq", 6, 7, "other"),
    alu("and", 5, first),
    ...each,
    goto("meet"),
    "other",
    alu("and", 5, second),
    ...each,
    "meet",
    ...PAUSE,
    ...after,
    ...END,
  ];
}

/** Where the paths come together: what each did before, what follows. */
const PLACES: [name: string, each: Line[], after: Line[]][] = [
  ["the offset is a number", [], [...POINTER, ...CHECK, ...READ]],
  ["the offset was added", POINTER, [...CHECK, ...READ]],
  ["the packet was compared", [...POINTER, ...CHECK], READ],
  ["the offset lies on the stack", [store(8, 10, -8, 5), mov(5, 0)], [
    load(8, 5, 10, -8),
    ...POINTER,
    ...CHECK,
    ...READ,
  ]],
  ["the pointer lies on the stack", [...POINTER, ...CHECK, store(8, 10, -8, 4), mov(4, 0)], [
    load(8, 4, 10, -8),
    ...READ,
  ]],
  ["the offset goes into a map value", [], [loadMapValue(4, 0, 0), aluReg("add", 4, 5), load(4, 0, 4, 0)]],
];
/** Multiples of four up to 28, any number up to 15, multiples of four up to 12. */
const WIDE = 0x1c, ODD = 0x0f, NARROW = 0x0c;

Deno.test("verifier: a path with an offset of other low bits is walked, whatever was walked before it", () => {
  const cases = PLACES.flatMap(([place, each, after]): Case[] =>
    [STRICT_ALIGNMENT, STRICT_ALIGNMENT | STATE_AT_EVERY_JUMP].flatMap((flags): Case[] => [
      {
        name: `${place}: aligned, then not`,
        ours: "misaligned-access",
        flags,
        lines: meeting(WIDE, ODD, each, after),
      },
      {
        name: `${place}: not aligned, then so`,
        ours: "misaligned-access",
        flags,
        lines: meeting(ODD, WIDE, each, after),
      },
      {
        name: `${place}: aligned on both`,
        ours: "accepted",
        flags,
        lines: meeting(WIDE, NARROW, each, after),
      },
      {
        name: `${place}: nobody asks for alignment`,
        ours: "accepted",
        flags: flags & ~STRICT_ALIGNMENT,
        lines: meeting(WIDE, ODD, each, after),
      },
    ])
  );
  judge(6008, cases, MAPS);
});
