/** Sentences about calls, what they hold, and what a program returns. @module */
import { CORE_POISON_HELPER, PROGRAM_TYPES } from "@weir/object";
import {
  article,
  helper,
  mayBeNegative,
  passed,
  place,
  type Say,
  typeOfMap,
  upper,
} from "./sentence_context.ts";

/** By code. */
export const CALLS: Readonly<Record<number, Say>> = {
  100: (c) =>
    c.n(0) === CORE_POISON_HELPER
      ? "A field or type that is used here does not exist in the kernel whose types were given"
      : `There is no helper number ${c.n(0)}`,
  101: (c) => `${helper(c, 1)}() cannot be called by ${c.kind}`,
  102: (c) => `${helper(c, 1)}() may only be called by programs with a GPL-compatible licence`,
  103: (c) =>
    `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is ${article(c.s(2))}; it takes: ${c.s(3)}`,
  104: (c) => `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} may be NULL`,
  105: (c) =>
    mayBeNegative(c, c.n(0))
      ? `The size in argument ${c.n(0)} of ${helper(c, 1)}()${
        passed(c)
      } may be negative, which is taken for a huge size`
      : `The size in argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is not bounded (${c.s(2)}..${
        c.s(3)
      })`,
  106: (c) => `The size in argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} may be zero`,
  107: (c) => {
    const value = c.report.registers[c.n(0)];
    return value?.kind === "number" && value.unknown === 0n
      ? `${argument(c)} is ${value.bits}, which is too large; at most ${(1 << 29) - 1} can be asked for`
      : `${argument(c)} must be a constant`;
  },
  108: (c) => `${helper(c, 1)}() does not work on map \`${c.map(0)}\`, ${typeOfMap(c.n(2))}`,
  116: (c) =>
    `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} is an untrusted ${
      c.s(2)
    }: what it points to may be gone`,
  120: (c) => `The ${c.s(0)} acquired at ${place(c, c.n(1))} is not released on this path`,
  121: (c) =>
    c.report.lostAt >= 0
      ? `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} was released before, at ${
        place(c, c.report.lostAt)
      }`
      : `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)} holds nothing that could be released`,
  122: (c) => `A tail call is made while the ${c.s(0)} acquired at ${place(c, c.n(1))} is still held`,
  124: (c) => `The ${c.s(0)} acquired at ${place(c, c.n(1))} is still held when the callback ends`,
  130: (c) => {
    const allowed = c.s(2) === c.s(3) ? c.s(2) : `${c.s(2)}..${c.s(3)}`;
    if (c.s(0) === c.s(1)) return `The program returns ${asInt(c.s(0))}; allowed here: ${allowed}`;
    const any = BigInt(c.report.operands[0] ?? 0) === -(1n << 63n) &&
      BigInt(c.report.operands[1] ?? 0) === (1n << 63n) - 1n;
    return `The program may return any number${
      any ? "" : ` in ${c.s(0)}..${c.s(1)}`
    }; allowed here: ${allowed}`;
  },
  132: () => "The program ends without a return value on this path",
  109: (c) => `${argument(c)} must be a constant string, in read-only data`,
  110: (c) => `${argument(c)} is a packet pointer, which it does not take: copy the bytes to the stack first`,
  111: (c) => `${argument(c)} must be the context as it was given; it was moved`,
  112: (c) => `${helper(c, 0)}() may sleep, and this program may not`,
  113: (c) => `${argument(c)} must be a function of this program`,
  114: (c) => `${argument(c)} has a value that is not allowed: ${c.s(2)}`,
  115: (c) => `Values of map \`${c.map(0)}\` have a lock, and ${programs(c.n(1))} may not use such maps`,
  118: (c) => `Map \`${c.map(0)}\` (${typeOfMap(c.n(1))}) cannot be used by a program that sleeps`,
  119: (c) =>
    `Map \`${c.map(0)}\` is a second storage of control groups of its type beside \`${
      c.map(1)
    }\`; a program has one`,
  123: (c) => `${argument(c)} must be the pointer as it was got; it was moved by ${c.n(2)}`,
  125: (c) => `${argument(c)} is no lock of a map value`,
  126: (c) => `${argument(c)} is no timer of a map value`,
  127: (c) =>
    c.n(0) < 0
      ? `${upper(c.reg(1))} is unlocked, but no lock is held here`
      : `${upper(c.reg(1))} is unlocked, but the lock that is held is another one, taken at ${
        place(c, c.n(0))
      }`,
  128: (c) => `${helper(c, 0)}() is called while the lock taken at ${place(c, c.n(1))} is held`,
  129: (c) => `The lock taken at ${place(c, c.n(0))} is not released on this path`,
  131: (c) => `The program returns ${article(c.s(0))} where a number is expected`,
  133: (c) => `The callback returns ${range(c.s(0), c.s(1))}; allowed: ${range(c.s(2), c.s(3))}`,
  134: (c) =>
    `A tail call is made in ${functionAt(c, c.n(0))}, which a helper calls back, or in one that it calls`,
  140: (c) =>
    `Argument ${c.n(0)} of ${c.s(1)}()${passed(c, c.s(1))} is ${article(c.s(2))}; its type demands: ${
      c.s(3)
    }`,
  141: (c) => `Global function ${c.s(0)}() must return a number`,
  145: (c) => `${argument(c)} is not the map that the timer lies in`,
  146: (c) => `Values of map \`${c.map(0)}\` have a timer, and ${programs(c.n(1))} may not use such maps`,
  151: (c) =>
    `${c.s(0)}() is a function of the kernel, which only programs with a GPL-compatible licence may call`,
  152: (c) => `${c.s(0)}() is a function of the kernel, which programs of this type may not call`,
  174: (c) => `The kernel has no function ${c.s(0)}(), and the call of it can be reached`,
};

/** "Argument 2 of bpf_map_update_elem() (`&key`)", of operands register and function. */
function argument(c: Parameters<Say>[0]): string {
  return `Argument ${c.n(0)} of ${helper(c, 1)}()${passed(c)}`;
}

function range(low: string, high: string): string {
  return low === high ? low : `${low}..${high}`;
}

function programs(type: number): string {
  const name = PROGRAM_TYPES[type];
  return name === undefined ? "programs of this type" : `${name} programs`;
}

function functionAt(c: Parameters<Say>[0], instruction: number): string {
  const name = c.source.functionAt(instruction)?.name;
  return name === undefined || name === "" ? "a function" : `${name}()`;
}

/** A number beyond 31 bits, and what it was as an int: a function of C returns one. */
function asInt(number: string): string {
  const value = Number(number);
  return value > 0x7fff_ffff && value <= 0xffff_ffff ? `${number} (${value - 2 ** 32} as an int)` : number;
}
