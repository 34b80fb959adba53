/* Half of the key was never written. Privileged programs may read such bytes: weir verify --strict. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 ip;
	__u32 port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} flows SEC(".maps");

SEC("socket")
int count_flow(struct __sk_buff *skb)
{
	struct key key;
	__u64 *count;

	key.ip = skb->mark;
	count = bpf_map_lookup_elem(&flows, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
