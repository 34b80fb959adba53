/* A socket's call that fails because nobody serves what it asks for: who it was is counted and reported as the packet would
 * have been that was never sent.
 *
 * The unconnected UDP socket of a pod hears of nothing else: an ICMP error reaches such a socket only where it has asked
 * for errors (IP_RECVERR). So its sendmsg() is looked at too, and fails when its service has no backend; all else of pods
 * is translated per packet. */
#pragma once

#include "events.h"
#include "node_port.h"

#define FILE_ID FILE_BPF_SOCKET

/* Who asks, and for what. */
struct socket_refusal {
	struct address from;
	struct address to;
	__u32 identity;
	__u32 endpoint; /* 0: the node's own */
	__u16 port_from; /* be */
	__u16 port_to; /* be */
	__u16 service;
	__u8 protocol;
	__u8 reason; /* DROP_* */
};

/* A drop, with the packet that there would have been: IP header and, of the upper layer, what tells ports and SYN. */
NOINLINE int socket_report(const struct socket_refusal *r)
{
	struct event *event;
	__u32 upper, length, ipv6, place = DROPPED(0);
	__u8 *p;

	NEVER_NULL(r);
	event = bpf_ringbuf_reserve(&weir_events, sizeof(*event), 0);
	if (!event)
		return event_lost(EVENT_DROP);
	__builtin_memset(event, 0, sizeof(*event));
	ipv6 = r->to.halves[0] || r->to.words[2] != 0xffff0000u;
	upper = r->protocol == PROTOCOL_TCP ? 20 : 8;
	p = event->payload;
	if (ipv6) {
		length = 40 + upper;
		p[0] = 0x60;
		p[5] = upper;
		p[6] = r->protocol;
		p[7] = 64;
		__builtin_memcpy(p + 8, &r->from, 16);
		__builtin_memcpy(p + 24, &r->to, 16);
		p += 40;
	} else {
		length = 20 + upper;
		p[0] = 0x45;
		p[3] = length;
		p[8] = 64;
		p[9] = r->protocol;
		__builtin_memcpy(p + 12, &r->from.words[3], 4);
		__builtin_memcpy(p + 16, &r->to.words[3], 4);
		p += 20;
	}
	__builtin_memcpy(p, &r->port_from, 2);
	__builtin_memcpy(p + 2, &r->port_to, 2);
	if (r->protocol == PROTOCOL_TCP) {
		p[12] = 5 << 4;
		p[13] = TCP_SYN;
	} else {
		p[5] = 8;
	}
	event->type = EVENT_DROP;
	event->subtype = r->reason;
	event->source_endpoint = r->endpoint;
	event->hook_endpoint = r->endpoint;
	event->source_identity = r->identity;
	event->time = bpf_ktime_get_ns();
	event->length_original = length;
	event->length_captured = length;
	event->line = place >> 8;
	event->file = place >> 24;
	event->reason = REASON_NEW;
	event->flags = ipv6 ? EVENT_L3 | EVENT_IPV6 : EVENT_L3;
	event->protocol = r->protocol;
	event->policy_port = bpf_ntohs(r->port_to);
	event->service = r->service;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* The port that a socket has already, be; 0: none. */
INLINE __u16 socket_port(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? bpf_htons(sk->src_port) : 0;
}

/* The frontend that an endpoint's packet for this address is for, as service_frontend() finds it. */
INLINE struct frontend *pod_frontend(const struct address *to, __u16 port, __u8 protocol)
{
	struct frontend *frontend = frontend_get(to, port, protocol);
	struct address_owner *owner;

	if (frontend)
		return frontend;
	owner = bpf_map_lookup_elem(&weir_addresses, to);
	if (owner)
		return owner->flags & ADDRESS_HOST ? frontend_of_node(to, port, protocol) : 0;
	return frontend_closed(to);
}

/* Has the frontend anybody for what is new? */
INLINE int frontend_serves(const struct frontend *frontend)
{
	__u32 slot = frontend->selections[SCOPE_INTERNAL], zero = 0, *header;
	void *selection;

	if ((frontend->flags & FRONTEND_CLOSED) || !slot)
		return 0;
	selection = bpf_map_lookup_elem(&weir_selections, &slot);
	header = selection ? bpf_map_lookup_elem(selection, &zero) : 0;
	return header && (READ_ONCE(*header) & SELECTION_COUNT);
}

/* Does the flow between these two go on with a backend of `service` that it has? */
INLINE int pod_flow_served(const struct socket_refusal *r, __u32 service)
{
	const struct address *from = &r->from, *to = &r->to;
	struct ct_key key = { .protocol = r->protocol };
	struct ct_entry *e;
	int hi = from->halves[0] > to->halves[0] || (from->halves[0] == to->halves[0] && from->halves[1] > to->halves[1]);

	key.lo = hi ? *to : *from;
	key.hi = hi ? *from : *to;
	key.port_lo = hi ? r->port_to : r->port_from;
	key.port_hi = hi ? r->port_from : r->port_to;
	e = bpf_map_lookup_elem(&weir_ct, &key);
	return e && (e->flags & CT_SERVICE) &&
	       backend_keeps(service, e->service, e->backend, &e->translated, e->translated_port, r->protocol, 0);
}

/* sendmsg() of a socket that is none of the node's own. 1: it is a pod's, and nobody is there for it. */
NOINLINE int pod_refused(struct bpf_sock_addr *ctx, struct socket_refusal *r)
{
	const struct config *config = config_get();
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct endpoint *own;
	struct frontend *frontend;
	__u32 *id;

	NEVER_NULL(r);
	id = bpf_map_lookup_elem(&weir_netns, &cookie);
	if (!id || !config || (config->flags & CONFIG_NO_BACKEND_DROP) || r->protocol != PROTOCOL_UDP)
		return 0;
	own = endpoint_get(*id);
	if (!own || !own->ifindex)
		return 0;
	frontend = pod_frontend(&r->to, r->port_to, r->protocol);
	if (!frontend || frontend_serves(frontend))
		return 0;
	if (r->to.halves[0] || r->to.words[2] != 0xffff0000u)
		r->from = own->ipv6;
	else
		r->from.halves[1] = mapped(own->ipv4);
	if (pod_flow_served(r, frontend->service))
		return 0;
	r->endpoint = *id;
	r->identity = own->identity;
	r->service = frontend->service;
	return 1;
}
#undef FILE_ID
