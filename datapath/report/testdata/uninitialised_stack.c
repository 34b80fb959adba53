/* A place of the stack is read as a pointer to the packet, but only one path wrote it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
__attribute__((naked)) int read_unwritten(struct __sk_buff *skb)
{
	asm volatile("r2 = *(u32 *)(r1 + 8);"
		     "if r2 == 0 goto 1f;"
		     "*(u64 *)(r10 - 8) = r10;"
		     "1: r3 = *(u64 *)(r10 - 8);"
		     "r0 = *(u8 *)(r3 - 8);"
		     "exit");
}

char LICENSE[] SEC("license") = "GPL";
