/* Half of a saved pointer is overwritten. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

SEC("tc")
int use_after_overwrite(struct __sk_buff *skb)
{
	__u64 *saved[1];
	__u32 key = 1;
	__u64 *counter = bpf_map_lookup_elem(&counters, &key);

	if (!counter)
		return 0;
	*(__u64 *volatile *)saved = counter;
	bpf_skb_load_bytes(skb, 0, saved, 4);
	return **(__u64 *volatile *)saved;
}

char LICENSE[] SEC("license") = "GPL";
