/* ICMP errors belong to the flow whose packet they quote. */
#pragma once

#include "l4.h"

/* Ports of the quoted packet, turned round: the error travels against it. Only what identifies the flow is read; RFC
 * 792 promises eight bytes of it. Not all protocols have ports at their start. */
INLINE int quoted_ports(struct __sk_buff *skb, struct flow *f, __u32 offset, __u8 protocol)
{
	__u8 h[8];
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

/* `offset`: of the quoted header; `destination`: of the error. True when the quote names a flow of the destination's:
 * then the key is that flow's. */
NOINLINE int icmp_error_ipv4(struct __sk_buff *skb, struct flow *f, __u32 offset, __u32 destination)
{
	__u8 h[20];
	__u32 length;

	NEVER_NULL(f);
	if (bpf_skb_load_bytes(skb, offset, h, sizeof(h)))
		return 0;
	length = (h[0] & 15) * 4;
	if ((h[0] >> 4) != 4 || length < 20 || (bpf_ntohs(LOAD16(h + 6)) & 0x1fff))
		return 0;
	if (LOAD32(h + 12) != destination || !quoted_ports(skb, f, offset + length, h[9]))
		return 0;
	flow_set_key(f, 0, mapped(LOAD32(h + 16)), 0, mapped(LOAD32(h + 12)), h[9]);
	f->flags |= FLOW_RELATED;
	return 1;
}

NOINLINE int icmp_error_ipv6(struct __sk_buff *skb, struct flow *f, __u32 offset, const struct address *destination)
{
	struct address source, target;
	__u8 h[8];

	NEVER_NULL(f);
	NEVER_NULL(destination);
	if (bpf_skb_load_bytes(skb, offset, h, sizeof(h)) || (h[0] >> 4) != 6 ||
	    bpf_skb_load_bytes(skb, offset + 8, &source, sizeof(source)) ||
	    bpf_skb_load_bytes(skb, offset + 24, &target, sizeof(target)))
		return 0;
	if (source.halves[0] != destination->halves[0] || source.halves[1] != destination->halves[1])
		return 0;
	if (!quoted_ports(skb, f, offset + 40, h[6]))
		return 0;
	flow_set_key(f, target.halves[0], target.halves[1], source.halves[0], source.halves[1], h[6]);
	f->flags |= FLOW_RELATED;
	return 1;
}
