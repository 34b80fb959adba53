/* The counter is only set on one of two paths. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
__attribute__((naked)) int count(struct __sk_buff *skb)
{
	asm volatile("r2 = *(u32 *)(r1 + 8);"
		     "if r2 == 0 goto 1f;"
		     "r6 = 1;"
		     "1: r0 = r6;"
		     "exit");
}

char LICENSE[] SEC("license") = "GPL";
