/**
 * Stable codes of the verifier's answers. Numbers and meanings are append-only: a code that is no longer
 * given stays in the table. `{0}` in a template is the first operand of the report.
 * @module
 */

/** What an answer other than "accepted" means. */
export type CodeClass = "unsafe" | "not-proved" | "unsupported" | "limit";

/** One code. */
export interface CodeFacts {
  /** Number; `WV0001` is 1. */
  number: number;
  /** Short name in kebab case. */
  name: string;
  class: CodeClass;
  /** Message with `{n}` for operands. */
  template: string;
}

// deno-fmt-ignore
const TABLE: [number, string, CodeClass, string][] = [
  // program structure
  [1, "malformed-request", "unsupported", "The request to the verifier is malformed: {0}"],
  [2, "empty-program", "unsafe", "The program has no instructions"],
  [3, "program-too-large", "limit", "The program has {0} instructions; the kernel takes {1}"],
  [4, "unknown-opcode", "unsafe", "Instruction has opcode {0}, which no kernel knows"],
  [5, "reserved-field", "unsafe", "Instruction with opcode {0} uses a reserved field"],
  [6, "bad-register", "unsafe", "Instruction names register r{0}; there are r0 to r10"],
  [7, "frame-pointer-write", "unsafe", "r10 is the frame pointer and read only, but it is written"],
  [8, "jump-out-of-range", "unsafe", "Jump goes to instruction {0}, outside its function"],
  [9, "jump-into-ld-imm64", "unsafe", "Jump goes into the second half of the 16-byte instruction before {0}"],
  [10, "incomplete-ld-imm64", "unsafe", "The 16-byte instruction is incomplete"],
  [11, "falls-off-end", "unsafe", "The last instruction of a function is neither exit nor jump"],
  [12, "unreachable-instruction", "unsafe", "Instruction {0} can never be reached"],
  [13, "recursive-call", "unsafe", "Function at {0} calls itself, directly or through others"],
  [14, "too-many-functions", "limit", "The program has {0} functions; the kernel takes {1}"],
  [15, "call-depth", "limit", "Calls nest {0} deep; the kernel takes {1} frames"],
  [16, "stack-depth", "unsafe", "The call chain uses {0} bytes of stack; {1} are there"],
  [17, "infinite-loop", "unsafe", "The loop comes back to instruction {0} with nothing changed: it never ends"],
  [18, "too-many-maps", "limit", "The program uses {0} maps; the kernel takes {1}"],
  [19, "stack-before-tail-call", "unsafe", "The function uses {0} bytes of stack in a call chain with tail calls; fewer than {1} are allowed"],
  [20, "bad-subprogram-table", "unsafe", "Function {0} of the table does not start where a function can start"],
  // limits
  [30, "visit-limit", "limit", "Verification stopped after {0} instruction visits, the limit"],
  [31, "state-limit", "limit", "Verification stopped with {0} states, the limit"],
  [32, "memory-limit", "limit", "Verification stopped at {0} bytes of memory, the limit"],
  [33, "branch-limit", "limit", "Verification stopped with {0} branches waiting, the limit"],
  // registers
  [40, "uninitialised-register", "unsafe", "r{0} is read but was never written on this path"],
  [41, "pointer-arithmetic", "unsafe", "Arithmetic {1} on r{0}, a {2}, is not allowed"],
  [42, "pointer-variable-offset", "not-proved", "r{0}, a {1}, must keep a fixed offset, but a variable one ({2}..{3}) is added"],
  [43, "pointer-offset-range", "not-proved", "Offset {1}..{2} of r{0} leaves the range that pointers may move in (2^29)"],
  [44, "null-pointer-arithmetic", "unsafe", "r{0} may be NULL and is moved before the check for NULL"],
  [45, "pointer-plus-pointer", "unsafe", "r{0} and r{1} are both pointers and are added"],
  [46, "shift-out-of-range", "unsafe", "Shift by {0} in a {1}-bit operation"],
  [47, "division-by-zero", "unsafe", "Division by the constant 0"],
  [48, "pointer-comparison", "unsafe", "r{0} and r{1} are pointers that cannot be compared"],
  [49, "pointer-leak", "unsafe", "r{0}, a {1}, would leak a kernel address"],
  // memory
  [60, "not-a-pointer", "unsafe", "r{0}, a {1}, is used as an address"],
  [61, "null-dereference", "unsafe", "r{0}, a {1}, may be NULL and is used without a check"],
  [62, "stack-out-of-bounds", "unsafe", "{0} bytes at stack offset {1}..{2} lie outside the frame (-512..-1)"],
  [63, "stack-misaligned", "unsafe", "{0} bytes at stack offset {1} are not aligned"],
  [64, "stack-uninitialised", "unsafe", "Stack bytes {0}..{1} are read but were never written"],
  [65, "stack-spill-corrupted", "unsafe", "Stack offset {0} holds part of a saved pointer, which may not be read or overwritten in parts"],
  [66, "map-value-out-of-bounds", "not-proved", "{1} bytes at offset {2}..{3} of the value of map {0} are accessed; the value has {4} bytes"],
  [67, "map-value-special-field", "unsafe", "{1} bytes at offset {2}..{3} of map {0} touch a field that only helpers may touch"],
  [68, "map-read-only", "unsafe", "Map {0} is read only for programs, but is written"],
  [69, "map-write-only", "unsafe", "Map {0} is write only for programs, but is read"],
  [70, "packet-out-of-bounds", "not-proved", "{1} bytes at offset {2}..{3} of the packet are accessed through r{0}; {4} bytes are proved to be there"],
  [71, "packet-read-only", "unsafe", "Programs of this type may not write to the packet"],
  [72, "packet-offset-unbounded", "not-proved", "Packet pointer r{0} has an offset without a useful upper bound ({1}..{2})"],
  [73, "context-access", "unsafe", "{1} bytes at offset {0} of the context cannot be {2} by this type of program"],
  [74, "context-offset", "unsafe", "The context pointer in r{0} was moved (offset {1}) and cannot be used so"],
  [75, "memory-out-of-bounds", "not-proved", "{1} bytes at offset {2}..{3} are accessed through r{0}; the memory has {4} bytes"],
  [76, "memory-read-only", "unsafe", "r{0}, a {1}, points to read-only memory, but is written"],
  [77, "socket-access", "unsafe", "{1} bytes at offset {0} of {2} cannot be read"],
  [78, "misaligned-access", "unsafe", "{0} bytes at offset {1} through r{2} are not aligned"],
  [79, "atomic-target", "unsafe", "Atomic operations on a {1} (r{0}) are not allowed"],
  [80, "pointer-sign-extension", "unsafe", "A pointer field of the context is loaded with sign extension"],
  [81, "map-direct-value", "unsafe", "Address {1} inside map {0} cannot be taken"],
  [82, "packet-end-arithmetic", "unsafe", "The end-of-packet pointer in r{0} cannot be moved or used as an address"],
  [83, "pointer-store", "unsafe", "Pointer in r{0} may not be stored there"],
  [84, "unknown-map", "unsafe", "Instruction refers to map {0}, which was not handed to the verifier"],
  [85, "mixed-pointers", "unsafe", "The same instruction is reached with a {0} and with a {1} as its address"],
  [86, "kernel-struct-access", "unsafe", "{3} bytes at offset {4} of {1} ({2} bytes) cannot be read through r{0}: {5}"],
  [87, "kernel-struct-write", "unsafe", "r{0} points to {1}, which programs may only read, and is written"],
  [88, "kernel-pointer-opaque", "not-proved", "r{0} points to kernel memory that no struct describes; it cannot be read directly"],
  [89, "kernel-struct-licence", "unsafe", "Fields of {1} may be read only by programs with a GPL-compatible licence (r{0})"],
  [90, "kernel-pointer-elsewhere", "unsafe", "r{0} points to {1}, which cannot be used directly"],
  [95, "stack-pointer-in-caller", "unsafe", "A pointer to the stack is saved at offset {0} of a calling function's stack"],
  // calls
  [100, "unknown-helper", "unsafe", "There is no helper number {0}"],
  [101, "helper-not-allowed", "unsafe", "{1} (helper {0}) is not available to this type of program"],
  [102, "helper-needs-gpl", "unsafe", "{1} (helper {0}) may be called only by programs with a GPL-compatible licence"],
  [103, "argument-type", "unsafe", "Argument r{0} of {1} is a {2}; expected: {3}"],
  [104, "argument-null", "unsafe", "Argument r{0} of {1} may be NULL"],
  [105, "argument-size-unbounded", "not-proved", "Size in r{0} of {1} has no useful bounds ({2}..{3})"],
  [106, "argument-size-zero", "not-proved", "Size in r{0} of {1} may be zero"],
  [107, "argument-not-constant", "not-proved", "r{0} of {1} must be a known constant, and not too large"],
  [108, "map-helper-mismatch", "unsafe", "{1} does not work on maps of type {2} (map {0})"],
  [109, "argument-string", "unsafe", "r{0} of {1} must point to a constant string in read-only data"],
  [110, "packet-argument", "unsafe", "{1} takes no packet pointer in r{0}"],
  [111, "context-argument-offset", "unsafe", "{1} takes the context unmoved in r{0}; its offset is {2}"],
  [112, "sleepable-only", "unsafe", "{0} may sleep; this program may not"],
  [113, "function-expected", "unsafe", "r{0} of {1} must be a function of this program"],
  [114, "argument-value", "unsafe", "r{0} of {1} has a value that is not allowed: {2}"],
  [115, "lock-map-program", "unsafe", "Values of map {0} have a lock; programs of type {1} may not use such maps"],
  [116, "argument-untrusted", "unsafe", "Argument r{0} of {1} is an untrusted {2}: what it points to may be gone"],
  [117, "not-sleepable", "unsafe", "Programs of this type may not sleep, but the program is loaded as one that does"],
  [118, "sleepable-map", "unsafe", "Map {0} of type {1} cannot be used by a program that sleeps"],
  [119, "second-storage-map", "unsafe", "Map {0} is a second storage of control groups of its type beside map {1}; a program has one"],
  // references
  [120, "reference-leak", "unsafe", "The {0} acquired at instruction {1} is not released on this path"],
  [121, "reference-not-owned", "unsafe", "r{0} of {1} holds nothing that could be released"],
  [122, "reference-at-tail-call", "unsafe", "A tail call while the {0} acquired at instruction {1} is not released"],
  [123, "reference-offset", "unsafe", "r{0} of {1} must be the pointer as it was acquired; it was moved by {2}"],
  [124, "reference-in-callback", "unsafe", "The {0} acquired at instruction {1} leaves the callback unreleased"],
  // locks
  [125, "lock-not-found", "unsafe", "r{0} of {1} points to no lock of a map value (offset {2})"],
  [127, "lock-not-held", "unsafe", "The lock in r{1} is released, but it is not the one that is held (taken at instruction {0}; -1: none is)"],
  [128, "call-under-lock", "unsafe", "{0} is called while the lock taken at instruction {1} is held"],
  [129, "lock-leak", "unsafe", "The lock taken at instruction {0} is not released on this path"],
  // exit
  [130, "return-value", "not-proved", "The program returns {0}..{1}; allowed here: {2}..{3}"],
  [131, "return-pointer", "unsafe", "The program returns a {0} where a number is expected"],
  [132, "return-uninitialised", "unsafe", "The program ends without a return value in r0"],
  [133, "callback-return", "not-proved", "The callback returns {0}..{1}; allowed: {2}..{3}"],
  [134, "tail-call-in-callback", "unsafe", "A tail call in the function at {0}, which a helper calls back, or in one that it calls"],
  // sub-programs
  [140, "global-argument", "unsafe", "Argument r{0} of global function {1} is a {2}; its type demands: {3}"],
  [141, "global-return", "unsafe", "Global function {0} must return a number"],
  [142, "call-stack-pointer-return", "unsafe", "A function returns a pointer into its own stack"],
  [143, "ld-abs", "unsafe", "Packet load instructions (LD_ABS, LD_IND) are not allowed here: {0}"],
  [144, "callback-uninitialised", "unsafe", "Callback argument r{0} is not usable: {1}"],
  // timers
  [126, "timer-not-found", "unsafe", "r{0} of {1} points to no timer of a map value (offset {2})"],
  [145, "timer-of-other-map", "unsafe", "The map in r{0} of {1} is not the one that the timer lies in"],
  [146, "timer-map-program", "unsafe", "Values of map {0} have a timer; programs of type {1} may not use such maps"],
  // kernel functions
  [150, "iterator-memory", "unsafe", "Stack bytes from offset {0} on hold the state of an iterator, which only its own functions may touch"],
  [151, "kernel-function-needs-gpl", "unsafe", "{0} is a kernel function, which only programs with a GPL-compatible licence may call"],
  [152, "kernel-function-not-allowed", "unsafe", "{0} is a kernel function that programs of this type may not call"],
  // unsupported
  [160, "unsupported-program-type", "unsupported", "Programs of type {0} are not supported by this verifier"],
  [161, "unsupported-helper", "unsupported", "{1} (helper {0}) is not supported by this verifier"],
  [162, "unsupported-kfunc", "unsupported", "Kernel function {1} (BTF id {0}) is not supported by this verifier"],
  [163, "unsupported-instruction", "unsupported", "{0} is not supported by this verifier"],
  [164, "unsupported-btf-pointer", "unsupported", "Access through kernel pointers by type (r{0}) is not supported by this verifier"],
  [165, "unsupported-global-argument", "unsupported", "Argument {0} of global function {1} has a type that this verifier does not support"],
  [166, "unsupported-map", "unsupported", "Maps of type {1} (map {0}) are not supported by this verifier"],
  [167, "unsupported-strict", "unsupported", "Strict (unprivileged) verification is not supported for: {0}"],
  [168, "unsupported-profile", "unsupported", "Kernel profile {0} is not built into this verifier"],
  [169, "unsupported-extern", "unsupported", "Load of a kernel symbol by BTF id {0} is not supported by this verifier"],
  [170, "type-question", "unsupported", "The type of {2} bytes at offset {1} of kernel type {0} is not known to this verifier"],
  [171, "unknown-attach-target", "unsupported", "What the program attaches to, {0}, cannot be judged: {1}"],
  [172, "unsupported-attach-target", "unsupported", "Programs on {0} are not supported by this verifier: {1}"],
  [174, "absent-kernel-function", "unsafe", "The kernel has no function {0}, and the call of it can be reached"],
  [173, "unsupported-exception-callback", "unsupported", "Exception callbacks ({0}) are not supported by this verifier"],
  [199, "internal", "limit", "The verifier found itself in a state that must not be: {0}"],
];

/** Codes that no version gives any more; their numbers stay theirs. */
export const RETIRED: ReadonlySet<number> = new Set([144]);

/** All codes by number. */
export const CODES: ReadonlyMap<number, CodeFacts> = new Map(
  TABLE.map(([number, name, klass, template]) => [number, { number, name, class: klass, template }]),
);

/** `WV0070` for 70. */
export function codeLabel(number: number): string {
  return "WV" + String(number).padStart(4, "0");
}
