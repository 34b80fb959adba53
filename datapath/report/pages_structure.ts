/** Pages about the shape of a program, limits and registers. @module */
import { pages } from "./page.ts";

const COMPILER = "Compile the object again; a compiler does not write this";

// deno-fmt-ignore
/** WV0001 to WV0049. */
export const STRUCTURE_PAGES = pages([
  [1, "The verifier was handed something that is not a complete question. No program was judged.", "Report this with the object: it is a defect of the tool, not of the program"],
  [2, "The program has no instruction at all, so it cannot even return.", "Give the function a body that returns a value", `SEC("xdp") int p(struct xdp_md *ctx) { __builtin_unreachable(); }`, `SEC("xdp") int p(struct xdp_md *ctx) { return XDP_PASS; }`],
  [3, "The kernel takes at most one million instructions in one program.", "Split the program with tail calls, or loop instead of unrolling", "#pragma unroll\nfor (i = 0; i < 100000; i++) ...", "for (i = 0; i < 100000; i++) ...   /* no unrolling */"],
  [4, "An instruction has an operation code that no kernel knows.", COMPILER],
  [5, "Fields of an instruction that must be zero are not. Kernels refuse this so that they can give the fields a meaning later.", COMPILER],
  [6, "An instruction names a register beyond r10.", COMPILER],
  [7, "r10 points to the top of the function's stack and can only be read.", COMPILER, 'asm volatile ("r10 += -8");', 'asm volatile ("r1 = r10; r1 += -8");'],
  [8, "A jump leaves its function.", COMPILER],
  [9, "A jump goes into the middle of a 16-byte instruction.", COMPILER],
  [10, "The object ends, or goes on with something else, in the middle of a 16-byte instruction.", COMPILER],
  [11, "A function ends with an instruction after which the processor would run on into whatever follows.", "End every path of the function with a return", "int f(void) { for (;;) g(); __builtin_unreachable(); }", "int f(void) { g(); return 0; }"],
  [12, "The kernel refuses programs with instructions that nothing can reach.", "Remove the dead code, or compile with -O2 so that the compiler does", 'asm volatile ("exit; r0 = 1; exit");', 'asm volatile ("r0 = 1; exit");'],
  [13, "eBPF functions may not call themselves, directly or through each other: the stack is small and fixed.", "Turn the recursion into a loop with a bound", "static int depth(struct n *x) { return x ? 1 + depth(x->next) : 0; }", "for (i = 0; i < MAX && x; i++) x = x->next;"],
  [14, "A program may consist of at most 256 functions.", "Let the compiler inline small functions, or split the program with tail calls"],
  [15, "Calls may nest eight frames deep.", "Inline a function on the way: mark it static __always_inline", "a() -> b() -> c() -> ... -> i()", "static __always_inline int c(void) { ... }"],
  [16, "A call chain has 512 bytes of stack for all its functions together.", "Move large local variables into a per-CPU array map", "int p(...) { char buf[600]; ... }", "struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); ... } scratch SEC(\".maps\");\nchar *buf = bpf_map_lookup_elem(&scratch, &zero);\nif (!buf) return 0;"],
  [17, "A loop comes back to where it was without anything having changed, so it would run for ever.", "Give the loop a counter with a constant bound", "while (flag) { }", "for (i = 0; i < 64 && flag; i++) { ... }"],
  [18, "A program may use at most 64 maps.", "Join maps of one shape into one with a larger key"],
  [19, "A function that makes tail calls, and all its callers, may use 256 bytes of stack each.", "Use less stack in functions on the way to the tail call", "char buf[300]; helper_with_tail_call(ctx);", "char *buf = bpf_map_lookup_elem(&scratch, &zero);"],
  [20, "The table of functions does not fit the instructions.", COMPILER],
  [30, "Every path is followed with the values it has; when paths multiply, the limit of one million visits ends the proof. The kernel has the same limit.", "Make branches independent: bound loops tighter, move work into a function that is verified by itself (not static), or split with a tail call", "for (i = 0; i < 1000; i++) if (p[i]) n++;   /* each turn doubles the paths */", "for (i = 0; i < 64; i++) n += !!p[i];   /* no branch */"],
  [31, "More states wait or are remembered than the limit allows.", "Reduce branching before loops; split the program with a tail call"],
  [32, "The proof needs more memory than it may take.", "Reduce branching and live variables in loops; split the program with a tail call"],
  [33, "Too many branches wait to be followed (the kernel: 8192).", "Reduce nested branches; split the program with a tail call"],
  [40, "On at least one path a variable is used before anything was assigned to it. What it holds is left over from something else.", "Initialise the variable where it is declared", "int rc;\nif (len > 10) rc = 1;\nreturn rc;", "int rc = 0;\nif (len > 10) rc = 1;\nreturn rc;"],
  [41, "Only additions and subtractions keep a pointer a pointer; masking, multiplying or shifting one could make it point anywhere.", "Compute the offset as a number first, then add it to the pointer", "p = (void *)((long)p & ~7);", "off &= ~7; p = base + off;"],
  [42, "Pointers of this kind can be moved by constants only, because their layout has a meaning at each offset.", "Use a constant offset, or copy the data to the stack first", "x = *(int *)((void *)ctx + i);", "switch (i) { case 0: x = ctx->mark; break; ... }"],
  [43, "A pointer is moved so far that its address could wrap round.", "Bound the offset before it is added", "p += n;", "if (n > 1500) return 0;\np += n;"],
  [44, "A pointer that may be NULL is moved before it was compared with NULL; afterwards the comparison would no longer be able to find NULL.", "Check the pointer for NULL directly after it was returned", "v = bpf_map_lookup_elem(&m, &k);\nv += 8;\nif (!v) return 0;", "v = bpf_map_lookup_elem(&m, &k);\nif (!v) return 0;\nv += 8;"],
  [45, "The sum of two pointers points nowhere.", "Add a number to a pointer, or subtract one pointer from another", "p = data + (long)data_end;", "len = data_end - data;"],
  [46, "Shifting by the width of the value or more has no defined result.", "Shift by less than the width", "x <<= 64;", "x = 0;"],
  [47, "The divisor is the constant zero.", "Check the divisor; a constant zero is a mistake", "y = x / 0;", "y = n ? x / n : 0;"],
  [48, "These two pointers have nothing to do with each other; how they compare means nothing.", "Compare packet pointers with data_end, others with NULL", "if (data > value) ...", "if (data + 14 > data_end) return XDP_DROP;"],
  [49, "A kernel address would leave the program: it is stored where others can read it, returned, compared with a number, copied in part or handed to a helper as a plain number. An error with --strict only, as in a load without privileges.", "Hand out the data itself, not the pointer to it", "*value = (__u64)ctx;", "*value = ctx->len;"],
]);
