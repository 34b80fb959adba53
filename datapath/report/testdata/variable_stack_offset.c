/* The index can be anything up to 255, the buffer has 16 bytes. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int pick(struct __sk_buff *skb)
{
	volatile char buffer[16] = {};
	__u32 index = skb->mark & 0xff;

	buffer[index] = 1;
	return buffer[3];
}

char LICENSE[] SEC("license") = "GPL";
