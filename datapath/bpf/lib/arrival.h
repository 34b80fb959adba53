/* Brings a packet that came by an outer device into its endpoint, and lets conntrack remember the frontend that it was
 * sent to. */
#pragma once

#include "dsr.h"
#include "enter.h"
#include "fragment_order.h"
#include "node_port.h"
#include "redirect_datagram.h"
#include "service_answer.h"

#define FILE_ID FILE_BPF_HOST

/* argument: 1 for IPv6, and */
#define ARRIVAL 2 /* weir_arrival says what the packet was before */
#define ARRIVAL_TUNNEL 4 /* came through the tunnel, whose header says who sent it */

/* Is it a tunnel packet, or the first fragment of one? As plain as kernels make them: what has options, or other extension
 * headers, is none, and from_overlay takes it from nobody. */
INLINE int is_tunnel(struct __sk_buff *skb, __u32 ipv6, const struct config *config)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	__u32 bytes;

	if (!(config->flags & CONFIG_TUNNEL) || p + 20 > (__u8 *)packet_end(skb))
		return 0;
	if (ipv6) {
		if (p[6] != PROTOCOL_UDP && p[6] != IPV6_FRAGMENT)
			return 0;
		bytes = p[6] == IPV6_FRAGMENT ? 56 : 48;
	} else {
		if (p[0] != 0x45 || p[9] != PROTOCOL_UDP || (LOAD16(p + 6) & bpf_htons(0x1fff)))
			return 0;
		bytes = 28;
	}
	if (!reach(skb, 1, ETHERNET_LENGTH + bytes))
		return 0;
	p = packet_start(skb) + ETHERNET_LENGTH;
	if (!ipv6)
		return p + 28 <= (__u8 *)packet_end(skb) && LOAD16(p + 22) == bpf_htons(config->tunnel_port);
	if (p + 48 > (__u8 *)packet_end(skb))
		return 0;
	if (p[6] == PROTOCOL_UDP)
		return LOAD16(p + 42) == bpf_htons(config->tunnel_port);
	return p + 56 <= (__u8 *)packet_end(skb) && p[40] == PROTOCOL_UDP && !(LOAD16(p + 42) & bpf_htons(0xfff8)) &&
	       LOAD16(p + 50) == bpf_htons(config->tunnel_port);
}

INLINE int packet_source(struct __sk_buff *skb, __u32 ipv6, struct address *address)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	void *end = packet_end(skb);

	if (ipv6) {
		if (p + 40 > (__u8 *)end)
			return 0;
		address->halves[0] = LOAD64(p + 8);
		address->halves[1] = LOAD64(p + 16);
	} else {
		if (p + 20 > (__u8 *)end)
			return 0;
		address->halves[0] = 0;
		address->halves[1] = mapped(LOAD32(p + 12));
	}
	return 1;
}

/* The flow was allowed: its entry learns the frontend that answers are to come from; 0 or a drop. */
NOINLINE int arrival_remember(struct flow *f, const struct address *frontend, __u32 port, __u32 service, __u32 backend)
{
	struct ct_entry *e;

	NEVER_NULL(f);
	NEVER_NULL(frontend);
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e)
		return DROPPED(DROP_CT_CREATE_FAILED);
	e->translated = *frontend;
	e->translated_port = port;
	e->service = service;
	e->backend = backend;
	e->flags |= CT_REPLY_NAT;
	return 0;
}

/* arrival_insert() of a flow that was known before. 0 or a drop. */
NOINLINE int arrival_keep(struct flow *f, const struct arrival *a)
{
	const struct config *config = config_get();
	__u32 share;

	if (!f || !a || !config)
		return DROPPED(DROP_CT_CREATE_FAILED);
	share = share_of(f);
	if (!ct_share_take(share, f, 1))
		return DROPPED(DROP_CT_SHARE);
	return arrival_insert(f, a, config, share) ? 0 : DROPPED(DROP_CT_CREATE_FAILED);
}

/* Who sent it and from which node, as the tunnel header says: claims, for sender_check(). 0 or a drop. */
NOINLINE int tunnel_source(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct bpf_tunnel_key key = {};

	if (!f || !config)
		return DROPPED(DROP_NO_CONFIG);
	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		f->node.halves[1] = mapped(bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		f->node.words[0] = key.remote_ipv6[0];
		f->node.words[1] = key.remote_ipv6[1];
		f->node.words[2] = key.remote_ipv6[2];
		f->node.words[3] = key.remote_ipv6[3];
	} else {
		/* (Sockets can set a mark, but what is sent again is the only one without a key.) */
		return skb->mark == MARK_FRAGMENT ? held_source(skb, f) : DROPPED(DROP_NO_TUNNEL_KEY);
	}
	f->vni = key.tunnel_id;
	/* "Host" means ourselves, and 0 nobody, and worlds are told as one: no node sends these. */
	if (!f->vni || f->vni != wire_identity(f->vni))
		return DROPPED(DROP_INVALID_IDENTITY);
	f->source_identity = f->vni == IDENTITY_WORLD ? world_identity(f, config) : f->vni;
	return 0;
}

/* Is it the entry of a flow to this frontend? */
INLINE int arrival_fits(const struct ct_entry *e, const struct arrival *a)
{
	return (e->flags & CT_REPLY_NAT) && e->translated_port == a->port && same_address(&e->translated, &a->frontend);
}

/* A bare SYN opens a closing flow anew. */
INLINE int arrival_opens(const struct ct_entry *e, const struct flow *f)
{
	return is_bare_syn(f) && (e->flags & (CT_CLOSING_FORWARD | CT_CLOSING_REVERSE));
}

/* A packet for endpoint `id`. A function of its own, so that the kernel checks it once and not once for every way in.
 * `what`: see above. */
NOINLINE int arrive(struct __sk_buff *skb, __u32 id, __u32 what)
{
	const struct config *config = config_get();
	struct arrival *a = arrival_get();
	struct endpoint *own, *other;
	struct nat_scratch *s = nat_scratch();
	struct flow *f;
	struct ct_entry *e;
	__u32 service = 0, fits = 0;
	int code, claim, late;

	if (!s)
		return PASS;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	f->flags = FLOW_INGRESS | FLOW_NETWORK;
	f->point = TRACE_TO_LXC;
	f->hook_endpoint = id;
	f->destination_endpoint = id;
	own = endpoint_get(id);
	if (!config || !own || !own->ifindex || !a)
		return what & ARRIVAL_TUNNEL ? drop(skb, f, DROPPED(DROP_UNROUTABLE)) : PASS;
	if (what & 1) {
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
		if (code == PARSED_LINK)
			code = DROPPED(DROP_FORBIDDEN_ICMP6);
	} else {
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	}
	late = DROP_REASON(code) == DROP_FRAG_NOT_FOUND ? code : 0;
	if (what & ARRIVAL_TUNNEL) {
		f->flags |= FLOW_TUNNEL;
		claim = tunnel_source(skb, f);
		if (!code || late)
			code = claim ?: late;
	}
	if (!(what & ARRIVAL) && fragment_waits(skb, f, code))
		return SHOT;
	if (!code && (f->flags & FLOW_RELATED))
		code = sender_check_packet(skb, f);
	if (code)
		return drop(skb, f, code);
	f->now = jiffies();
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (what & ARRIVAL) {
		service = a->backend ? a->service : 0;
		if (service && e && ct_alive(e, f) && !(f->flags & FLOW_RELATED) && !arrival_opens(e, f)) {
			/* The client has this tuple in use for something else: the pod itself, or another frontend. */
			if (!arrival_fits(e, a))
				code = DROPPED(DROP_NAT_NO_MAPPING);
			fits = a->known && e->backend == a->backend;
		}
	} else if (unlikely(has_options(f)) && (!e || !ct_alive(e, f) || arrival_opens(e, f))) {
		/* Only what opens a flow says by which frontend, and with a tunnel only a node does. */
		if ((what & ARRIVAL_TUNNEL) || !(config->flags & CONFIG_TUNNEL))
			service = dsr_read(skb, f, &a->frontend, &a->port);
	}
	f->service = service;
	if (!code)
		code = admit_entry(skb, f, config, own, e, &other, FLOW_INGRESS | FLOW_NETWORK);
	if (!code && service) {
		f->service = service;
		service_count_packet(service, skb->len);
		if (!(f->flags & (FLOW_RELATED | FLOW_ERROR)) && (what & ARRIVAL ? !fits || f->reason == REASON_NEW : f->reason == REASON_NEW)) {
			code = arrival_remember(f, &a->frontend, a->port, service, what & ARRIVAL ? a->backend : 0);
			if (!code && (what & ARRIVAL))
				code = arrival_keep(f, a);
		}
	}
	if (!code && (f->flags & (FLOW_REPLY_NAT | FLOW_STACK))) {
		if (f->redirect & REDIRECT_FLOW)
			return redirect_on(skb, f);
		if (f->flags & FLOW_REPLY_NAT)
			code = service_answer(skb, f);
	}
	if (code) {
		if (what & ARRIVAL)
			f->redirect |= REDIRECT_NAT;
		return refuse_any(skb, f, code);
	}
	return deliver_local(skb, f, own);
}
#undef FILE_ID
