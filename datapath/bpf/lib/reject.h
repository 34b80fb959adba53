/* Tells who sent a packet at once that nobody takes it: ICMP port unreachable, made out of the packet itself. A TCP
 * connect fails with it as it would with a reset. Or that it had no hop left, where the stack would not: it takes a packet to
 * one of the node's own addresses for its own, and says that nobody listens at a NodePort. */
#pragma once

#include "events.h"

#define FILE_ID FILE_REJECT

/* type << 8 | code */
#define ICMP_PORT_UNREACHABLE 0x0303
#define ICMP_HOPS_EXCEEDED 0x0b00
#define ICMPV6_PORT_UNREACHABLE 0x0104
#define ICMPV6_HOPS_EXCEEDED 0x0300

INLINE __u16 sum_of(void *words, __u32 bytes, __u32 seed)
{
	__u64 sum = bpf_csum_diff(0, 0, words, bytes, seed);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(__u16)sum;
}

/* The frame goes back to where it came from. */
INLINE int reject_frame(struct __sk_buff *skb)
{
	__u8 macs[12], back[12];

	if (bpf_skb_load_bytes(skb, 0, macs, 12))
		return -1;
	__builtin_memcpy(back, macs + 6, 6);
	__builtin_memcpy(back + 6, macs, 6);
	return bpf_skb_store_bytes(skb, 0, back, 12, 0);
}

/* Header without options, then 8 bytes: 28 are quoted. `source` (be): 0 for the packet's destination. */
NOINLINE int reject_ipv4(struct __sk_buff *skb, __u32 message, __u32 source)
{
	__u32 made[14] = {};
	__u8 *h = (__u8 *)made;

	if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH, h + 28, 28) || h[28] != 0x45)
		return -1;
	h[0] = 0x45;
	*(__u16 *)(h + 2) = bpf_htons(sizeof(made));
	h[8] = 64;
	h[9] = PROTOCOL_ICMP;
	made[3] = source ?: made[11];
	made[4] = made[10];
	*(__u16 *)(h + 10) = sum_of(made, 20, 0);
	h[20] = message >> 8;
	h[21] = message;
	*(__u16 *)(h + 22) = sum_of(made + 5, 36, 0);
	if (bpf_skb_change_tail(skb, ETHERNET_LENGTH + sizeof(made), 0) ||
	    bpf_skb_store_bytes(skb, ETHERNET_LENGTH, made, sizeof(made), 0))
		return -1;
	return reject_frame(skb);
}

/* `source`: zero for the packet's destination. */
NOINLINE int reject_ipv6(struct __sk_buff *skb, __u32 message, const struct address *source)
{
	__u32 made[24] = {};
	__u8 *h = (__u8 *)made;
	__u16 sum;

	if (!source || bpf_skb_load_bytes(skb, ETHERNET_LENGTH, made + 12, 48))
		return -1;
	/* The pseudo header stands where the real one will: length and next header sum up alike. */
	made[0] = bpf_htonl(56);
	made[1] = bpf_htonl(PROTOCOL_ICMPV6);
	if (source->halves[0] | source->halves[1])
		__builtin_memcpy(made + 2, source, 16);
	else
		__builtin_memcpy(made + 2, made + 18, 16);
	__builtin_memcpy(made + 6, made + 14, 16);
	h[40] = message >> 8;
	h[41] = message;
	sum = sum_of(made, sizeof(made), 0);
	*(__u16 *)(h + 42) = sum;
	made[0] = bpf_htonl(6u << 28);
	*(__u16 *)(h + 4) = bpf_htons(56);
	h[6] = PROTOCOL_ICMPV6;
	h[7] = 64;
	if (bpf_skb_change_tail(skb, ETHERNET_LENGTH + sizeof(made), 0) ||
	    bpf_skb_store_bytes(skb, ETHERNET_LENGTH, made, sizeof(made), 0))
		return -1;
	return reject_frame(skb);
}

/* Drops the packet with `code`, and answers its sender on the device it came from. Returns a verdict. */
INLINE int reject(struct __sk_buff *skb, struct flow *f, const struct config *config, int code)
{
	struct address destination = {};
	int verdict = drop(skb, f, code);

	if ((config->flags & CONFIG_NO_BACKEND_DROP) || (f->flags & (FLOW_RELATED | FLOW_ERROR | FLOW_FRAGMENT)))
		return verdict;
	if (f->flags & FLOW_IPV6 ? reject_ipv6(skb, ICMPV6_PORT_UNREACHABLE, &destination) :
				   reject_ipv4(skb, ICMP_PORT_UNREACHABLE, 0))
		return verdict;
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}

/* How many this CPU has sent in the second that began at `since`. The kernel's own limit is 1,000 a second for the node
 * (net.ipv4.icmp_msgs_per_sec): who sends packets without hops in another's name must not get more out of the node. */
#define EXCEEDED_PER_SECOND 1000

struct exceeded_rate {
	__u32 since; /* jiffies */
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct exceeded_rate);
	__uint(max_entries, 1);
} weir_exceeded_rate SEC(".maps");

/* Drops a packet that has no hop left, and tells its sender so in the node's name (RFC 792, RFC 4443 3.3). A verdict. */
NOINLINE int exceeded(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct exceeded_rate *rate;
	struct address source;
	__u32 zero = 0, now = jiffies();
	int verdict;

	if (!f || !config)
		return SHOT;
	verdict = drop(skb, f, DROPPED(DROP_TTL_EXCEEDED));
	rate = bpf_map_lookup_elem(&weir_exceeded_rate, &zero);
	if (!rate || (f->flags & (FLOW_RELATED | FLOW_ERROR | FLOW_FRAGMENT)))
		return verdict;
	if (now - rate->since >= config->hz) {
		rate->since = now;
		rate->count = 0;
	}
	if (rate->count >= EXCEEDED_PER_SECOND)
		return verdict;
	rate->count++;
	source = config->ipv6;
	if (f->flags & FLOW_IPV6 ? reject_ipv6(skb, ICMPV6_HOPS_EXCEEDED, &source) :
				   reject_ipv4(skb, ICMP_HOPS_EXCEEDED, config->ipv4))
		return verdict;
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}
#undef FILE_ID
