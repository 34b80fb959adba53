/* The length comes from outside and is not compared with the buffer. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int copy_out(struct __sk_buff *skb)
{
	char buffer[64] = {};
	__u32 length = skb->mark;

	bpf_skb_load_bytes(skb, 0, buffer, length);
	return buffer[0];
}

char LICENSE[] SEC("license") = "GPL";
