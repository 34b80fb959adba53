/* The pointer is moved before it is known not to be NULL. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[8]);
} counters SEC(".maps");

SEC("tc")
int bump_third(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *counter = bpf_map_lookup_elem(&counters, &zero);

	counter += 3;
	asm volatile("" : "+r"(counter));
	if (!counter)
		return 0;
	*counter += 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
