/** Pages about helpers, references, results, functions, and what is not supported. @module */
import { pages } from "./page.ts";

const OWN =
  "Nothing is known to be wrong. The kernel may accept the program; this verifier does not follow this feature yet";

// deno-fmt-ignore
/** WV0100 to WV0199. */
export const CALL_PAGES = pages([
  [100, "No kernel has a helper with this number. Number 195896080 stands for a field or type that the target kernel does not have.", "Guard accesses with bpf_core_field_exists(), or correct the helper's number", "x = BPF_CORE_READ(task, gone_field);", "if (bpf_core_field_exists(task->gone_field)) x = BPF_CORE_READ(task, gone_field);"],
  [101, "Which helpers can be called depends on the type of the program.", "Use another helper, or move the work into a program of a type that has this one", 'SEC("xdp") ... bpf_skb_store_bytes(...)', 'SEC("tc") ... bpf_skb_store_bytes(...)'],
  [102, "The helper is reserved for programs under a GPL-compatible licence.", 'Declare the licence if it is true: char LICENSE[] SEC("license") = "GPL" (or "Dual BSD/GPL", "Dual MIT/GPL")', 'char LICENSE[] SEC("license") = "Proprietary";', 'char LICENSE[] SEC("license") = "GPL";'],
  [103, "The helper expects another kind of value in this argument.", "Pass what the helper's documentation asks for (man 7 bpf-helpers)", "bpf_map_lookup_elem(&m, key);   /* key is a number */", "bpf_map_lookup_elem(&m, &key);"],
  [104, "The helper does not take NULL in this argument.", "Check the pointer for NULL before the call", "sk = bpf_sk_lookup_tcp(...);\nbpf_sk_release(sk);", "sk = bpf_sk_lookup_tcp(...);\nif (sk) bpf_sk_release(sk);"],
  [105, "The helper would read or write as many bytes as this number says; it could be anything.", "Bound the size before the call", "bpf_skb_load_bytes(skb, 0, buf, n);", "if (n > sizeof(buf)) return 0;   /* __u32 n */\nbpf_skb_load_bytes(skb, 0, buf, n);"],
  [106, "The helper does not take a size of zero.", "Check that the size is at least 1 before the call", "if (n > 64) return 0;\nbpf_skb_load_bytes(skb, 0, buf, n);", "if (n == 0 || n > 64) return 0;\nbpf_skb_load_bytes(skb, 0, buf, n);"],
  [107, "The helper needs a value here that is known before the program runs.", "Pass a constant", "bpf_ringbuf_reserve(&rb, n, 0);", "bpf_ringbuf_reserve(&rb, sizeof(struct event), 0);"],
  [108, "This helper and this type of map do not belong together.", "Use the helper made for the map's type", "bpf_map_lookup_elem(&prog_array, &k);", "bpf_tail_call(ctx, &prog_array, 3);"],
  [109, "The argument must be a constant string in read-only data.", "Use a string literal, or a static const char array"],
  [110, "The helper may change the packet and cannot take a pointer into it.", "Copy the bytes to the stack and pass the copy", "bpf_skb_store_bytes(skb, 0, data, 6, 0);", "__builtin_memcpy(mac, data, 6);\nbpf_skb_store_bytes(skb, 0, mac, 6, 0);"],
  [111, "The helper takes the context exactly as the program got it.", "Pass ctx itself, not a pointer into it"],
  [112, "The helper may sleep; only sleepable programs may call it.", "Use a sleepable section (fentry.s, lsm.s, iter.s, syscall)"],
  [113, "The argument must be a function of the same program.", "Pass the name of a static function", "bpf_loop(10, ptr, &ctx, 0);", "static long body(__u32 i, void *ctx) { return 0; }\nbpf_loop(10, body, &ctx, 0);"],
  [114, "The value is outside of what the helper takes here.", "Pass one of the values in the helper's documentation (unknown flags must be 0)"],
  [120, "Something was acquired (a socket, ring buffer memory) and the program can end without giving it back. It would be held for ever.", "Release it on every path before the return: bpf_sk_release(), bpf_ringbuf_submit() or _discard()", "sk = bpf_sk_lookup_tcp(...);\nif (!sk) return 0;\nif (sk->state != 1) return 0;   /* leaks */\nbpf_sk_release(sk);", "sk = bpf_sk_lookup_tcp(...);\nif (!sk) return 0;\nok = sk->state == 1;\nbpf_sk_release(sk);\nif (!ok) return 0;"],
  [121, "The argument is not something that was acquired, or it was released before.", "Release each thing exactly once, and do not use it afterwards", "bpf_sk_release(sk);\nbpf_sk_release(sk);", "bpf_sk_release(sk);"],
  [122, "A tail call does not come back, so what is held would never be released.", "Release before the tail call", "sk = bpf_sk_lookup_tcp(...);\nbpf_tail_call(ctx, &progs, 1);", "if (sk) bpf_sk_release(sk);\nbpf_tail_call(ctx, &progs, 1);"],
  [123, "What is released must be the very pointer that was returned.", "Keep the returned pointer and pass that one", "e += 8;\nbpf_ringbuf_submit(e, 0);", "bpf_ringbuf_submit(e, 0);"],
  [124, "A callback runs many times and must release what it acquires each time.", "Release before the callback returns"],
  [130, "What a program returns decides what the kernel does; for this type and attach point only some values have a meaning.", "Return one of the allowed values; mask or compare a computed one first", 'SEC("cgroup/connect4") int p(...) { return 2; }', 'SEC("cgroup/connect4") int p(...) { return 1;   /* allow; 0 denies */ }'],
  [131, "The program returns an address where a number is expected.", "Return a number", "return (long)value;", "return *value;"],
  [132, "A path reaches the end of the program without having set a return value.", "Return a value on every path", "int p(...) { if (x) return 1; }", "int p(...) { if (x) return 1; return 0; }"],
  [133, "A callback returns 0 to go on or 1 to stop.", "Return 0 or 1 from the callback", "static long body(__u32 i, void *c) { return i; }", "static long body(__u32 i, void *c) { return i > 5; }"],
  [140, "Global functions are verified by themselves, against the types of their parameters; callers must hand over just that.", "Check pointers for NULL, pass ctx as ctx, or make the function static so that it is verified with its caller", "int f(int *p);  ...  f(bpf_map_lookup_elem(&m, &k));", "static __noinline int f(int *p);"],
  [141, "A global function must return a number (or nothing).", "Return a number, or make the function static", "__noinline int *f(void)", "static __noinline int *f(void)"],
  [142, "The function's stack is gone when it returns.", "Let the caller provide the memory", "static int *f(void) { int x = 1; return &x; }", "static void f(int *x) { *x = 1; }"],
  [143, "The old packet load instructions work only in socket filters and tc, with the context in r6, and not while something is held.", "Use bpf_skb_load_bytes()", "x = load_byte(skb, 12);", "bpf_skb_load_bytes(skb, 12, &x, 1);"],
  [144, "What the helper would pass to the callback cannot be used as the callback does.", "Compare the callback's parameters with the helper's documentation"],
  [160, OWN, "Verify with the kernel; this type of program is not covered here"],
  [161, OWN, "Verify with the kernel, or use a helper that is covered"],
  [162, OWN, "Verify with the kernel; kernel functions (kfuncs) are not covered here"],
  [163, OWN, "Verify with the kernel, or compile with -mcpu=v3"],
  [164, OWN, "Read kernel memory with bpf_probe_read_kernel() / BPF_CORE_READ()"],
  [165, OWN, "Make the function static, or pass numbers and sized structs"],
  [166, OWN, "Verify with the kernel; this type of map is not covered here"],
  [167, OWN, "Verify without strict mode"],
  [168, "The verifier's tables were made for other kernels.", "Name a profile that is built in"],
  [169, OWN, "Verify with the kernel; kernel symbols (__ksym) are not covered here"],
  [199, "The verifier met a state that its author thought impossible, and stopped rather than guess.", "Report this with the object: it is a defect of the verifier"],
]);
