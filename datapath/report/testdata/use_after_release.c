/* The socket is looked at after it was given back. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int too_late(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return sk->family;
}

char LICENSE[] SEC("license") = "GPL";
