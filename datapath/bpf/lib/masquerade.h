/* What leaves the node by an outer device: endpoints take the node's address, services' backends their frontend's, and the
 * node's own connections another port where theirs is taken. */
#pragma once

#include "enter.h"
#include "nat_apply.h"
#include "route.h"
#include "service.h"

#define FILE_ID FILE_NAT

/* Destinations that see the pod's own address. */
INLINE int masquerade_excepted(const struct address *to)
{
	struct masquerade_exception key = { .prefixlen = 128 };

	__builtin_memcpy(key.address, to->bytes, sizeof(key.address));
	return bpf_map_lookup_elem(&weir_masquerade_exceptions, &key) != 0;
}

/* What endpoints are called on the device, into `from`. */
INLINE void masquerade_address(const struct config *config, __u32 device, __u32 ipv6, struct address *from)
{
	const struct outer_addresses *own = bpf_map_lookup_elem(&weir_outer_addresses, &device);

	if (ipv6) {
		*from = own && (own->ipv6.halves[0] | own->ipv6.halves[1]) ? own->ipv6 : config->ipv6;
	} else {
		from->halves[0] = 0;
		from->halves[1] = mapped(own && own->ipv4 ? own->ipv4 : config->ipv4);
	}
}

/* A new pair for scratch's key: the source becomes one of this node's with a port of its own. 0 or a drop. */
NOINLINE int masquerade_pair(struct __sk_buff *skb, struct flow *f, __u32 flags)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	int code;

	if (!f || !config || !s)
		return DROPPED(DROP_NAT_NO_MAPPING);
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.source = s->key.source;
	s->entry.destination = s->key.destination;
	s->entry.port_source = s->key.port_source;
	s->entry.port_destination = s->key.port_destination;
	s->entry.flags = flags;
	s->entry.share = f->source_endpoint;
	if (flags & NAT_MASQUERADE)
		masquerade_address(config, skb->ifindex, f->flags & FLOW_IPV6, &s->entry.source);
	if (!s->entry.source.words[3])
		return DROPPED(DROP_NAT_NO_MAPPING);
	code = nat_create(skb, 1, f->tcp_flags);
	return code ? (int)DROPPED(code) : 0;
}

/* Uses or makes the pair under scratch's key. A verdict. */
NOINLINE int masquerade(struct __sk_buff *skb, __u32 flags)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct nat_entry *e;
	struct flow *f;
	int code;

	if (!config || !s)
		return SHOT;
	f = &s->flow;
	e = nat_find(&s->key, f->now);
	if (!e) {
		/* Nobody could answer an error about a flow that has no pair; a fragment's datagram had one. */
		code = f->flags & (FLOW_ERROR | FLOW_FRAGMENT) ? DROPPED(DROP_NAT_NO_MAPPING) : masquerade_pair(skb, f, flags);
		if (code)
			return drop(skb, f, code);
		e = nat_find(&s->key, f->now);
		if (!e)
			return drop(skb, f, DROPPED(DROP_NAT_NO_MAPPING));
	} else if (!(f->flags & FLOW_RELATED)) {
		/* The same ports once more: the pair begins anew. */
		if (is_bare_syn(f) && nat_closing(e)) {
			e->tcp_flags[0] = 0;
			e->tcp_flags[1] = 0;
		}
		if (unlikely(f->tcp_flags & (TCP_RST | TCP_FIN)) && (e->flags & NAT_MASQUERADE) &&
		    !reset_counts_masqueraded(skb, f->hook_endpoint, 0))
			f->tcp_flags = TCP_ACK;
		nat_touch(e, f->tcp_flags, f->key.protocol, config, f->now);
	}
	code = nat_apply(skb, f, e);
	return code ? drop(skb, f, code) : PASS;
}

/* An answer of an endpoint of this node that leaves it. Who asked a frontend hears from that; who asked the endpoint
 * itself, from the endpoint. A verdict. */
INLINE int answer_leaves(struct __sk_buff *skb, struct flow *f, const struct ct_entry *e)
{
	struct address frontend = e->translated;
	int code;

	if (!(e->flags & CT_REPLY_NAT))
		return PASS;
	f->service = e->service;
	service_count_packet(e->service, skb->len);
	code = translate(skb, f, TRANSLATE_SOURCE, &frontend, e->translated_port);
	return code ? drop(skb, f, code) : PASS;
}

/* From an endpoint of this node, as its source says. A verdict. */
NOINLINE int masquerade_endpoint(struct __sk_buff *skb, __u32 id, __u32 ipv6)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	const struct ct_end *far;
	struct peer peer = {};
	struct address unused = {};
	struct ct_entry *e;
	struct flow *f;
	__u32 outside;
	int code;

	if (!config || !s)
		return PASS;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	f->hook_endpoint = id;
	f->source_endpoint = id;
	if (ipv6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	outside = config->flags & (ipv6 ? CONFIG_MASQUERADE_V6 : CONFIG_MASQUERADE_V4);
	/* What an endpoint says to its link goes no further. */
	if (code == PARSED_LINK)
		return drop(skb, f, DROPPED(DROP_FORBIDDEN_ICMP6));
	/* from_endpoint has let it through, so only a fragment whose first one got lost comes here. */
	if (code)
		return outside ? drop(skb, f, code) : PASS;
	f->now = jiffies();
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (e && !(e->flags & CT_SERVICE)) {
		far = f->source_hi != (e->flags & CT_ORIGIN_HI) ? &e->ends[0] : &e->ends[1];
		f->destination_identity = far->identity;
		if (far == &e->ends[0])
			return answer_leaves(skb, f, e);
	}
	if (!outside)
		return PASS;
	nat_key_of(&s->key, f);
	if (!e) {
		peer_resolve(&s->key.destination, &peer, &unused, world_identity(f, config));
		f->destination_identity = peer.identity;
	}
	if (!identity_outside(f->destination_identity) || masquerade_excepted(&s->key.destination))
		return PASS;
	return masquerade(skb, NAT_MASQUERADE);
}

/* From the node itself-> A verdict. */
NOINLINE int masquerade_host(struct __sk_buff *skb, __u32 ipv6)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct nat_entry *e;
	struct flow *f;
	__u32 port;
	int code;

	if (!config || !s)
		return PASS;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	if (ipv6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	if (code)
		return PASS;
	f->now = jiffies();
	f->source_identity = IDENTITY_HOST;
	nat_key_of(&s->key, f);
	e = nat_find(&s->key, f->now);
	if (e) {
		f->service = e->service;
		if (e->service)
			service_count_packet(e->service, skb->len);
		if (!(f->flags & FLOW_RELATED))
			nat_touch(e, f->tcp_flags, f->key.protocol, config, f->now);
		code = nat_apply(skb, f, e);
		return code ? drop(skb, f, code) : PASS;
	}
	port = bpf_ntohs(f->port_source);
	if (port < config->nat_port_min || port > config->nat_port_max ||
	    (f->flags & (FLOW_RELATED | FLOW_ERROR | FLOW_FRAGMENT)) || (f->protocol == PROTOCOL_TCP && !is_bare_syn(f)))
		return PASS;
	/* Is somebody else waiting for answers at this port, from the same address and port? */
	s->back.source = s->key.destination;
	s->back.destination = s->key.source;
	s->back.port_source = s->key.port_destination;
	s->back.port_destination = s->key.port_source;
	s->back.protocol = s->key.protocol;
	s->back.pad[0] = 0;
	s->back.pad[1] = 0;
	s->back.pad[2] = 0;
	if (!nat_find(&s->back, f->now))
		return PASS;
	return masquerade(skb, NAT_HOST);
}
#undef FILE_ID
