/* dispatch.c for XDP: a fresh packet at every repeat, the next of `flows` ports at `port_at`. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct plan {
	__u32 next;
	__u32 flows;
	__u32 first_port;
	__u32 port_at; /* 34, 36, 54 or 56 */
	__u64 header[10];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct plan);
	__uint(max_entries, 1);
} bench_plan SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} bench_target SEC(".maps");

SEC("xdp")
int dispatch(struct xdp_md *ctx)
{
	__u8 *p = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;
	struct plan *plan;
	__u32 zero = 0, n;
	__u16 port;
	int i;

	plan = bpf_map_lookup_elem(&bench_plan, &zero);
	if (!plan || p + 80 > end)
		return 99;
	n = plan->next + 1;
	if (n >= plan->flows)
		n = 0;
	plan->next = n;
#pragma clang loop unroll(full)
	for (i = 0; i < 10; i++)
		*(__u64 *)(p + i * 8) = plan->header[i];
	port = bpf_htons(plan->first_port + n);
	switch (plan->port_at) {
	case 34:
		*(__u16 *)(p + 34) = port;
		break;
	case 36:
		*(__u16 *)(p + 36) = port;
		break;
	case 54:
		*(__u16 *)(p + 54) = port;
		break;
	case 56:
		*(__u16 *)(p + 56) = port;
		break;
	}
	bpf_tail_call(ctx, &bench_target, 0);
	return 98;
}

SEC("xdp")
int empty(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
