/* Eight bytes are written at an odd place of the stack. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
__attribute__((naked)) int odd_store(struct __sk_buff *skb)
{
	asm volatile("r1 = 7;"
		     "*(u64 *)(r10 - 13) = r1;"
		     "r0 = 0;"
		     "exit");
}

char LICENSE[] SEC("license") = "GPL";
