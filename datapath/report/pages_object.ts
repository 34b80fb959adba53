/** Codes and pages about objects that cannot be read. Numbers from 201; append-only. @module */
import type { ObjectErrorCode } from "@weir/object";
import { pages } from "./page.ts";

const DAMAGED = "Copy or compile the object again; it is damaged";

/** The numbers of the reader's errors. */
export const OBJECT_CODES: Readonly<Record<ObjectErrorCode, number>> = {
  "not-elf": 201,
  "not-bpf": 202,
  truncated: 203,
  "bad-elf": 204,
  "bad-symbol": 205,
  "bad-relocation": 206,
  "bad-btf": 207,
  "bad-btf-ext": 208,
  "bad-map": 209,
  "bad-program": 210,
  "unresolved-symbol": 211,
  "core-relocation": 212,
  unsupported: 213,
  "too-large": 214,
};

/** Code of a file that the system does not let us read. */
export const UNREADABLE_FILE = 215;
/** Code of an object in which there is no program. */
export const NO_PROGRAM = 216;
/** With `--strict`: the program uses more than half of what the kernel's verifier would spend on it. */
export const HALF_OF_LIMIT = 218;
/** With `--strict` and `--kernel`: the release lacks something that the program needs. */
export const MISSING_IN_KERNEL = 219;
/** Code of a verifier run that broke down or gave an answer that cannot be trusted. */
export const VERIFIER_FAILED = 217;

// deno-fmt-ignore
/** WV0201 and on. */
export const OBJECT_PAGES = pages([
  [201, "The file is not an ELF object.", "Give a file that clang -target bpf -c wrote", "weir verify prog.c", "clang -target bpf -O2 -g -c prog.c -o prog.o && weir verify prog.o"],
  [202, "The object was compiled for another processor.", "Compile with clang -target bpf", "clang -c prog.c", "clang -target bpf -O2 -g -c prog.c"],
  [203, "The object refers to bytes beyond its end.", DAMAGED],
  [204, "The object's headers contradict each other, or it is of a form that is not read (32-bit, big-endian, an executable).", DAMAGED],
  [205, "A symbol lies outside its section or has no readable name.", DAMAGED],
  [206, "A relocation points to a place where nothing can be put, or to something that is not there.", DAMAGED],
  [207, "The type information (BTF) is damaged.", DAMAGED],
  [208, "The line and function information (.BTF.ext) is damaged.", DAMAGED],
  [209, "A map's definition cannot be understood.", "Define maps as libbpf documents it, and compile with -g", "struct { int type; } m SEC(\".maps\");", "struct {\n  __uint(type, BPF_MAP_TYPE_HASH);\n  __uint(max_entries, 1024);\n  __type(key, __u32);\n  __type(value, __u64);\n} m SEC(\".maps\");"],
  [210, "A program cannot be told apart, or its section does not say what it is.", "Use a section name that libbpf knows, or say the type with --type", 'SEC("2/7") int p(struct __sk_buff *skb)', 'SEC("tc") int p(struct __sk_buff *skb)   /* or: weir verify --type tc */'],
  [211, "The object uses a function or variable that it does not contain.", "Compile all sources, link with bpftool gen object, or mark kernel symbols __ksym", "extern int helper(void);", "static __always_inline int helper(void) { ... }"],
  [212, "An access that is adjusted to the running kernel (CO-RE) cannot be resolved.", "Give the types of the kernel that it shall run on with --btf, and compile with -g"],
  [213, "The object uses something that this reader does not know.", "Use maps, global variables and functions in their usual sections"],
  [214, "The object is larger than any that a kernel would take.", "Split the object"],
  [215, "The file could not be opened.", "Check the path and the permissions"],
  [216, "The object has no program in it.", 'Put functions into sections with SEC("...")', "int p(struct xdp_md *ctx) { return 2; }", 'SEC("xdp") int p(struct xdp_md *ctx) { return 2; }'],
  [217, "The verifier broke down, or its answer did not fit the question. The program counts as not accepted.", "Report this with the object: it is a defect of the verifier"],
  [218, "The program is safe, but proving it took more than half of the instruction visits that the kernel spends before it gives up. Other kernels count a little differently, and the next change may be one too many. An error with --strict only.", "Look at the lines that cost most (-v), bound loops tighter, move work into a global function or split with a tail call"],
  [219, "The program is safe, but the kernel release that was asked for lacks something that it uses. An error with --strict only; else it is listed beside the verdict.", "Use something older, or ask for the release from which on it exists", "weir verify --strict --kernel 5.10 prog.o", "weir verify --strict --kernel 5.17 prog.o   /* bpf_loop came with it */"],
]);
