/* Ports, flags and ICMP types: the part of a flow's identity that lies behind the IP header.
 *
 * The common case reads at a constant offset, directly from the packet. With IPv4 options or IPv6 extension headers
 * the offset varies: then the header is copied to the stack, so that no program needs variable packet pointers.
 */
#pragma once

#include "flow.h"

#define IPV6_FRAGMENT 44

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_UNREACHABLE_TOO_BIG 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_TIMESTAMP 13
#define ICMP_TIMESTAMP_REPLY 14
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER 4
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_MLD_QUERY 130
#define ICMPV6_MLD_DONE 132
#define ICMPV6_ROUTER_SOLICITATION 133
#define ICMPV6_ROUTER_ADVERTISEMENT 134
#define ICMPV6_NEIGHBOUR_SOLICITATION 135
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137
#define ICMPV6_MLD2_REPORT 143

#define FILE_ID FILE_L4

/* `left`: bytes behind the IP header, as the IP header says. */
INLINE int l4_tcp(struct flow *f, const __u8 *h, __u32 left)
{
	__u32 header = (h[12] >> 4) * 4;
	__u8 flags = h[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);

	if (header < 20 || header > left)
		return DROPPED(DROP_CT_INVALID_HDR);
	/* No sender makes these: no flag at all, or SYN together with FIN or RST. */
	if (!flags || ((flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST))))
		return DROPPED(DROP_CT_INVALID_HDR);
	f->tcp_flags = flags;
	f->sequence = bpf_ntohs(LOAD16(h + 4));
	f->port_source = LOAD16(h);
	f->port_destination = LOAD16(h + 2);
	f->policy_port = bpf_ntohs(f->port_destination);
	return 0;
}

INLINE int l4_udp(struct flow *f, const __u8 *h, __u32 left)
{
	__u32 length = bpf_ntohs(LOAD16(h + 4));

	/* The length of a fragmented or IPv6 jumbo datagram goes beyond this packet. */
	if (!(f->flags & FLOW_FIRST_FRAGMENT) && !(length == 0 && (f->flags & FLOW_IPV6)) && (length < 8 || length > left))
		return DROPPED(DROP_CT_INVALID_HDR);
	f->port_source = LOAD16(h);
	f->port_destination = LOAD16(h + 2);
	f->policy_port = bpf_ntohs(f->port_destination);
	return 0;
}

INLINE int l4_ports(struct flow *f, const __u8 *h)
{
	f->port_source = LOAD16(h);
	f->port_destination = LOAD16(h + 2);
	f->policy_port = bpf_ntohs(f->port_destination);
	return 0;
}

/* A question has its id as the source's port and `kind` as the destination's, the answer the other way round: so an
 * answer belongs to its question's flow, but a question of the other side with the same id does not. */
INLINE int l4_icmp(struct flow *f, const __u8 *h)
{
	__u8 type = h[0];
	__u16 id = LOAD16(h + 4);

	f->policy_port = type;
	switch (type) {
	case ICMP_ECHO:
		f->port_source = id;
		return 0;
	case ICMP_ECHO_REPLY:
		f->port_destination = id;
		return 0;
	case ICMP_TIMESTAMP:
		f->port_source = id;
		f->port_destination = bpf_htons(ICMP_TIMESTAMP);
		return 0;
	case ICMP_TIMESTAMP_REPLY:
		f->port_source = bpf_htons(ICMP_TIMESTAMP);
		f->port_destination = id;
		return 0;
	case ICMP_UNREACHABLE:
		f->flags |= h[1] == ICMP_UNREACHABLE_TOO_BIG ? FLOW_ERROR | FLOW_TOO_BIG : FLOW_ERROR;
		return 0;
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER:
		f->flags |= FLOW_ERROR;
		return 0;
	}
	return DROPPED(DROP_UNKNOWN_ICMP4_TYPE);
}

INLINE int l4_icmpv6(struct flow *f, const __u8 *h)
{
	__u8 type = h[0];
	__u16 id = LOAD16(h + 4);

	f->policy_port = type;
	switch (type) {
	case ICMPV6_ECHO:
		f->port_source = id;
		return 0;
	case ICMPV6_ECHO_REPLY:
		f->port_destination = id;
		return 0;
	case ICMPV6_TOO_BIG:
		f->flags |= FLOW_ERROR | FLOW_TOO_BIG;
		return 0;
	case ICMPV6_UNREACHABLE:
	case ICMPV6_TIME_EXCEEDED:
	case ICMPV6_PARAMETER:
		f->flags |= FLOW_ERROR;
		return 0;
	}
	if ((type >= ICMPV6_MLD_QUERY && type <= ICMPV6_REDIRECT) || type == ICMPV6_MLD2_REPORT)
		return PARSED_LINK;
	return DROPPED(DROP_UNKNOWN_ICMP6_TYPE);
}

#define L4_DIRECT(bytes)                                                                                               \
	if (left < (bytes))                                                                                            \
		return DROPPED(DROP_CT_INVALID_HDR);                                                                   \
	h = reach_at(skb, pull, offset, bytes);                                                                        \
	if (!h)                                                                                                        \
	return DROPPED(DROP_CT_INVALID_HDR)

/* Behind a header without options: `offset` is a constant, `pull` as in reach(). */
INLINE int l4_parse(struct __sk_buff *skb, struct flow *f, int pull, __u32 offset, __u32 left, __u8 protocol)
{
	const __u8 *h;

	if (likely(protocol == PROTOCOL_TCP)) {
		L4_DIRECT(20);
		return l4_tcp(f, h, left);
	}
	switch (protocol) {
	case PROTOCOL_UDP:
		L4_DIRECT(8);
		return l4_udp(f, h, left);
	case PROTOCOL_SCTP:
		L4_DIRECT(12);
		return l4_ports(f, h);
	case PROTOCOL_ICMP:
		if (f->flags & FLOW_IPV6)
			break;
		L4_DIRECT(8);
		return l4_icmp(f, h);
	case PROTOCOL_ICMPV6:
		if (!(f->flags & FLOW_IPV6))
			break;
		L4_DIRECT(8);
		return l4_icmpv6(f, h);
	}
	return DROPPED(DROP_CT_UNKNOWN_PROTO);
}

/* Behind options or extension headers: any offset. */
NOINLINE int l4_parse_copied(struct __sk_buff *skb, struct flow *f, __u32 offset, __u32 left, __u8 protocol)
{
	__u8 h[20] = {};

	NEVER_NULL(f);
	switch (protocol) {
	case PROTOCOL_TCP:
		if (left < 20 || bpf_skb_load_bytes(skb, offset, h, 20))
			return DROPPED(DROP_CT_INVALID_HDR);
		return l4_tcp(f, h, left);
	case PROTOCOL_UDP:
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		if (left < 8 || bpf_skb_load_bytes(skb, offset, h, 8))
			return DROPPED(DROP_CT_INVALID_HDR);
		if (protocol == PROTOCOL_UDP)
			return l4_udp(f, h, left);
		if (protocol == PROTOCOL_ICMP && !(f->flags & FLOW_IPV6))
			return l4_icmp(f, h);
		if (protocol == PROTOCOL_ICMPV6 && (f->flags & FLOW_IPV6))
			return l4_icmpv6(f, h);
		break;
	case PROTOCOL_SCTP:
		if (left < 12 || bpf_skb_load_bytes(skb, offset, h, 12))
			return DROPPED(DROP_CT_INVALID_HDR);
		return l4_ports(f, h);
	}
	return DROPPED(DROP_CT_UNKNOWN_PROTO);
}
#undef FILE_ID
