/* Records that are about no packet: what was found by walking conntrack, told as of its entry, with headers as of its first packet. */
#pragma once

#include "events.h"
#include "flow.h"

#define MADE_IPV4_BYTES 20
#define MADE_IPV6_BYTES 40

/* Headers as the flow's first packet had them; a constant offset each. */
INLINE __u32 made_upper(__u8 *h, const struct ct_key *key, const struct ct_entry *e, __u16 from, __u16 to)
{
	if (key->protocol == PROTOCOL_ICMP || key->protocol == PROTOCOL_ICMPV6) {
		h[0] = e->policy_port;
		*(__u16 *)(h + 4) = from;
		return 8;
	}
	*(__u16 *)h = from;
	*(__u16 *)(h + 2) = to;
	if (key->protocol != PROTOCOL_TCP)
		return 8;
	h[12] = 0x50;
	h[13] = TCP_SYN;
	return 20;
}

INLINE void made_headers(struct event *event, const struct ct_key *key, const struct ct_entry *e)
{
	int hi = e->flags & CT_ORIGIN_HI;
	const struct address *from = hi ? &key->hi : &key->lo, *to = hi ? &key->lo : &key->hi;
	__u16 port_from = hi ? key->port_hi : key->port_lo, port_to = hi ? key->port_lo : key->port_hi;
	__u8 *p = event->payload;

	__builtin_memset(p, 0, EVENT_PAYLOAD_MAX);
	if (is_mapped(from)) {
		p[0] = 0x45;
		p[8] = 64;
		p[9] = key->protocol;
		*(__u32 *)(p + 12) = from->words[3];
		*(__u32 *)(p + 16) = to->words[3];
		event->length_captured = MADE_IPV4_BYTES + made_upper(p + MADE_IPV4_BYTES, key, e, port_from, port_to);
		p[3] = event->length_captured;
		event->flags = EVENT_L3;
	} else {
		p[0] = 0x60;
		p[6] = key->protocol;
		p[7] = 64;
		*(__u64 *)(p + 8) = from->halves[0];
		*(__u64 *)(p + 16) = from->halves[1];
		*(__u64 *)(p + 24) = to->halves[0];
		*(__u64 *)(p + 32) = to->halves[1];
		p[5] = made_upper(p + MADE_IPV6_BYTES, key, e, port_from, port_to);
		event->length_captured = MADE_IPV6_BYTES + p[5];
		event->flags = EVENT_L3 | EVENT_IPV6;
	}
}

/* A record of `type` about the entry, to be submitted: line, reason and what else the type means are the caller's. 0: there is no room. */
INLINE struct event *made_event(__u32 holder, __u32 type, const struct ct_key *key, const struct ct_entry *e, __u32 now, __u32 hz)
{
	struct event *event = event_reserve(holder, type, 1);

	if (!event)
		return 0;
	event->type = type;
	event->source_endpoint = e->ends[0].endpoint;
	event->destination_endpoint = e->ends[1].endpoint;
	event->time = bpf_ktime_get_ns();
	event->source_identity = e->ends[0].identity;
	event->destination_identity = e->ends[1].identity;
	event->ifindex = 0;
	event->length_original = (__u64)(now - e->created) * 1000 / hz;
	event->file = 0;
	event->egress_match = e->ends[0].match;
	event->ingress_match = e->ends[1].match;
	event->protocol = key->protocol;
	event->egress_cookie = e->ends[0].cookie;
	event->ingress_cookie = e->ends[1].cookie;
	event->policy_port = e->policy_port;
	event->proxy_port = 0;
	event->hook_endpoint = e->ends[0].endpoint ?: e->ends[1].endpoint;
	event->service = e->service;
	event->holder = holder;
	event->pad2 = 0;
	event->vni = 0;
	made_headers(event, key, e);
	return event;
}
