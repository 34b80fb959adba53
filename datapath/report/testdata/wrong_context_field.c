/* tc_classid belongs to tc programs; a cgroup program may not read it. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("cgroup_skb/egress")
int allow_class(struct __sk_buff *skb)
{
	if (skb->tc_classid == 7)
		return 0;
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
