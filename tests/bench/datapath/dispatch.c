/* Runs a program on a fresh packet at every repeat of a test run: writes the header anew, takes the next of `flows`
 * ports, and jumps to the program. Without it every repeat after the first sees what the one before left. */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct plan {
	__u32 next;
	__u32 flows;
	__u32 first_port;
	__u32 port_at; /* where in the frame the port is that tells flows apart */
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

SEC("tc")
int dispatch(struct __sk_buff *skb)
{
	__u8 *p = (void *)(long)skb->data;
	__u8 *end = (void *)(long)skb->data_end;
	struct plan *plan;
	__u32 zero = 0, n, at;
	__u16 port;
	int i;

	plan = bpf_map_lookup_elem(&bench_plan, &zero);
	if (!plan || p + 80 > end)
		return 99;
	at = plan->port_at;
	n = plan->next + 1;
	if (n >= plan->flows)
		n = 0;
	plan->next = n;
#pragma clang loop unroll(full)
	for (i = 0; i < 10; i++)
		*(__u64 *)(p + i * 8) = plan->header[i];
	port = bpf_htons(plan->first_port + n);
	/* source or destination, behind IPv4 or IPv6 */
	if (at == 34)
		*(__u16 *)(p + 34) = port;
	else if (at == 36)
		*(__u16 *)(p + 36) = port;
	else if (at == 54)
		*(__u16 *)(p + 54) = port;
	else
		*(__u16 *)(p + 56) = port;
	skb->mark = 0;
	bpf_tail_call(skb, &bench_target, 0);
	return 98;
}

SEC("tc")
int empty(struct __sk_buff *skb __attribute__((unused)))
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
