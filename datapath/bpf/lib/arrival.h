/* Brings a packet that came by an outer device into its endpoint, and lets conntrack remember the frontend that it was
 * sent to. */
#pragma once

#include "dsr.h"
#include "enter.h"
#include "fragment_order.h"
#include "node_port.h"
#include "service_answer.h"

#define FILE_ID FILE_BPF_HOST

/* argument: 1 for IPv6, and */
#define ARRIVAL 2 /* weir_arrival says what the packet was before */
#define ARRIVAL_TUNNEL 4 /* came through the tunnel, whose header says who sent it */

/* Tunnelled packets between nodes, by far most of what an outer device sees of them. */
INLINE int is_tunnel(struct __sk_buff *skb, __u32 ipv6, const struct config *config)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	void *end = packet_end(skb);

	if (!(config->flags & CONFIG_TUNNEL))
		return 0;
	if (ipv6)
		return p + 44 <= (__u8 *)end && p[6] == PROTOCOL_UDP && LOAD16(p + 42) == bpf_htons(config->tunnel_port);
	return p + 24 <= (__u8 *)end && p[0] == 0x45 && p[9] == PROTOCOL_UDP && !(LOAD16(p + 6) & bpf_htons(0x1fff)) &&
	       LOAD16(p + 22) == bpf_htons(config->tunnel_port);
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

INLINE void arrival_fill(struct ct_entry *e, const struct flow *f, const struct arrival *a, const struct config *config)
{
	e->translated = *flow_address(f, TRANSLATE_DESTINATION);
	e->translated_port = f->port_destination;
	e->service = a->service;
	e->backend = a->backend;
	e->created = f->now;
	e->expires = f->now + config->timeout_tcp * config->hz;
	e->flags = CT_SERVICE | (a->source_hi ? CT_ORIGIN_HI : 0);
}

/* The (client, frontend) entry, which keeps the backend. Full: the next packet chooses anew, so this one is dropped. */
NOINLINE int arrival_keep(struct flow *f, const struct arrival *a)
{
	const struct config *config = config_get();
	struct ct_entry *e = ct_new();
	__u32 share;

	if (!f || !a || !config || !e)
		return DROPPED(DROP_CT_CREATE_FAILED);
	share = share_of(f);
	if (!ct_share_admits(share, f))
		return DROPPED(DROP_CT_SHARE);
	arrival_fill(e, f, a, config);
	ct_share_set(e, share);
	if (likely(!bpf_map_update_elem(&weir_ct, &a->key, e, BPF_NOEXIST))) {
		ct_share_add(share, flow_source(f), 1);
		return 0;
	}
	e = bpf_map_lookup_elem(&weir_ct, &a->key);
	if (!e)
		return DROPPED(DROP_CT_CREATE_FAILED);
	ct_share_move(e, &a->key, f, share);
	arrival_fill(e, f, a, config);
	return 0;
}

/* Who sent it and from which node, as the tunnel header says. 0 or a drop. */
NOINLINE int tunnel_source(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct bpf_tunnel_key key = {};

	if (!f || !config)
		return DROPPED(DROP_NO_CONFIG);
	if (unlikely(skb->mark == MARK_FRAGMENT))
		return held_source(skb, f);
	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		f->node.halves[1] = mapped(bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		f->node.words[0] = key.remote_ipv6[0];
		f->node.words[1] = key.remote_ipv6[1];
		f->node.words[2] = key.remote_ipv6[2];
		f->node.words[3] = key.remote_ipv6[3];
	} else {
		return DROPPED(DROP_NO_TUNNEL_KEY);
	}
	/* "Host" means ourselves, and 0 nobody: no node sends these. */
	if (key.tunnel_id == IDENTITY_HOST || key.tunnel_id == 0)
		return DROPPED(DROP_INVALID_IDENTITY);
	f->source_identity = key.tunnel_id == IDENTITY_WORLD ? world_identity(f, config) : key.tunnel_id;
	return 0;
}

/* The world is behind the tunnel when another node passes its packet on with the client's own address: then the client is
 * who its address says, and hears from this node directly. */
INLINE void tunnel_to_world(struct flow *f)
{
	struct ipcache_entry *entry;

	if (!identity_outside(f->source_identity) || (f->flags & FLOW_RELATED))
		return;
	entry = ipcache_lookup(flow_address(f, TRANSLATE_SOURCE));
	if (entry && (entry->node.halves[0] | entry->node.halves[1]))
		return;
	f->flags &= ~FLOW_TUNNEL;
	f->node.halves[0] = 0;
	f->node.halves[1] = 0;
	f->source_identity = 0;
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
	int code, late;

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
	if (late)
		code = 0;
	if (!code && (what & ARRIVAL_TUNNEL)) {
		f->flags |= FLOW_TUNNEL;
		code = tunnel_source(skb, f);
	}
	if (!code)
		code = late;
	if (!(what & ARRIVAL) && fragment_waits(skb, f, code))
		return SHOT;
	if (code)
		return drop(skb, f, code);
	if (what & ARRIVAL_TUNNEL)
		tunnel_to_world(f);
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
	} else if (unlikely(has_options(f)) && !(f->flags & FLOW_RELATED)) {
		service = dsr_read(skb, f, &a->frontend, &a->port);
	}
	f->service = service;
	if (!code)
		code = admit_entry(skb, f, config, own, e, &other);
	if (!code && service) {
		f->service = service;
		service_count_packet(service, skb->len);
		if (!(f->flags & (FLOW_RELATED | FLOW_ERROR)) && (!fits || f->reason == REASON_NEW)) {
			code = arrival_remember(f, &a->frontend, a->port, service, what & ARRIVAL ? a->backend : 0);
			if (!code && (what & ARRIVAL))
				code = arrival_keep(f, a);
		}
	}
	if (!code && (f->flags & FLOW_REPLY_NAT))
		code = service_answer(skb, f);
	if (code)
		return drop(skb, f, code);
	return deliver_local(skb, f, own);
}
#undef FILE_ID
