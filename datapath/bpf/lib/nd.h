/* IPv6 messages of the link, from endpoints: the gateway's address is answered, what an endpoint may say to its link
 * goes to the stack, what only routers may say is dropped. */
#pragma once

#include "deliver.h"
#include "l4.h"

#define FILE_ID FILE_ND

#define ND_OFFSET (ETHERNET_LENGTH + 40)
#define ND_LENGTH (ND_OFFSET + 24)
#define ND_OPTION_LENGTH (ND_LENGTH + 8)
#define ND_OPTION_TARGET 2

INLINE int is_link_local(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Turns a solicitation for the gateway into its advertisement. */
INLINE int nd_answer(struct __sk_buff *skb, struct flow *f, const struct endpoint *own, const struct address *asker,
		     const struct address *target)
{
	/* pseudo header, then the message; 32 + 8 + 32 bytes */
	struct {
		struct address source;
		struct address destination;
		__u32 length;
		__u32 next;
		__u32 head; /* type, code, checksum */
		__u32 flags;
		struct address target;
		__u8 option[8];
	} m = {
		.source = *target,
		.destination = *asker,
		.length = bpf_htonl(32),
		.next = bpf_htonl(PROTOCOL_ICMPV6),
		.flags = bpf_htonl(0x60000000), /* solicited, override */
		.target = *target,
	};
	__u8 *p, *option = m.option;
	__s64 sum;

	m.head = bpf_htonl((__u32)ICMPV6_NEIGHBOUR_ADVERTISEMENT << 24);
	option[0] = ND_OPTION_TARGET;
	option[1] = 1;
	__builtin_memcpy(option + 2, own->host_mac, 6);
	sum = bpf_csum_diff(0, 0, (__be32 *)&m, sizeof(m), 0);
	m.head |= (__u32)fold(sum) << 16;
	/* With or without the asker's option, the answer is 32 bytes long and carries ours. */
	if (bpf_skb_change_tail(skb, ND_OPTION_LENGTH, 0) || !reach(skb, 1, ND_OPTION_LENGTH))
		return drop(skb, f, DROPPED(DROP_WRITE_ERROR));
	p = packet_start(skb);
	if (p + ND_OPTION_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_WRITE_ERROR));
	__builtin_memcpy(p, p + 6, 6);
	__builtin_memcpy(p + 6, own->host_mac, 6);
	*(__u16 *)(p + 18) = bpf_htons(32);
	p[20] = PROTOCOL_ICMPV6;
	p[21] = 255;
	__builtin_memcpy(p + 22, &m.source, 32);
	__builtin_memcpy(p + ND_OFFSET, &m.head, 32);
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}

/* `f->policy_port` is the ICMPv6 type. */
NOINLINE int nd_from_endpoint(struct __sk_buff *skb, struct flow *f, const struct config *config,
			      const struct endpoint *own)
{
	struct address source, target;
	__u8 limit;

	if (!f || !config || !own)
		return SHOT;
	if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 8, &source, sizeof(source)) ||
	    bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 7, &limit, 1))
		return drop(skb, f, DROPPED(DROP_INVALID));
	if (!(own->flags & ENDPOINT_NO_SOURCE_CHECK) && !is_link_local(&source) && (source.halves[0] || source.halves[1]) &&
	    (source.halves[0] != own->ipv6.halves[0] || source.halves[1] != own->ipv6.halves[1]))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	/* Hop limit 255 (RFC 4861): nobody beyond the link could have sent it. Listener reports have 1. */
	if (f->policy_port >= ICMPV6_ROUTER_SOLICITATION && f->policy_port <= ICMPV6_REDIRECT && limit != 255)
		return drop(skb, f, DROPPED(DROP_FORBIDDEN_ICMP6));
	if (f->policy_port == ICMPV6_ROUTER_ADVERTISEMENT || f->policy_port == ICMPV6_REDIRECT)
		return drop(skb, f, DROPPED(DROP_FORBIDDEN_ICMP6));
	count(f, 0, DIRECTION_EGRESS, skb->len);
	/* Extension headers would move the target; nobody asks like that (and RFC 6980 forbids fragments). */
	if (f->policy_port != ICMPV6_NEIGHBOUR_SOLICITATION || f->protocol != PROTOCOL_ICMPV6)
		return PASS;
	if (bpf_skb_load_bytes(skb, ND_OFFSET + 8, &target, sizeof(target)))
		return drop(skb, f, DROPPED(DROP_INVALID));
	if (target.halves[0] != config->gateway_ipv6.halves[0] || target.halves[1] != config->gateway_ipv6.halves[1] ||
	    !(target.halves[0] | target.halves[1]) || !(source.halves[0] | source.halves[1]))
		return PASS;
	return nd_answer(skb, f, own, &source, &target);
}
#undef FILE_ID
