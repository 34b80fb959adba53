/* Tells who sends TCP at once that the connection is none: a RST in the name of whom it was sent to. For connections that only the proxy
 * may have, and that it cannot have. Of one that is open both ends hear: the other may wait for an answer, and would for ever. */
#pragma once

#include "arrival_record.h"
#include "deliver.h"
#include "nat.h"
#include "reject.h"
#include "translate.h"

#define FILE_ID FILE_REFUSE

#define TCP_DOFF_20 0x50
/* refuse() says: the packet is a RST now for whom it was sent to, and is to go there as the packet would have. */
#define REFUSED_BOTH 0x100

/* The segment that is refused (numbers and ports be), and whom its RST is for. */
struct refusal {
	struct address source;
	struct address destination;
	__u32 sequence;
	__u32 acknowledged;
	__u32 bytes; /* of data, SYN and FIN counted */
	__u16 port_source;
	__u16 port_destination;
	__u8 offset; /* as in the header */
	__u8 flags;
	__u8 on; /* the RST goes on to the destination, else back to the source */
	__u8 pad;
};
_Static_assert(sizeof(struct refusal) <= sizeof(struct nat_entry), "refusal");

INLINE const struct address *refusal_from(const struct refusal *r)
{
	return r->on ? &r->source : &r->destination;
}

INLINE const struct address *refusal_to(const struct refusal *r)
{
	return r->on ? &r->destination : &r->source;
}

/* What is set of a zeroed TCP header. */
INLINE void refuse_tcp(__u8 *to, const struct refusal *r)
{
	*(__u16 *)to = r->on ? r->port_source : r->port_destination;
	*(__u16 *)(to + 2) = r->on ? r->port_destination : r->port_source;
	to[12] = TCP_DOFF_20;
	if (r->on) {
		*(__u32 *)(to + 4) = r->sequence;
		to[13] = TCP_RST;
	} else if (r->flags & TCP_ACK) {
		*(__u32 *)(to + 4) = r->acknowledged;
		to[13] = TCP_RST;
	} else {
		*(__u32 *)(to + 8) = bpf_htonl(bpf_ntohl(r->sequence) + r->bytes);
		to[13] = TCP_RST | TCP_ACK;
	}
}

NOINLINE int refuse_ipv4(struct __sk_buff *skb, const struct refusal *r)
{
	/* 12 bytes of pseudo header where the last of the real one will be */
	__u32 made[10] = {};
	__u8 *h = (__u8 *)made;

	if (!r)
		return -1;
	refuse_tcp(h + 20, r);
	made[2] = bpf_htonl(PROTOCOL_TCP << 16 | 20);
	made[3] = refusal_from(r)->words[3];
	made[4] = refusal_to(r)->words[3];
	*(__u16 *)(h + 36) = sum_of(made + 2, 32, 0);
	made[0] = bpf_htonl(0x45000028);
	made[2] = bpf_htonl(64u << 24 | PROTOCOL_TCP << 16);
	*(__u16 *)(h + 10) = sum_of(made, 20, 0);
	return bpf_skb_change_tail(skb, ETHERNET_LENGTH + sizeof(made), 0) ||
	       bpf_skb_store_bytes(skb, ETHERNET_LENGTH, made, sizeof(made), 0);
}

NOINLINE int refuse_ipv6(struct __sk_buff *skb, const struct refusal *r)
{
	__u32 made[15] = {};
	__u8 *h = (__u8 *)made;

	if (!r)
		return -1;
	refuse_tcp(h + 40, r);
	made[0] = bpf_htonl(20);
	made[1] = bpf_htonl(PROTOCOL_TCP);
	__builtin_memcpy(made + 2, refusal_from(r), 16);
	__builtin_memcpy(made + 6, refusal_to(r), 16);
	*(__u16 *)(h + 56) = sum_of(made, sizeof(made), 0);
	made[0] = bpf_htonl(6u << 28);
	made[1] = bpf_htonl(20u << 16 | PROTOCOL_TCP << 8 | 64);
	return bpf_skb_change_tail(skb, ETHERNET_LENGTH + sizeof(made), 0) ||
	       bpf_skb_store_bytes(skb, ETHERNET_LENGTH, made, sizeof(made), 0);
}

INLINE int refuse_make(struct __sk_buff *skb, const struct flow *f, const struct refusal *r)
{
	return f->flags & FLOW_IPV6 ? refuse_ipv6(skb, r) : refuse_ipv4(skb, r);
}

/* Is it a drop that its sender has to hear of? */
INLINE int refused(int code)
{
	switch (DROP_REASON(code)) {
	case DROP_PROXY_LOOKUP_FAILED:
	case DROP_HANDLES_FULL:
	case DROP_HANDLE_SHARE:
	case DROP_HANDLE_GONE:
	case DROP_DIRECT_CONNECTION:
		return 1;
	}
	return 0;
}

/* Does the RST reach the other end all the same? It opens nothing, and whom it is for would wait until its own time limit. Only of a direct
 * connection that conntrack has; a forged one says no more than any packet of it, for which both ends are reset, and its receiver looks at its
 * sequence number. */
INLINE int reset_goes_on(const struct flow *f, int code)
{
	const struct ct_entry *e = DROP_REASON(code) == DROP_DIRECT_CONNECTION ? bpf_map_lookup_elem(&weir_ct, &f->key) : 0;

	return e && ct_alive(e, f) && !(e->flags & CT_REDIRECT);
}

/* Is it one of a connection that there is, so that the other end has to hear of it too? It expects this packet's number next, or else asks
 * back (RFC 5961), and is told then. Not by an answer to a SYN: who sent that sends it again, which the proxy may have. */
INLINE int refused_both(int code, __u8 flags)
{
	return DROP_REASON(code) == DROP_DIRECT_CONNECTION && !(flags & TCP_SYN);
}

/* Sends the RST for the sender: on the device that brought the packet, through the tunnel, or into the stack as what the endpoint sends (whose
 * RST goes on, by reset_goes_on()). A verdict, or -1. */
INLINE int refuse_back(struct __sk_buff *skb, struct flow *f, const struct refusal *r, const __u8 *macs, __u32 device, __u32 mark)
{
	const struct config *config = config_get();
	const struct endpoint *own;
	__u8 back[12];
	int stack;

	if (!config || refuse_make(skb, f, r))
		return -1;
	if ((f->flags & (FLOW_TUNNEL | FLOW_INGRESS)) == (FLOW_TUNNEL | FLOW_INGRESS)) {
		/* (The tunnel's other end takes a frame of its own address for a loop.) */
		if (bpf_skb_store_bytes(skb, 0, macs, 12, 0))
			return -1;
		f->source_identity = f->destination_identity;
		wire_of(f, endpoint_get(f->destination_endpoint));
		if (tunnel_key(skb, f, config))
			return -1;
		skb->mark = MARK_OVERLAY;
		return bpf_redirect(config->tunnel_ifindex, 0);
	}
	own = f->flags & FLOW_INGRESS ? endpoint_get(f->hook_endpoint) : 0;
	stack = own && own->ifindex == device;
	__builtin_memcpy(back, stack ? own->host_mac : macs + 6, 6);
	__builtin_memcpy(back + 6, macs, 6);
	if (bpf_skb_store_bytes(skb, 0, back, 12, 0))
		return -1;
	skb->mark = stack ? 0 : mark;
	return bpf_redirect(device, stack ? BPF_F_INGRESS : 0);
}

/* The RST for endpoint `to`, past whatever else would look at it. (A clone: its device's program passes it for its mark, lib/maps.h.) */
INLINE int refuse_on(struct __sk_buff *skb, struct flow *f, struct refusal *r, const struct endpoint *to)
{
	const struct ct_entry *e = f->flags & FLOW_REPLY_NAT ? bpf_map_lookup_elem(&weir_ct, &f->key) : 0;

	if (e) {
		r->source = e->translated;
		r->port_source = e->translated_port;
	}
	r->on = 1;
	if (refuse_make(skb, f, r) || bpf_skb_store_bytes(skb, 0, to->mac, 12, 0))
		return -1;
	skb->mark = MARK_DELIVERED;
	return bpf_clone_redirect(skb, to->ifindex, 0) ? -1 : 0;
}

/* drop(), and what refused() names is answered; a RST is none to answer, but may go on, made anew without what it carries. A verdict, or
 * REFUSED_BOTH from the hook of who sends. */
NOINLINE int refuse(struct __sk_buff *skb, struct flow *f, __u32 code)
{
	struct nat_scratch *s = nat_scratch();
	struct refusal *r;
	const struct arrival *a;
	struct endpoint *own;
	__u32 l3, link, reset, device = skb->ifindex, mark = MARK_DELIVERED;
	int verdict, back;
	__u8 macs[12];

	if (!f || !s)
		return SHOT;
	/* (The stack has no room for it.) */
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	r = (struct refusal *)&s->entry;
	l3 = ETHERNET_LENGTH + (f->flags & FLOW_IPV6 ? 40 : 20);
	verdict = drop(skb, f, code);
	if (!refused(code) || f->protocol != PROTOCOL_TCP || (f->flags & (FLOW_RELATED | FLOW_FRAGMENT)) || f->l4_offset != l3 ||
	    bpf_skb_load_bytes(skb, l3 + 4, &r->sequence, 8) || bpf_skb_load_bytes(skb, l3 + 12, &r->offset, 2) ||
	    bpf_skb_load_bytes(skb, 0, macs, 12))
		return verdict;
	reset = r->flags & TCP_RST;
	if (reset && ((r->flags & TCP_SYN) || !reset_goes_on(f, code)))
		return verdict;
	link = l3 + (r->offset >> 4) * 4;
	r->bytes = (skb->len > link ? skb->len - link : 0) + ((r->flags & TCP_SYN) ? 1 : 0) + (r->flags & TCP_FIN);
	r->destination = *flow_address(f, TRANSLATE_DESTINATION);
	r->port_destination = f->port_destination;
	r->source = *flow_address(f, TRANSLATE_SOURCE);
	r->port_source = f->port_source;
	/* (Clang would make one load of the two devices.) */
	asm volatile("" : "+r"(device));
	if (refused_both(code, r->flags) && (f->flags & FLOW_INGRESS)) {
		own = endpoint_get(f->hook_endpoint);
		if (!own || !own->ifindex || refuse_on(skb, f, r, own) || reset)
			return verdict;
		r->on = 0;
		r->source = *flow_address(f, TRANSLATE_SOURCE);
		r->port_source = f->port_source;
	}
	if (reset)
		goto on;
	a = f->flags & FLOW_SERVICE || f->redirect & REDIRECT_NAT ? arrival_get() : 0;
	if (a && (f->flags & FLOW_SERVICE || a->backend)) {
		/* The client knows the frontend only. */
		r->destination = a->frontend;
		r->port_destination = a->port;
	} else if (a) {
		/* As what the endpoint sends, which to_netdev gives this node's address. */
		mark = 0;
	}
	back = refuse_back(skb, f, r, macs, device, mark);
	if (back < 0)
		return verdict;
	if (!refused_both(code, r->flags) || (f->flags & FLOW_INGRESS))
		return back;
	bpf_clone_redirect(skb, device, 0);
	skb->mark = 0;
	r->destination = *flow_address(f, TRANSLATE_DESTINATION);
	r->port_destination = f->port_destination;
on:
	r->on = 1;
	return refuse_make(skb, f, r) || bpf_skb_store_bytes(skb, 0, macs, 12, 0) ? verdict : REFUSED_BOTH;
}
#undef FILE_ID
