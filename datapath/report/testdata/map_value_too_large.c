/* The value has 16 slots; the index goes up to 31. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct table {
	__u32 slots[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

SEC("tc")
int set_slot(struct __sk_buff *skb)
{
	__u32 zero = 0, index = skb->mark & 31;
	struct table *table = bpf_map_lookup_elem(&tables, &zero);

	if (!table)
		return 0;
	table->slots[index] = skb->len;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
