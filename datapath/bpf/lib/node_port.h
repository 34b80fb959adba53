/* North-south services: what comes from outside the cluster for a service, and what comes back.
 *
 *   client ──▶ frontend on this node ─┬─ backend here: destination rewritten, conntrack keeps the frontend; the answer
 *                                     │                gets it back as its source in to_netdev
 *                                     ├─ backend far away: source too, a pair of weir_nat; answers come back here
 *                                     └─ or DSR: the client's address goes on, the frontend beside it in an option
 *
 * The same function finds the answers of everything else in weir_nat: masquerade, and the node's own connections.
 */
#pragma once

#include "arrival_record.h"
#include "dsr.h"
#include "enter.h"
#include "fragment_order.h"
#include "nat.h"
#include "nat_apply.h"
#include "reject.h"
#include "route.h"
#include "service.h"

#define FILE_ID FILE_NODE_PORT

#define NODE_PORT_OWN (1u << 16) /* argument: the destination is this node's own address */
#define NODE_PORT_IPV4 (1u << 18) /* argument: not FLOW_IPV6, which makes it differ from none */
#define NODE_PORT_KNOWN (1u << 17) /* argument: scratch has the frontend already */
#define NODE_PORT_ENDPOINT (1 << 16) /* verdict: translated, for the endpoint in the low bits */
#define NODE_PORT_SEND (1 << 17) /* verdict: scratch says what to make of the packet */
#define NODE_PORT_NEW (1 << 18) /* verdict: a new flow for scratch's frontend */
#define NODE_PORT_REFUSE (1 << 19) /* verdict: scratch's frontend has nobody for it */

INLINE int node_port_protocol(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP;
}

/* May a flow of the service `known` go on with the backend that it has, where its frontend is `service`'s now? `syn`: the packet opens
 * a connection; one that is open stays where it is. Whose record names somebody else by now is gone. */
INLINE int backend_keeps(__u32 service, __u32 known, __u32 id, const struct address *address, __u16 port, __u8 protocol, int syn)
{
	const struct backend *b;

	if (protocol == PROTOCOL_TCP && !syn)
		return 1;
	if (service != known)
		return 0;
	b = backend_get(id);
	if (!b || b->state == BACKEND_GONE || b->port != port || b->protocol != protocol ||
	    b->address.halves[0] != address->halves[0] || b->address.halves[1] != address->halves[1])
		return 0;
	return b->state == BACKEND_ACTIVE || !syn;
}

/* Makes scratch's packet what scratch's entry says, and sends it on. A verdict, or NODE_PORT_ENDPOINT. */
NOINLINE int node_port_send(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct address frontend = {};
	__u32 flags, port, dsr = 0;
	struct flow *f;
	int code;

	if (!config || !s)
		return SHOT;
	f = &s->flow;
	flags = s->entry.flags;
	port = f->port_destination;
	/* Said now, while the packet is still the client's, and from here: the stack would tell of the new one this node, and of
	 * the old one that nobody listens. What came through the tunnel has no way back by its device. */
	if (!(flags & (NAT_HOST | NAT_LOCAL)) && hop_is_last(skb, f))
		return f->flags & FLOW_TUNNEL ? drop_or_exceed(skb, f, DROPPED(DROP_TTL_EXCEEDED)) : exceeded(skb, f);
	if (flags & NAT_DSR) {
		dsr = !(f->flags & FLOW_RELATED) && (f->protocol != PROTOCOL_TCP || is_bare_syn(f)) &&
		      dsr_fits(skb, f, config);
		frontend = s->key.destination;
	}
	code = nat_apply(skb, f, &s->entry);
	if (!code && dsr)
		code = f->flags & FLOW_IPV6 ? dsr_write_ipv6(skb, &frontend, port) : dsr_write_ipv4(skb, &frontend, port);
	if (code)
		return drop(skb, f, code);
	if (s->endpoint)
		return NODE_PORT_ENDPOINT | s->endpoint;
	if (s->entry.service)
		service_count_packet(s->entry.service, skb->len);
	if (flags & (NAT_HOST | NAT_LOCAL))
		return PASS;
	count(0, 0, DIRECTION_SERVICE, skb->len);
	/* What answers is a frontend of this node; who asks for a node or a pod has this node's address. */
	if (flags & (NAT_REVERSE | NAT_INSIDE))
		f->source_identity = IDENTITY_HOST;
	return send_out(skb, f, &s->entry.source, &s->entry.destination, !(flags & NAT_REVERSE) || (flags & NAT_TUNNEL));
}

/* Would the flow or its answers be packets for a tunnel port? */
INLINE int node_port_tunnels(const struct flow *f, __u16 port, const struct config *config)
{
	return (config->flags & CONFIG_TUNNEL) && f->key.protocol == PROTOCOL_UDP &&
	       (port == bpf_htons(config->tunnel_port) || f->port_source == bpf_htons(config->tunnel_port));
}

/* Makes the pair for a backend that is not an endpoint of this node; scratch has the key. 0 or a drop. */
NOINLINE int node_port_pair(struct __sk_buff *skb, __u32 id, __u32 local)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	const struct backend *b = backend_get(id);
	struct ipcache_entry *backend;
	struct flow *f;
	__u32 search = 0, outside;
	int code;

	if (!config || !s || !b)
		return DROPPED(DROP_NAT_NO_MAPPING);
	f = &s->flow;
	outside = identity_outside(f->source_identity);
	__builtin_memset(&s->entry, 0, sizeof(s->entry));
	s->entry.source = s->key.source;
	s->entry.destination = b->address;
	s->entry.port_source = s->key.port_source;
	s->entry.port_destination = b->port;
	s->entry.service = s->frontend.service;
	s->entry.backend = id;
	s->entry.share = SHARE_OUTSIDE;
	if (f->flags & FLOW_TUNNEL)
		s->entry.flags = NAT_TUNNEL;
	/* A tunnel packet is the kernel's to make: neither question nor answer may become one. */
	if (node_port_tunnels(f, b->port, config))
		return DROPPED(DROP_ENCAP_PROHIBITED);
	if (local) {
		s->entry.flags |= NAT_LOCAL;
	} else if ((s->frontend.flags & FRONTEND_DSR) && !(f->flags & FLOW_TUNNEL) &&
		   (outside || !(config->flags & CONFIG_TUNNEL)) && dsr_fits(skb, f, config)) {
		/* (The backend's node would not take an address of another node from this one.) */
		s->entry.flags |= NAT_DSR;
	} else {
		search = 1;
		if (!outside)
			s->entry.flags |= NAT_INSIDE;
		backend = config->flags & CONFIG_TUNNEL ? ipcache_lookup(&b->address) : 0;
		/* (A node itself answers another node directly.) */
		if (backend && !is_zero(&backend->node) && !(backend->flags & IPCACHE_SKIP_TUNNEL) &&
		    backend->identity != IDENTITY_REMOTE_NODE)
			s->entry.flags |= NAT_ANSWER_TUNNEL;
		if (f->flags & FLOW_IPV6) {
			s->entry.source = config->ipv6;
		} else {
			s->entry.source.halves[0] = 0;
			s->entry.source.halves[1] = mapped(config->ipv4);
		}
		if (!s->entry.source.words[3])
			return DROPPED(DROP_NAT_NO_MAPPING);
	}
	code = nat_create(skb, search, f->tcp_flags);
	return code ? (int)DROPPED(code) : 0;
}

/* Nobody is there: the client is told, unless it is to try another node (externalTrafficPolicy Local) or silence is
 * wanted. */
NOINLINE int node_port_refuse(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	const struct frontend *frontend;

	if (!config || !s)
		return SHOT;
	frontend = &s->frontend;
	service_count_connection(frontend->service, 1);
	if ((s->flow.flags & FLOW_TUNNEL) || (frontend->selections[SCOPE_INTERNAL] && !(frontend->flags & FRONTEND_CLOSED)))
		return drop(skb, &s->flow, DROPPED(DROP_NO_SERVICE));
	return reject(skb, &s->flow, config, DROPPED(DROP_NO_SERVICE));
}

/* The flow goes to a backend among this node's endpoints, which scratch's entry names. */
INLINE int node_port_local(struct nat_scratch *s, struct arrival *a, __u32 endpoint, __u32 backend, __u32 known)
{
	a->key = s->flow.key;
	a->source_hi = s->flow.source_hi;
	a->frontend = s->key.destination;
	a->port = s->key.port_destination;
	a->service = s->frontend.service;
	a->backend = backend;
	a->frontends_revision = 0;
	a->known = known;
	s->entry.source = s->key.source;
	s->entry.port_source = s->key.port_source;
	s->entry.flags = 0;
	s->entry.service = s->frontend.service;
	s->endpoint = endpoint;
	return NODE_PORT_SEND;
}

/* A new flow for scratch's frontend. A verdict, NODE_PORT_REFUSE or NODE_PORT_SEND. */
NOINLINE int node_port_new(struct __sk_buff *skb)
{
	struct nat_scratch *s = nat_scratch();
	struct arrival *a = arrival_get();
	struct service_client client = {};
	const struct backend *b;
	struct nat_entry *e;
	struct flow *f;
	int where, code;
	__u32 id;

	if (!s || !a)
		return SHOT;
	f = &s->flow;
	/* (The tunnel's senders were checked.) */
	if (!(f->flags & FLOW_TUNNEL)) {
		code = sender_check_packet(skb, f);
		if (code)
			return drop(skb, f, code);
	}
	client.address = s->key.source;
	client.port = s->key.port_source;
	client.protocol = s->key.protocol;
	client.scope = SCOPE_EXTERNAL;
	id = backend_select(&s->frontend, &client);
	b = id ? backend_get(id) : 0;
	if (!b || b->state == BACKEND_GONE)
		return NODE_PORT_REFUSE;
	s->entry.destination = b->address;
	s->entry.port_destination = b->port;
	service_count_connection(s->frontend.service, 0);
	where = destination_of(&b->address);
	if (where > 0)
		return node_port_local(s, a, where, id, 0);
	code = node_port_pair(skb, id, where == 0);
	if (code)
		return drop(skb, f, code);
	e = nat_find(&s->key, f->now);
	if (!e)
		return drop(skb, f, DROPPED(DROP_NAT_NO_MAPPING));
	f->reason = REASON_NEW;
	trace(skb, f, TRACE_FROM_NETWORK);
	s->entry = *e;
	return NODE_PORT_SEND;
}

/* Who is behind the tunnel (`tunnel`) asks and answers through it, and from_overlay has checked him; what an error says is said by
 * who sends that. 0 or a drop. */
INLINE int node_port_sender(struct __sk_buff *skb, struct flow *f, __u32 tunnel)
{
	if (f->flags & FLOW_TUNNEL)
		return 0;
	if (f->flags & FLOW_RELATED)
		return sender_check_packet(skb, f);
	return tunnel ? DROPPED(DROP_INVALID_IDENTITY) : 0;
}

/* A request for scratch's frontend; `e` is what weir_nat has under its key. A verdict, NODE_PORT_NEW or, with scratch's
 * entry and endpoint filled, NODE_PORT_SEND. */
NOINLINE int node_port_request(struct __sk_buff *skb, struct nat_entry *e)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct arrival *a = arrival_get();
	struct ct_entry *c;
	struct flow *f;
	int syn, where, code;

	if (!config || !s || !a)
		return SHOT;
	f = &s->flow;
	f->service = s->frontend.service;
	if (s->frontend.flags & FRONTEND_CLOSED)
		return NODE_PORT_REFUSE;
	if (!(s->frontend.flags & FRONTEND_EXTERNAL))
		return drop(skb, f, DROPPED(DROP_IS_CLUSTER_IP));
	/* Source ranges are for who comes from outside. */
	if (!(f->flags & FLOW_RELATED) && identity_outside(f->source_identity) &&
	    !frontend_admits(&s->frontend, &s->key.source)) {
		service_count_connection(s->frontend.service, 1);
		return drop(skb, f, DROPPED(DROP_NOT_IN_SRC_RANGE));
	}
	syn = is_bare_syn(f);
	if (e) {
		code = node_port_sender(skb, f, e->flags & NAT_TUNNEL);
		if (code)
			return drop(skb, f, code);
		/* What an error says about a flow changes nothing in it. */
		if ((f->flags & FLOW_RELATED) ||
		    (!(syn && nat_closing(e)) &&
		     backend_keeps(s->frontend.service, e->service, e->backend, &e->destination, e->port_destination, f->key.protocol,
				   syn))) {
			if (!(f->flags & FLOW_RELATED))
				nat_touch(e, f->tcp_flags, f->key.protocol, config, f->now);
			s->entry = *e;
			return NODE_PORT_SEND;
		}
		nat_delete(&s->key);
	}
	c = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (c && (c->flags & CT_SERVICE) &&
	    backend_keeps(s->frontend.service, c->service, c->backend, &c->translated, c->translated_port, f->key.protocol, syn)) {
		where = destination_of(&c->translated);
		if (where > 0) {
			s->entry.destination = c->translated;
			s->entry.port_destination = c->translated_port;
			return node_port_local(s, a, where, c->backend, 1);
		}
	}
	/* Neither an error nor a later fragment opens a flow. */
	if (f->flags & (FLOW_RELATED | FLOW_FRAGMENT))
		return drop(skb, f, DROPPED(DROP_NO_SERVICE));
	return NODE_PORT_NEW;
}

/* The frontend for a destination, if there is one: 1, and scratch has it. */
INLINE int node_port_frontend(struct nat_scratch *s, const struct address *to, __u16 port, __u8 protocol, __u32 own)
{
	const struct frontend *frontend = 0;

	if (node_port_protocol(protocol)) {
		frontend = frontend_get(to, port, protocol);
		if (!frontend && own)
			frontend = frontend_of_node(to, port, protocol);
	}
	if (!frontend && !own)
		frontend = frontend_closed(to);
	if (!frontend)
		return 0;
	s->frontend = *frontend;
	return 1;
}

/* A look at a plain packet, before it is parsed: most of what an outer device brings is the host's own. 0: nothing for
 * node_port(); else its flags. */
NOINLINE __u32 node_port_peek(struct __sk_buff *skb, const struct address *to, __u32 flags)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 own = flags & NODE_PORT_OWN, port;
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	void *end = packet_end(skb);
	__u16 port_be;
	__u8 protocol;

	if (!to || !config || !s)
		return 0;
	if (flags & FLOW_IPV6) {
		if (p + 44 > (__u8 *)end)
			return flags;
		protocol = p[6];
		port_be = LOAD16(p + 42);
	} else {
		if (p + 24 > (__u8 *)end || p[0] != 0x45 || (LOAD16(p + 6) & bpf_htons(0x3fff)))
			return flags;
		protocol = p[9];
		port_be = LOAD16(p + 22);
	}
	if (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP)
		return flags;
	port = bpf_ntohs(port_be);
	if (own && protocol == PROTOCOL_UDP && port == config->tunnel_port && (config->flags & CONFIG_TUNNEL))
		return 0;
	if (own && is_near_proxy(port, config))
		return flags;
	if (own && port >= config->nat_port_min && port <= config->nat_port_max)
		return flags;
	return node_port_frontend(s, to, port_be, protocol, own) ? flags | NODE_PORT_KNOWN : 0;
}

/* A packet whose destination is this node (NODE_PORT_OWN), or no address that it knows. `flags`: FLOW_IPV6, FLOW_TUNNEL.
 * `identity`: of who sent it through the tunnel. A verdict (PASS: not a service's, nothing was changed), NODE_PORT_NEW or
 * NODE_PORT_SEND. What cannot be parsed is the stack's business: it may be the host's own. */
NOINLINE int node_port(struct __sk_buff *skb, __u32 flags, __u32 identity)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct arrival *a = arrival_get();
	struct nat_entry *e = 0;
	struct flow *f;
	__u32 port;
	int code;

	if (!config || !s || !a)
		return PASS;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	a->backend = 0;
	s->endpoint = 0;
	f->flags = FLOW_INGRESS | FLOW_NETWORK | (flags & FLOW_TUNNEL);
	if (flags & FLOW_IPV6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	/* For this node or a virtual address: its ports say whether it is a service's. What came through the tunnel has waited. */
	if (fragment_matters(f, code) && !(flags & FLOW_TUNNEL) && ((flags & NODE_PORT_OWN) || frontend_closed(flow_address(f, TRANSLATE_DESTINATION))) &&
	    fragment_waits(skb, f, code))
		return SHOT;
	if (code)
		return PASS;
	f->now = jiffies();
	f->source_identity = identity ?: world_identity(f, config);
	nat_key_of(&s->key, f);
	port = bpf_ntohs(f->port_destination);
	if ((flags & NODE_PORT_OWN) && is_for_proxy(f, config))
		return drop(skb, f, DROPPED(DROP_HANDLE_ADDRESS));
	if ((flags & NODE_PORT_OWN) && port >= config->nat_port_min && port <= config->nat_port_max) {
		e = nat_find(&s->key, f->now);
		if (e && (e->flags & NAT_REVERSE)) {
			code = node_port_sender(skb, f, e->flags & NAT_ANSWER_TUNNEL);
			if (code)
				return drop(skb, f, code);
			s->entry = *e;
			f->service = e->service;
			if (e->flags & NAT_MASQUERADE) {
				code = destination_of(&e->destination);
				if (code <= 0)
					return drop(skb, f, DROPPED(DROP_UNROUTABLE));
				s->endpoint = code;
				if (unlikely(f->tcp_flags & (TCP_RST | TCP_FIN)) && !reset_counts_masqueraded(skb, code, 1))
					f->tcp_flags = TCP_ACK;
			}
			if (!(f->flags & FLOW_RELATED))
				nat_touch(e, f->tcp_flags, f->key.protocol, config, f->now);
			return NODE_PORT_SEND;
		}
	}
	if (!(flags & NODE_PORT_KNOWN) && !node_port_frontend(s, &s->key.destination, f->port_destination, f->key.protocol,
							      flags & NODE_PORT_OWN))
		return PASS;
	if (!e && !(s->frontend.flags & FRONTEND_CLOSED))
		e = nat_find(&s->key, f->now);
	return node_port_request(skb, e);
}

/* All of it: a verdict, or NODE_PORT_ENDPOINT. One step after the other, so that their stacks do not add up. */
INLINE int node_port_all(struct __sk_buff *skb, const struct address *to, __u32 flags, __u32 identity)
{
	int code;

	flags = node_port_peek(skb, to, flags);
	if (!flags)
		return PASS;
	code = node_port(skb, flags, identity);

	if (code == NODE_PORT_NEW)
		code = node_port_new(skb);
	if (code == NODE_PORT_REFUSE)
		return node_port_refuse(skb);
	if (code == NODE_PORT_SEND)
		code = node_port_send(skb);
	return code;
}
#undef FILE_ID
