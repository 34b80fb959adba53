/** Pages about memory: stack, maps, packets, context. @module */
import { pages } from "./page.ts";

const CHECKED =
  `struct iphdr *ip4 = data + 14;\nif ((void *)(ip4 + 1) > data_end) return XDP_DROP;\nproto = ip4->protocol;`;

// deno-fmt-ignore
/** WV0060 to WV0085. */
export const MEMORY_PAGES = pages([
  [60, "Something that is a number is used as an address. Often it was a pointer once: a packet pointer is a number again after a helper changed the packet, and a pointer that was masked, cast to 32 bits or saved in parts is a number too.", "Read the pointer anew from where it came from, directly before its use", "__u32 p = (long)data;\nx = *(char *)(long)p;", "x = *(char *)data;"],
  [61, "A pointer that a helper returned may be NULL and was not compared with NULL on this path.", "Check the pointer for NULL before its first use", "struct v *v = bpf_map_lookup_elem(&m, &key);\nv->count++;", "struct v *v = bpf_map_lookup_elem(&m, &key);\nif (!v) return 0;\nv->count++;"],
  [62, "The access lies outside the function's 512 bytes of stack.", "Bound the index before it is used, or move the array into a map", "char buf[16];\nbuf[n] = 0;", "char buf[16];\nif (n >= sizeof(buf)) return 0;\nbuf[n] = 0;"],
  [63, "Accesses to the stack must be aligned to their size.", "Align the variable or copy it byte by byte (__builtin_memcpy)", "*(__u64 *)(buf + 1) = x;", "__builtin_memcpy(buf + 1, &x, 8);"],
  [64, "Part of the stack is read, or handed to a helper, that was not written on this path. Padding inside a struct counts too. Loads with CAP_PERFMON may read such bytes, so this is an error with --strict only, but what they hold is left over from something else and seldom what was meant.", "Initialise the whole variable: struct key k = {}, or __builtin_memset when it has padding", "struct key k;\nk.ip = ip;\nbpf_map_lookup_elem(&m, &k);   /* the padding was never written */", "struct key k;\n__builtin_memset(&k, 0, sizeof(k));\nk.ip = ip;\nbpf_map_lookup_elem(&m, &k);"],
  [65, "A pointer that was saved on the stack is read or overwritten in parts; half a pointer is no pointer.", "Do not read saved pointers through types of another size"],
  [66, "The access is not proved to lie inside the map's value.", "Compare the index with the size of the value before the access", "v->slots[i] = 1;", "if (i >= 16) return 0;   /* __u32 i */\nv->slots[i] = 1;"],
  [67, "Locks, timers, lists and kernel pointers inside a value may only be touched through their helpers.", "Leave the field alone; copy the other fields one by one", "*v = *other;   /* copies the lock too */", "v->count = other->count;"],
  [68, "The map can be written by user space only (.rodata, a const variable, or BPF_F_RDONLY_PROG).", "Drop const from the variable so that it goes to .data, or write to another map", "const volatile int limit = 5;\nint p(...) { *(int *)&limit = 6; }", "int limit = 5;\nint p(...) { limit = 6; }"],
  [69, "The map was made with BPF_F_WRONLY_PROG; programs may not read it.", "Drop the flag, or read from another map"],
  [70, "Packet bytes may be read only after a comparison with data_end has shown that they are there. The proof belongs to one packet pointer; it ends when a helper may change the packet.", "Compare the end of what you access with data_end directly before the access", "struct iphdr *ip4 = data + 14;\nproto = ip4->protocol;", CHECKED],
  [71, "This type of program may look at packets but not change them directly.", "Use a helper that changes packets, or a program type that may write (tc, XDP)", "*(char *)data = 0;   /* in a socket filter */", 'SEC("tc") ... *(char *)data = 0;'],
  [72, "The packet pointer was moved by a number that could be large; no comparison with data_end can then be trusted.", "Bound the number before adding it to the pointer", "p = data + len;\nif (p + 4 > data_end) return 0;", "if (len > 1500) return 0;\np = data + len;\nif (p + 4 > data_end) return 0;"],
  [73, "Each type of program may use some fields of its context, whole and at their own width. Pointer fields (data, data_end, sk) cannot be read in parts.", "Use the field with the width it is declared with, and only fields that this type of program has", "__u16 d = *(__u16 *)&skb->data;", "void *data = (void *)(long)skb->data;"],
  [74, "The context pointer was moved; helpers and accesses need the one that the program was started with.", "Keep ctx unchanged and access its fields by name", "ctx = (void *)ctx + 8;\nx = ctx->mark;", "x = ctx->mark;"],
  [75, "The access is not proved to lie inside the memory.", "Compare the offset with the size of the memory before the access", "e = bpf_ringbuf_reserve(&rb, 16, 0);\nif (e) ((char *)e)[20] = 0;", "e = bpf_ringbuf_reserve(&rb, 24, 0);\nif (e) ((char *)e)[20] = 0;"],
  [76, "The memory can only be read.", "Copy what you need to the stack and change the copy"],
  [77, "This field of a socket cannot be read so.", "Read fields of struct bpf_sock and bpf_tcp_sock by name, at their width", "x = *(__u64 *)&sk->family;", "x = sk->family;"],
  [78, "The access is not aligned to its size, and this load demands it.", "Use __builtin_memcpy, or access single bytes"],
  [79, "Atomic operations work on maps, the stack and similar memory, not on packets, sockets or the context.", "Update a variable or a map value atomically instead", "__sync_fetch_and_add((int *)data, 1);", "__sync_fetch_and_add(&value->count, 1);"],
  [80, "A pointer field of the context is loaded with sign extension, which would break the pointer.", "Cast through unsigned long: (void *)(long)ctx->data", "long d = (int)ctx->data;", "void *data = (void *)(long)ctx->data;"],
  [81, "The address lies outside the map's value, or the map has no address of that kind.", "Use a variable that lies inside the section"],
  [82, "data_end marks the end of the packet: it can be compared, not moved or read through.", "Move the other pointer and compare it with data_end", "if (data > data_end - 14) return 0;", "if (data + 14 > data_end) return 0;"],
  [83, "A pointer may not be stored in memory that others can read.", "Store the data itself"],
  [84, "An instruction refers to a map that the loader did not provide.", "Load the object with a loader that creates its maps"],
  [85, "The kernel rewrites accesses to the context and to sockets when it loads the program. One instruction that is reached with such a pointer on one path and with another kind of pointer on another cannot be rewritten for both.", "Access the context in each branch by itself; a compiler that merged the branches is kept from it by barrier_var() or asm volatile(\"\")", "p = flag ? (void *)skb : (void *)buf;\nx = *(__u32 *)(p + 8);", "x = flag ? skb->mark : *(__u32 *)(buf + 8);"],
]);
