/* Services from outside before the stack has made a packet of what came: what goes on to another machine never needs one.
 *
 *   client ──▶ frontend ──▶ backend far away: SNAT or DSR ──┐
 *   answer ──▶ this node's address and a port of weir_nat ──┴─▶ back out of the device, to the next hop
 *
 * The same frontends, backends and pairs as in from_netdev, and the same rules: a flow may change between the two at any
 * packet. Whatever is not plain passes on untouched, and from_netdev does it: backends of this node, tunnel mode, fragments,
 * options, ICMP, refusals and everything else that is to be told, no way or no neighbour known, and packets whose checksum
 * a device was to finish (those of a local sender, over a veth). */
#include "lib/conntrack.h"
#include "lib/node_port.h"
#include "lib/xdp_packet.h"
#include "lib/xdp_rewrite.h"

#include <bpf/bpf_core_read.h>

#define FILE_ID FILE_BPF_XDP

/* Kernels before 5.18 have no bpf_xdp_load_bytes(): there the event of a new flow has no bytes of the packet. */
enum bpf_func_id___weir_xdp {
	BPF_FUNC_xdp_load_bytes___weir_xdp = 189,
};

/* Other devices that take frames from XDP: interface index -> 1. Not every driver does, and one that does not drops them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 64);
} weir_xdp_devices SEC(".maps");

/* dsr_fits() of a packet as plain as these are. */
INLINE int xdp_dsr_fits(const struct xdp_md *ctx, const struct flow *f, const struct config *config)
{
	__u32 room = f->flags & FLOW_IPV6 ? DSR_IPV6_LENGTH : DSR_IPV4_LENGTH;

	return xdp_length(ctx) - ETHERNET_LENGTH + room <= config->mtu || is_bare_syn(f);
}

/* What from_netdev says of a new flow: TRACE_FROM_NETWORK. */
NOINLINE int xdp_trace(struct xdp_md *ctx)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 length, ipv6;
	struct event *event;

	if (!config || !s)
		return 0;
	event = event_reserve(EVENT_OUTSIDE, EVENT_TRACE, 0);
	if (!event)
		return 0;
	/* Only now, or clang keeps it on the stack meanwhile, and a verifier no longer knows its upper half. */
	length = xdp_length(ctx);
	ipv6 = s->flow.flags & FLOW_IPV6;
	__builtin_memset(event, 0, offsetof(struct event, payload));
	event->type = EVENT_TRACE;
	event->subtype = TRACE_FROM_NETWORK;
	event->time = bpf_ktime_get_ns();
	event->source_identity = ipv6 ? config->world_v6 : config->world_v4;
	event->ifindex = ctx->ingress_ifindex;
	event->length_original = length;
	event->reason = REASON_NEW;
	event->flags = (ipv6 ? EVENT_IPV6 : 0) | EVENT_INGRESS;
	event->protocol = s->key.protocol;
	event->policy_port = bpf_ntohs(s->key.port_destination);
	event->service = s->frontend.service;
	event->holder = EVENT_OUTSIDE;
	if (bpf_core_enum_value_exists(enum bpf_func_id___weir_xdp, BPF_FUNC_xdp_load_bytes___weir_xdp)) {
		if (length >= EVENT_PAYLOAD_MAX) {
			length = EVENT_PAYLOAD_MAX;
			if (bpf_xdp_load_bytes(ctx, 0, event->payload, EVENT_PAYLOAD_MAX))
				length = 0;
		} else if (length > 0 && bpf_xdp_load_bytes(ctx, 0, event->payload, length)) {
			length = 0;
		}
		event->length_captured = length;
	}
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* nat_try() from here. */
NOINLINE int xdp_nat_try(struct xdp_md *ctx, __u32 port)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();

	if (!config || !s)
		return -1;
	s->back.port_destination = bpf_htons(port);
	return nat_port_of_socket(ctx, &s->back) ? 0 : nat_take(s, jiffies(), config->hz);
}

/* nat_create() from here: `s->entry` says whether with DSR. */
INLINE int xdp_nat_create(struct xdp_md *ctx, struct nat_scratch *s, const struct config *config)
{
	__u32 min, max = config->nat_port_max, span, start, now = jiffies(), port, i;
	int taken = 0;

	if (config->nat_port_min > max || !config->nat_port_min)
		return 0;
	nat_begin(s, config, now, s->flow.tcp_flags);
	span = nat_ports(config, &s->entry, &min);
	/* from_netdev says so. */
	if (!nat_share_admits(&s->key, &s->entry, span))
		return 0;
	if (s->entry.flags & NAT_DSR)
		return nat_single(s);
	port = bpf_ntohs(s->entry.port_source);
	start = bpf_get_prandom_u32();
	if (port >= min && port <= max)
		taken = xdp_nat_try(ctx, port);
	for (i = 0; i < NAT_TRIES && !taken; i++)
		taken = xdp_nat_try(ctx, min + (start + i) % span);
	s->entry.port_source = s->back.port_destination;
	return taken == 1 && nat_finish(s, now);
}

/* sender_check() of what no tunnel brought: an address of this node, or nobody's but its own? */
INLINE int xdp_sender_here(const struct address *from, const struct config *config)
{
	return bpf_map_lookup_elem(&weir_addresses, from) || is_loopback(from) || is_own_loopback(from, config);
}

/* A new flow for scratch's frontend. 1: scratch's entry says what to make of it; 0: not here. */
NOINLINE int xdp_new(struct xdp_md *ctx)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct service_client client = {};
	const struct backend *b;
	struct nat_entry *e;
	struct ct_entry *c;
	struct flow *f;
	__u32 id, dsr;

	if (!config || !s)
		return 0;
	f = &s->flow;
	/* Nobody outside has an address of this node: from_netdev drops it, and says so. */
	if (xdp_sender_here(&s->key.source, config))
		return 0;
	/* It has a backend here. */
	flow_set_key(f, s->key.source.halves[0], s->key.source.halves[1], s->key.destination.halves[0],
		     s->key.destination.halves[1], s->key.protocol);
	c = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (c && (c->flags & CT_SERVICE))
		return 0;
	client.address = s->key.source;
	client.port = s->key.port_source;
	client.protocol = s->key.protocol;
	client.scope = SCOPE_EXTERNAL;
	/* from_netdev chooses again, when the choice falls on a backend of this node, and chooses the same: see there. */
	id = backend_select(&s->frontend, &client);
	b = id ? backend_get(id) : 0;
	if (!b || b->state == BACKEND_GONE || destination_of(&b->address) >= 0)
		return 0;
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.source = s->key.source;
	s->entry.destination = b->address;
	s->entry.port_source = s->key.port_source;
	s->entry.port_destination = b->port;
	s->entry.service = s->frontend.service;
	s->entry.backend = id;
	s->entry.share = SHARE_OUTSIDE;
	dsr = (s->frontend.flags & FRONTEND_DSR) && xdp_dsr_fits(ctx, f, config);
	if (dsr) {
		s->entry.flags = NAT_DSR;
	} else {
		if (f->flags & FLOW_IPV6) {
			s->entry.source = config->ipv6;
		} else {
			s->entry.source.halves[0] = 0;
			s->entry.source.halves[1] = mapped(config->ipv4);
		}
		if (!s->entry.source.words[3])
			return 0;
	}
	if (!xdp_nat_create(ctx, s, config))
		return 0;
	e = nat_find(&s->key, jiffies());
	if (!e)
		return 0;
	service_count_connection(s->frontend.service, 0);
	xdp_trace(ctx);
	s->entry = *e;
	return 1;
}

#define XDP_KNOWN 1
#define XDP_NEW 2

/* What weir_nat and weir_frontends say of scratch's key. XDP_KNOWN: scratch's entry says what to make of the packet; XDP_NEW: scratch has
 * its frontend; 0: not here. `own`: the destination is this node's own address. */
NOINLINE int xdp_lookup(__u32 own)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct frontend *frontend;
	struct nat_entry *e = 0;
	struct flow *f;
	__u32 port;
	int syn;

	if (!config || !s)
		return 0;
	f = &s->flow;
	f->now = jiffies();
	port = bpf_ntohs(s->key.port_destination);
	if (own && port >= config->nat_port_min && port <= config->nat_port_max) {
		e = nat_find(&s->key, f->now);
		if (e && (e->flags & NAT_REVERSE))
			goto known;
	}
	frontend = frontend_get(&s->key.destination, s->key.port_destination, s->key.protocol);
	if (!frontend && own)
		frontend = frontend_of_node(&s->key.destination, s->key.port_destination, s->key.protocol);
	if (!frontend || (frontend->flags & (FRONTEND_CLOSED | FRONTEND_EXTERNAL)) != FRONTEND_EXTERNAL ||
	    !frontend_admits(frontend, &s->key.source))
		return 0;
	s->frontend = *frontend;
	if (!e)
		e = nat_find(&s->key, f->now);
	if (!e)
		return XDP_NEW;
	syn = is_bare_syn(f);
	if ((syn && nat_closing(e)) || !backend_keeps(frontend->service, e->service, e->backend, &e->destination, e->port_destination,
						      s->key.protocol, syn))
		return 0;
known:
	if (e->flags & (NAT_MASQUERADE | NAT_HOST | NAT_LOCAL | NAT_TUNNEL))
		return 0;
	nat_touch(e, f->tcp_flags, s->key.protocol, config, f->now);
	s->entry = *e;
	return XDP_KNOWN;
}

/* Sends scratch's packet on. Passes it on untouched when there is no way, no neighbour, or no device that would take it. */
NOINLINE int xdp_send(struct xdp_md *ctx)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct bpf_fib_lookup fib = {};
	__u32 length = xdp_length(ctx), room = 0;
	struct flow *f;
	__u8 *p;

	if (!config || !s)
		return XDP_PASS;
	f = &s->flow;
	if ((s->entry.flags & NAT_DSR) && (s->key.protocol != PROTOCOL_TCP || is_bare_syn(f)) && xdp_dsr_fits(ctx, f, config))
		room = f->flags & FLOW_IPV6 ? DSR_IPV6_LENGTH : DSR_IPV4_LENGTH;
	fib.ifindex = ctx->ingress_ifindex;
	fib.l4_protocol = s->key.protocol;
	fib.tot_len = length - ETHERNET_LENGTH + room;
	if (f->flags & FLOW_IPV6) {
		fib.family = ADDRESS_FAMILY_INET6;
		__builtin_memcpy(fib.ipv6_src, &s->entry.source, 16);
		__builtin_memcpy(fib.ipv6_dst, &s->entry.destination, 16);
	} else {
		fib.family = ADDRESS_FAMILY_INET;
		fib.ipv4_src = s->entry.source.words[3];
		fib.ipv4_dst = s->entry.destination.words[3];
	}
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	if (fib.ifindex != ctx->ingress_ifindex && !bpf_map_lookup_elem(&weir_xdp_devices, &fib.ifindex))
		return XDP_PASS;
	if (!xdp_rewrite(ctx, s))
		return XDP_PASS;
	/* From here on the packet is another one: it goes this way or none. */
	if (room && !(f->flags & FLOW_IPV6 ? xdp_dsr_ipv6(ctx) : xdp_dsr_ipv4(ctx)))
		goto failed;
	p = xdp_start(ctx);
	if (p + ETHERNET_LENGTH > (__u8 *)xdp_end(ctx))
		goto failed;
	__builtin_memcpy(p, fib.dmac, 6);
	__builtin_memcpy(p + 6, fib.smac, 6);
	*(__u16 *)(p + 12) = f->flags & FLOW_IPV6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
	count(0, 0, DIRECTION_SERVICE, length);
	if (s->entry.service)
		service_count_packet(s->entry.service, length);
	return fib.ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(fib.ifindex, 0);
failed:
	count(0, DROP_WRITE_ERROR, DIRECTION_SERVICE, length);
	return XDP_DROP;
}

SEC("xdp")
int xdp_netdev(struct xdp_md *ctx)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	int own, found;

	if (!config || !s || !config->hz || !(config->flags & CONFIG_DIRECT) || !xdp_parse(ctx, s))
		return XDP_PASS;
	own = destination_of(&s->key.destination);
	if (own > 0)
		return XDP_PASS;
	found = xdp_lookup(own == 0);
	if (found == XDP_NEW)
		found = xdp_new(ctx);
	return found ? xdp_send(ctx) : XDP_PASS;
}
#undef FILE_ID
