/* bpf_skb_store_bytes() may move the packet: the check before it no longer counts. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int mark_ttl(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip4 = data + sizeof(struct ethhdr);
	__u8 tos = 4;

	if ((void *)(ip4 + 1) > data_end)
		return 0;
	bpf_skb_store_bytes(skb, 15, &tos, sizeof(tos), 0);
	if (ip4->ttl < 2)
		return 2;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
