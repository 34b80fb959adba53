/* ICMP errors belong to the flow whose packet they quote. Anybody may send one, about any flow, so nothing of it is believed
 * but what a router could not have said otherwise:
 *
 *   as a packet   no longer than RFC 1812 and RFC 4443 allow, whole; "too big" with an MTU that the quoted packet did not fit,
 *                 and not below what every host takes (Linux takes no smaller one from the network either): else 245
 *   its quote     a packet that its receiver sent: addresses, ports, an entry of conntrack that is alive, in which the receiver
 *                 has sent, for TCP with a sequence number near the last (error_judge() in decide.h): else 244
 *   its number    "too big" to and from an endpoint: so many a second, see there: else 198
 *
 * Then it is judged, translated and reported with that flow (REASON_RELATED).
 */
#pragma once

#include "l4.h"

#define FILE_ID FILE_ICMP_ERROR

#define ICMP_ERROR_BYTES_MAX 576 /* RFC 1812, 4.3.2.3 */
#define ICMPV6_ERROR_BYTES_MAX 1280 /* RFC 4443, 2.4 (c) */
#define MTU_IPV4_MIN 552 /* net.ipv4.route.min_pmtu */
#define MTU_IPV6_MIN 1280 /* RFC 8201, 4: a smaller one is discarded */
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define QUOTED_EXTENSIONS_MAX 3

/* Ports of the quoted packet, turned round: the error travels against it. Only what identifies the flow is read; RFC
 * 792 promises eight bytes of it. Not all protocols have ports at their start. */
INLINE int quoted_ports(struct __sk_buff *skb, struct flow *f, __u32 offset, __u8 protocol)
{
	__u8 h[8] __attribute__((aligned(8)));
	__u16 id;

	if (bpf_skb_load_bytes(skb, offset, h, 8))
		return 0;
	id = LOAD16(h + 4);
	switch (protocol) {
	case PROTOCOL_TCP:
	case PROTOCOL_UDP:
	case PROTOCOL_SCTP:
		f->port_source = LOAD16(h + 2);
		f->port_destination = LOAD16(h);
		f->sequence = bpf_ntohs(id);
		return 1;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		f->port_source = 0;
		f->port_destination = 0;
		if (h[0] == ICMP_ECHO || h[0] == ICMPV6_ECHO)
			f->port_destination = id;
		else if (h[0] == ICMP_ECHO_REPLY || h[0] == ICMPV6_ECHO_REPLY)
			f->port_source = id;
		else
			return 0;
		return 1;
	}
	return 0;
}

/* Where the upper layer of a quoted IPv6 packet begins, and which it is; 0: not in the quote, or in another fragment. */
NOINLINE __u32 quoted_upper(struct __sk_buff *skb, __u32 offset, __u8 *protocol)
{
	__u8 h[8] __attribute__((aligned(8)));
	__u32 at = offset + 40;
	__u8 next;
	int i;

	if (!protocol || bpf_skb_load_bytes(skb, offset + 6, &next, 1))
		return 0;
	for (i = 0; i < QUOTED_EXTENSIONS_MAX; i++) {
		/* hop-by-hop, routing, fragment, destination options */
		if (next != 0 && next != 43 && next != 44 && next != 60)
			break;
		if (bpf_skb_load_bytes(skb, at, h, sizeof(h)) || (next == 44 && (bpf_ntohs(LOAD16(h + 2)) >> 3)))
			return 0;
		at += next == 44 ? 8 : (h[1] + 1) * 8;
		next = h[0];
	}
	*protocol = next;
	return at;
}

/* `offset`: of the quoted header; `destination`, `total`: of the error and all its bytes. 1 when the quote names a flow of
 * the destination's: then the key is that flow's. 0 when it does not, or a drop. */
NOINLINE int icmp_error_ipv4(struct __sk_buff *skb, struct flow *f, __u32 offset, __u32 destination, __u32 total)
{
	__u16 mtu, quoted, fragment;
	__u32 length;
	__u8 h[20] __attribute__((aligned(8)));

	NEVER_NULL(f);
	if (total > ICMP_ERROR_BYTES_MAX || (f->flags & FLOW_FIRST_FRAGMENT) || bpf_skb_load_bytes(skb, offset, h, sizeof(h)))
		return DROPPED(DROP_ICMP_ERROR_INVALID);
	length = (h[0] & 15) * 4;
	if ((h[0] >> 4) != 4 || length < 20)
		return DROPPED(DROP_ICMP_ERROR_INVALID);
	fragment = bpf_ntohs(LOAD16(h + 6));
	if (f->flags & FLOW_TOO_BIG) {
		if (bpf_skb_load_bytes(skb, offset - 2, &mtu, 2))
			return DROPPED(DROP_ICMP_ERROR_INVALID);
		mtu = bpf_ntohs(mtu);
		quoted = bpf_ntohs(LOAD16(h + 2));
		/* A length of 0: BIG TCP, longer than the field can say. */
		if (mtu < MTU_IPV4_MIN || (quoted && quoted <= mtu) || !(fragment & IPV4_DONT_FRAGMENT))
			return DROPPED(DROP_ICMP_ERROR_INVALID);
	}
	if ((fragment & IPV4_FRAGMENT_OFFSET) || LOAD32(h + 12) != destination || !quoted_ports(skb, f, offset + length, h[9]))
		return 0;
	flow_set_key(f, 0, mapped(LOAD32(h + 16)), 0, mapped(LOAD32(h + 12)), h[9]);
	f->quoted_offset = offset + length;
	f->flags |= FLOW_RELATED;
	return 1;
}

NOINLINE int icmp_error_ipv6(struct __sk_buff *skb, struct flow *f, __u32 offset, const struct address *destination,
			     __u32 total)
{
	struct address source, target;
	__u32 mtu, quoted, upper;
	__u8 h[8] __attribute__((aligned(8)));
	__u8 protocol = 0;

	NEVER_NULL(f);
	NEVER_NULL(destination);
	if (total > ICMPV6_ERROR_BYTES_MAX || (f->flags & FLOW_FIRST_FRAGMENT) || bpf_skb_load_bytes(skb, offset, h, sizeof(h)) ||
	    (h[0] >> 4) != 6)
		return DROPPED(DROP_ICMP_ERROR_INVALID);
	if (f->flags & FLOW_TOO_BIG) {
		if (bpf_skb_load_bytes(skb, offset - 4, &mtu, 4))
			return DROPPED(DROP_ICMP_ERROR_INVALID);
		mtu = bpf_ntohl(mtu);
		quoted = bpf_ntohs(LOAD16(h + 4));
		if (mtu < MTU_IPV6_MIN || (quoted && quoted + 40 <= mtu))
			return DROPPED(DROP_ICMP_ERROR_INVALID);
	}
	if (bpf_skb_load_bytes(skb, offset + 8, &source, sizeof(source)) ||
	    bpf_skb_load_bytes(skb, offset + 24, &target, sizeof(target)))
		return DROPPED(DROP_ICMP_ERROR_INVALID);
	if (source.halves[0] != destination->halves[0] || source.halves[1] != destination->halves[1])
		return 0;
	upper = quoted_upper(skb, offset, &protocol);
	if (!upper || !quoted_ports(skb, f, upper, protocol))
		return 0;
	flow_set_key(f, target.halves[0], target.halves[1], source.halves[0], source.halves[1], protocol);
	f->quoted_offset = upper;
	f->flags |= FLOW_RELATED;
	return 1;
}
#undef FILE_ID
