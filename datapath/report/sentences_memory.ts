/** Sentences about registers and memory. @module */
import {
  article,
  base,
  bytes,
  bytesAt,
  contextField,
  howLost,
  LOST,
  mayBeNegative,
  packet,
  place,
  type Say,
  stackVariable,
  upper,
  valueOf,
  variable,
} from "./sentence_context.ts";
import { followsKernelPointer } from "./kernel_pointer.ts";
import { walksPacket } from "./packet_loop.ts";
import { indexIn } from "./source_words.ts";

/** By code. */
export const MEMORY: Readonly<Record<number, Say>> = {
  40: (c) => `${upper(variable(c, 0))} is used on a path on which it was never given a value`,
  41: (c) =>
    `\`${c.s(1)}\` on ${c.reg(0)}, a ${
      c.s(2)
    }: only adding to and subtracting from a pointer keeps it a pointer`,
  42: (c) =>
    `A number that is not known before the program runs (${c.n(2)}..${c.n(3)}) is added to ${c.reg(0)}, a ${
      c.s(1)
    }`,
  44: (c) => `${upper(variable(c, 0))} may be NULL and is moved before it is checked`,
  60: (c) => {
    const followed = followsKernelPointer(c.report, c.source, c.kind);
    if (followed !== undefined) {
      return `\`${followed.pointer}\` holds a kernel address, which is only a number here, and is followed directly; ` +
        "it must be read with bpf_probe_read_kernel() or BPF_CORE_READ()";
    }
    return c.report.lostAt >= 0
      ? `${upper(c.reg(0))} ${LOST[howLost(c.report, c.source)]} ${
        place(c, c.report.lostAt)
      }; since then it is only a number, and is ${c.verb} through`
      : `${upper(c.reg(0))} is ${article(c.s(1))}, not a pointer, and is ${c.verb} through`;
  },
  61: (c) =>
    `${upper(c.reg(0))} (${valueOf(c, 0, c.s(1))}) may be NULL and is ${c.verb} through without a check`,
  62: (c) =>
    `${upper(base(c))} is a local variable, but stack bytes ${c.n(1)}..${
      c.n(2)
    } may be ${c.verb}; a function has -512..-1`,
  63: (c) =>
    `${c.n(0)} bytes at stack offset ${c.n(1)} are ${c.verb}; they must start at a multiple of ${c.n(0)}`,
  64: (c) =>
    `${stackVariable(c)} used before it was written: bytes ${c.n(0)}..${
      c.n(1)
    } of the stack hold no value on this path`,
  66: (c) =>
    negative(c, 2)
      ? `The offset in the value of map \`${c.map(0)}\` may be negative: bytes ${
        c.span(2, 3)
      } are ${c.verb} through ${base(c)}, ` +
        `the value has ${c.n(4)}`
      : `The value of map \`${c.map(0)}\` has ${c.n(4)} bytes, but bytes ${
        c.span(2, 3)
      } are ${c.verb} through ${base(c)}`,
  68: (c) => `Map \`${c.map(0)}\` is read-only for programs, but is written through ${base(c)}`,
  69: (c) => `Map \`${c.map(0)}\` is write-only for programs, but is read through ${base(c)}`,
  70: (c) =>
    walksPacket(c.report)
      ? `${
        upper(c.reg(0))
      } (packet pointer) goes on through the packet in a loop without a bound: behind its first 65535 bytes ` +
        "no check counts any more"
      : packet(c),
  72: (c) => {
    const pointer = `${upper(c.reg(0))} (packet pointer)`;
    if (walksPacket(c.report)) return `${pointer} goes on through the packet in a loop without a bound`;
    return negative(c, 1)
      ? `${pointer} was moved by ${indexOf(c)}, which may be negative (${c.n(1)}..${c.s(2)})`
      : `${pointer} was moved by ${indexOf(c)} without a useful upper bound (${c.n(1)}..${c.s(2)})`;
  },
  73: (c) =>
    / tracing program/.test(c.kind)
      ? `Argument ${Math.floor(c.n(0) / 8) + 1} (offset ${c.n(0)} of the context) cannot be ${c.s(2)} with ${
        bytes(c.n(1))
      }: what the program is attached to has no such argument`
      : `${contextField(c)} cannot be ${c.s(2)} with ${bytes(c.n(1))} in ${c.kind}`,
  75: (c) =>
    mayBeNegative(c, c.n(0))
      ? `${upper(c.reg(0))} points to ${c.n(4)} bytes, and is moved by ${indexOf(c)}, which may be negative`
      : `${upper(c.reg(0))} points to ${c.n(4)} bytes, but ${bytesAt(c)} ${c.verb}`,
  76: (c) => `${upper(c.reg(0))} (${c.s(1)}) is read-only memory, but is written`,
  78: (c) => `${c.n(0)} bytes at offset ${c.n(1)} through ${c.reg(2)} are not aligned`,
  86: (c) =>
    `${upper(c.reg(0))} points to ${c.s(1)} (${bytes(c.n(2))}), and ${bytes(c.n(3))} at offset ${
      c.n(4)
    } are read: ${c.s(5)}`,
  87: (c) =>
    `${upper(c.reg(0))} points to ${c.s(1)} of the kernel, which programs may only read, and is written`,
  88: (c) =>
    `${
      upper(c.reg(0))
    } points to kernel memory that no struct describes, so nobody knows how far it may be read`,
  89: (c) => `Fields of ${c.s(1)} may be read only by programs with a GPL-compatible licence`,
  90: (c) => `${upper(c.reg(0))} points to ${c.s(1)}, which cannot be used directly`,
  43: (c) =>
    negative(c, 1)
      ? `${upper(c.reg(0))} is moved by ${indexOf(c)}, which may be negative`
      : `${upper(c.reg(0))} is moved by ${indexOf(c)} (${
        c.span(1, 2)
      }), further than the 2^29 bytes that a pointer may be moved`,
  45: (c) => `${upper(c.reg(0))} and ${c.reg(1)} are both pointers, and are added`,
  48: (c) => `${upper(c.reg(0))} and ${c.reg(1)} are pointers that cannot be compared`,
  49: (c) => `A kernel address, that of ${c.reg(0)} (${c.s(1)}), would leave the program`,
  65: (c) =>
    `${stackVariable(c)} used where a part of the stack (offset ${
      c.n(0)
    }) holds a saved pointer, which may not be read or ` +
    `overwritten in parts`,
  67: (c) =>
    `Bytes ${c.span(2, 3)} of the value of map \`${
      c.map(0)
    }\` belong to a field that only helpers may touch, such as a lock or timer`,
  71: (c) => `The packet is written through ${base(c)}, but ${c.kind} may only read it`,
  74: () =>
    `The context pointer was moved before its field is accessed; fields are reached from the context as it was given`,
  77: (c) => `${contextField(c, article(c.s(2)))} cannot be read with ${bytes(c.n(1))}`,
  79: (c) =>
    `An atomic operation goes through ${c.reg(0)}, ${
      article(c.s(1))
    }; it may go to the stack, map values and ring buffer memory`,
  81: (c) => `Offset ${c.n(1)} lies outside of map \`${c.map(0)}\``,
  82: (c) =>
    `${
      upper(c.reg(0))
    } is the end of the packet, which can be compared with, but not moved or accessed through`,
  83: (c) => `${upper(c.reg(0))}, ${article(c.s(1))}, may not be stored there`,
  84: () => "An instruction refers to a map that was not given to the verifier",
  85: (c) =>
    `The same access goes through ${article(c.s(0))} on one path and through ${article(c.s(1))} on another`,
  95: () => "A pointer to a local variable is stored in a local variable of a calling function",
  150: () =>
    "A part of the stack that holds the state of an iterator is accessed; only its own functions may touch it",
};

/** What was added to the pointer, in the words of the line. */
function indexOf(c: Parameters<Say>[0]): string {
  const index = indexIn(c.source.lineAt(c.report.instruction));
  return index === undefined ? "a number" : `\`${index}\``;
}

function negative(c: Parameters<Say>[0], operand: number): boolean {
  return BigInt(c.report.operands[operand] ?? 0) < 0n;
}
