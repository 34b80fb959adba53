/* A packet that another machine sent to an endpoint of this node, at the hook of a device. */
#pragma once

#include "decide.h"
#include "deliver.h"
#include "ipv4.h"
#include "ipv6.h"

/* The address is an endpoint's of this node: its id; the host's own: 0; nobody's, or everybody's: -1. */
INLINE int destination_of(const struct address *address)
{
	struct address_owner *owner = bpf_map_lookup_elem(&weir_addresses, address);

	if (!owner)
		return -1;
	return owner->flags & ADDRESS_HOST ? 0 : owner->endpoint ?: -1;
}

/* Destination of the packet itself (not of the packet that it may quote). */
INLINE int packet_destination(struct __sk_buff *skb, __u32 ipv6, struct address *address)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	void *end = packet_end(skb);

	if (ipv6) {
		if (p + 40 > (__u8 *)end)
			return 0;
		address->halves[0] = LOAD64(p + 24);
		address->halves[1] = LOAD64(p + 32);
	} else {
		if (p + 20 > (__u8 *)end)
			return 0;
		address->halves[0] = 0;
		address->halves[1] = mapped(LOAD32(p + 16));
	}
	return 1;
}
