/* A function with a tail call may change the packet, even if it comes back. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} next SEC(".maps");

static __attribute__((noinline)) int try_next(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &next, 1);
	return 0;
}

SEC("tc")
int first_byte(struct __sk_buff *skb)
{
	unsigned char *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	if ((void *)(data + 14) > data_end)
		return 0;
	try_next(skb);
	return data[0];
}

char LICENSE[] SEC("license") = "GPL";
