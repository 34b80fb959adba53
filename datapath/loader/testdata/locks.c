// Locks in a map's values, in the values of inner maps and in a variable. Each program overwrites one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct locked {
	__u32 before;
	struct bpf_spin_lock lock;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct locked);
	__uint(max_entries, 1);
} values SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct locked);
	__uint(max_entries, 1);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);
	__uint(max_entries, 1);
	__array(values, struct inner);
} outer SEC(".maps");

__u64 untouched;
static struct bpf_spin_lock variable SEC(".data.locks");

SEC("tc")
int in_value(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct locked *value = bpf_map_lookup_elem(&values, &zero);

	if (value)
		*(volatile __u32 *)&value->lock = skb->len;
	return 0;
}

SEC("tc")
int in_inner(struct __sk_buff *skb)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&outer, &zero);
	struct locked *value = map ? bpf_map_lookup_elem(map, &zero) : 0;

	if (value)
		*(volatile __u32 *)&value->lock = skb->len;
	return 0;
}

SEC("tc")
int in_variable(struct __sk_buff *skb)
{
	untouched = 1;
	*(volatile __u32 *)&variable = skb->len;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
