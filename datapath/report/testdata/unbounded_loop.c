/* Nothing in the loop changes what ends it. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int wait_for_mark(struct __sk_buff *skb)
{
	volatile int spin = 1;

	while (spin)
		;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
