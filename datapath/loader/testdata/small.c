// Small programs for the loader's tests: counts packets, writes ring records, answers a syscall.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 8);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, 4);
	__uint(max_entries, 4);
	__array(values, struct inner);
} outer SEC(".maps");

const volatile __u32 verdict = 0;

SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 key = 1;
	__u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
	struct { __u32 length; __u32 pad; __u64 mark; } record = { skb->len, 0, 0x77656972 };
	bpf_ringbuf_output(&events, &record, sizeof(record), BPF_RB_NO_WAKEUP);
	return verdict;
}

SEC("tc")
int drop(struct __sk_buff *skb)
{
	__u32 key = 1;
	void *inner = bpf_map_lookup_elem(&outer, &key);

	return inner && bpf_map_lookup_elem(inner, &key) ? 0 : 2;
}

SEC("xdp")
int pass(struct xdp_md *xdp)
{
	return XDP_PASS;
}

struct request {
	__u32 in;
	__u32 out;
};

SEC("syscall")
int twice(struct request *request)
{
	request->out = request->in * 2;
	return 7;
}

char LICENSE[] SEC("license") = "GPL";
