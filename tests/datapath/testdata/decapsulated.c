/* Gives a test run's packet what a VXLAN device would have given it: tunnel metadata. cb[0] is the VNI, cb[1] the
 * sender's address (host order; v4), cb[2] what from_netdev has noted (tc_index, and the mark in cb[3]), then the program under test runs. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} decapsulated_target SEC(".maps");

SEC("tc")
int decapsulated(struct __sk_buff *skb)
{
	/* Writing makes metadata for sending; its local address is where reading finds the remote one. */
	struct bpf_tunnel_key key = { .tunnel_id = skb->cb[0], .local_ipv4 = skb->cb[1], .tunnel_ttl = 64 };

	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 0))
		return 97;
	skb->tc_index = skb->cb[2];
	skb->mark = skb->cb[3];
	bpf_tail_call(skb, &decapsulated_target, 0);
	return 98;
}

char LICENSE[] SEC("license") = "GPL";
