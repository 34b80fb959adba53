/* data is a pointer in disguise and must be read whole. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int peek(struct __sk_buff *skb)
{
	__u16 low = *(volatile __u16 *)&skb->data;

	return low;
}

char LICENSE[] SEC("license") = "GPL";
