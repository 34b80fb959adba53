/**
 * What kind of reason the kernel gave for a rejection. Everything that is not recognisably a matter of form or
 * policy counts as a matter of memory safety: an unknown message must not hide a hole.
 *
 * @module
 */

/** `memory` stands for memory, types, references, bounds, stack, context and packets. */
export type ReasonKind =
  | "memory"
  | "return-value"
  | "helper-policy"
  | "structure"
  | "termination"
  | "complexity"
  | "locks-and-regions"
  | "btf-and-globals"
  | "environment";

/** In this order: the first match decides. */
const PATTERNS: readonly [ReasonKind, RegExp][] = [
  [
    "environment",
    /(reference to|bpf_attach) .*not found|Failed to find|extern|does not support|not supported by|JIT does not|arena|BPF_PROG_LOAD/,
  ],
  [
    "return-value",
    /At (program|callback|async callback|subprogram) exit|should have been (in|0)|BPF_PROG_TYPE_.* must return|register R0 has/,
  ],
  [
    "complexity",
    /too large|too complex|too many|processed \d{7}|1000001|combined stack size|exceeds limit|the call stack of|stack frames? (is|too)/,
  ],
  ["termination", /infinite loop|back-edge|loop detected|recursive|recursion|may_goto/],
  [
    "structure",
    /unreachable insn|jump (out of range|into the middle|too far)|last insn is not|invalid (shift|BPF_LD_IMM|bpf_ld_imm64|insn|opcode)|unknown (opcode|insn)|uses reserved fields|reserved|div by zero|R0 !read_ok.*|invalid destination|no subprog|only (allowed|supported) in|BPF_(ADDR_SPACE|NEG|END|MOV|ALU|CALL|EXIT|JA|JMP|ATOMIC|STX?|LDX|RAW)\b.*reserved|invalid atomic operand size|BPF_LD_\[ABS\|IND\].*(cannot|from|only)/,
  ],
  [
    "helper-policy",
    /unknown func|cannot use helper|program of this type|not allowed in|from non-GPL|GPL compatible|calling kernel function|cannot pass map_type|kfunc|might sleep|sleepable/,
  ],
  [
    "locks-and-regions",
    /spin_?lock|_lock|rcu_read|preempt|irq|lock(ed)? region|timer|graph|kptr|list_|rb_|wq\b|callback/,
  ],
  [
    "btf-and-globals",
    /BTF|func_info|global func|Global function|Arg#\d|arg#\d|exception|tail_call.*subprog|freplace|tracing/,
  ],
];

/** The kind of a rejection, by the kernel's message (the last lines of its log, or what a selftest expects of it). */
export function reasonKind(message: string): ReasonKind {
  // A register that was never written is a matter of memory, R0 at the end included.
  if (/!read_ok/.test(message)) return "memory";
  for (const [kind, pattern] of PATTERNS) if (pattern.test(message)) return kind;
  return "memory";
}
