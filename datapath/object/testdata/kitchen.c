/* A bit of everything that the reader has to follow. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 a;
	__u16 b;
};

struct value {
	struct bpf_spin_lock lock;
	__u64 hits;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct key);
	__type(value, struct value);
} hits SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps");

const volatile __u32 limit = 7;
static volatile __u32 seen;
__u64 total = 3;

extern unsigned int LINUX_KERNEL_VERSION __kconfig;

static __attribute__((noinline)) int deeper(__u32 x)
{
	seen += x;
	return x > limit;
}

__attribute__((noinline)) int global_check(struct key *key, __u32 x)
{
	return key ? key->a == x : 0;
}

static long each(__u32 index, void *context)
{
	total += index;
	return 0;
}

SEC("xdp")
__attribute__((btf_decl_tag("expect:pass"))) int first(struct xdp_md *ctx)
{
	struct key key = {};
	struct value *value = bpf_map_lookup_elem(&hits, &key);

	if (value && deeper(ctx->rx_queue_index))
		return XDP_DROP;
	bpf_loop(4, each, 0, 0);
	return LINUX_KERNEL_VERSION > 1 && global_check(&key, 2) ? XDP_PASS : XDP_TX;
}

SEC("cgroup/connect4")
int second(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&outer, &zero);

	return map ? 1 : deeper(2);
}

SEC("2/7")
int third(struct __sk_buff *skb)
{
	return 0;
}

struct task_struct {
	int pid;
	int gone_field;
} __attribute__((preserve_access_index));

SEC("raw_tp/sched_switch")
int fourth(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[1];
	int pid = 0;

	bpf_probe_read_kernel(&pid, sizeof(pid), &task->pid);
	if (__builtin_preserve_field_info(task->gone_field, 2))
		pid += task->gone_field;
	return pid;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
