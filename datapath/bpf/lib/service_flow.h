/* East-west services: what an endpoint of this node sends to a service, and what comes back.
 *
 *   client ──▶ frontend: the (client, frontend) entry of conntrack says which backend the flow has, or one is chosen;
 *              the destination is rewritten, and from there on it is a flow like any other, to the backend
 *   client ◀── backend: the flow's own entry has the frontend, which becomes the source again on the way into the client
 */
#pragma once

#include "arrival.h"
#include "reject.h"
#include "service_node.h"

#define FILE_ID FILE_SERVICE_FLOW

/* Who an endpoint is to itself. */
INLINE void loopback_address(const struct flow *f, const struct config *config, struct address *to)
{
	if (f->flags & FLOW_IPV6) {
		*to = config->loopback_ipv6;
	} else {
		to->halves[0] = 0;
		to->halves[1] = mapped(config->loopback_ipv4);
	}
}

/* The frontend that an endpoint's packet is addressed to, into scratch; 0 when it is none. Notes an endpoint of this node, so
 * that decide() need not look for it again. */
INLINE int service_frontend(struct flow *f)
{
	const struct frontend *frontend = 0;
	struct address_owner *owner;
	const struct address *to = flow_address(f, TRANSLATE_DESTINATION);
	struct nat_scratch *s;

	if (likely(node_port_protocol(f->key.protocol))) {
		frontend = frontend_get(to, f->port_destination, f->key.protocol);
		owner = frontend ? 0 : bpf_map_lookup_elem(&weir_addresses, to);
		if (owner && !(owner->flags & ADDRESS_HOST)) {
			if (!(f->flags & FLOW_RELATED))
				f->destination_endpoint = owner->endpoint;
			return 0;
		}
		if (owner) {
			frontend = frontend_of_node(to, f->port_destination, f->key.protocol);
			if (!frontend)
				return 0;
		}
	}
	s = nat_scratch();
	if (!s)
		return 0;
	s->node.halves[0] = 0;
	s->node.halves[1] = 0;
	if (!frontend && node_port_protocol(f->key.protocol) &&
	    frontend_of_other(to, f->port_destination, f->key.protocol, &s->frontend, &s->node))
		return 1;
	if (!frontend)
		frontend = frontend_closed(to);
	if (!frontend)
		return 0;
	s->frontend = *frontend;
	return 1;
}

/* Rewrites the packet for the backend that service_ask() found; `f` becomes the flow to it. (Beside it and not inside: the
 * stack has 512 bytes for all that call each other.) 0 or a drop. */
NOINLINE int service_translate(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct arrival *a = arrival_get();
	struct address self = {};
	int code;

	if (!f || !a || !config)
		return DROPPED(DROP_NO_CONFIG);
	self = a->to;
	if (same_address(&self, flow_address(f, TRANSLATE_SOURCE)))
		f->flags |= FLOW_LOOPBACK;
	code = translate(skb, f, TRANSLATE_DESTINATION, &self, a->to_port);
	if (!code && (f->flags & FLOW_LOOPBACK)) {
		loopback_address(f, config, &self);
		code = translate(skb, f, TRANSLATE_SOURCE, &self, f->port_source);
	}
	if (code)
		return code;
	if (node_port_protocol(f->protocol))
		f->policy_port = bpf_ntohs(f->port_destination);
	return 0;
}

#define SERVICE_TRIES 4 /* backends, when the client speaks to those that are chosen from this port already */

/* Has the client another flow that would look like this one behind the translation: to the backend itself, or through
 * another frontend? Answers could not be told apart. `f` is as it was afterwards; `a->to` is scratch. */
INLINE int service_taken(struct flow *f, struct arrival *a, const struct backend *b, const struct config *config)
{
	__u16 port = f->key.protocol == PROTOCOL_SCTP ? a->port : b->port, port_source = f->port_source;
	struct ct_entry *own;

	if (same_address(&b->address, flow_address(f, TRANSLATE_SOURCE))) {
		flow_set_end(f, TRANSLATE_DESTINATION, &b->address, port);
		loopback_address(f, config, &a->to);
		flow_set_end(f, TRANSLATE_SOURCE, &a->to, port_source);
	} else {
		flow_set_end(f, TRANSLATE_DESTINATION, &b->address, port);
	}
	own = bpf_map_lookup_elem(&weir_ct, &f->key);
	a->fresh = !own;
	f->key = a->key;
	f->source_hi = a->source_hi;
	f->port_destination = a->port;
	return own && ct_alive(own, f) && !arrival_opens(own, f) && !arrival_fits(own, a);
}

/* Chooses a backend for a new flow; `a` has the frontend's address, scratch the frontend. 0, or a drop: 158 when nobody is there. */
NOINLINE int service_choose(struct flow *f, struct arrival *a)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	const struct frontend *frontend;
	struct service_client *client;
	const struct backend *b;
	int i;

	if (!f || !a || !config)
		return DROPPED(DROP_NO_SERVICE);
	if (!s)
		return DROPPED(DROP_NO_SERVICE);
	frontend = &s->frontend;
	a->service = frontend->service;
	f->service = frontend->service;
	/* Neither an error nor a later fragment opens a flow. (An error makes no entry that would be in the way later.) */
	if (f->flags & FLOW_RELATED)
		return 0;
	if (f->flags & FLOW_FRAGMENT)
		return DROPPED(DROP_NO_SERVICE);
	client = &s->client;
	client->address = *flow_address(f, TRANSLATE_SOURCE);
	client->port = f->port_source;
	client->protocol = f->key.protocol;
	client->scope = SCOPE_INTERNAL;
	client->endpoint = f->source_endpoint;
	for (i = 0; i < SERVICE_TRIES; i++) {
		if (frontend->flags & FRONTEND_CLOSED)
			a->backend = 0;
		else if (is_zero(&s->node))
			a->backend = backend_select(frontend, client);
		else
			a->backend = backend_select_on(frontend, client, &s->node);
		if (a->backend == BACKEND_ASK_NODE) {
			a->backend = 0;
			f->service = 0;
			return 0;
		}
		b = a->backend ? backend_get(a->backend) : 0;
		if (!b || b->state == BACKEND_GONE) {
			service_count_connection(a->service, 1);
			return DROPPED(DROP_NO_SERVICE);
		}
		if (service_taken(f, a, b, config))
			continue;
		service_count_connection(a->service, 0);
		return 0;
	}
	return DROPPED(DROP_NAT_NO_MAPPING);
}

/* What weir_state says of all frontends. */
INLINE __u32 frontends_revision(void)
{
	__u32 zero = 0;
	const struct state *state = bpf_map_lookup_elem(&weir_state, &zero);

	return state ? READ_ONCE(state->frontends_revision) : 0;
}

/* Is the frontend of a flow to a service (`e`, with CT_SERVICE) that service's still? Remembered until frontends change. */
NOINLINE int service_same(struct flow *f, struct ct_entry *e)
{
	struct nat_scratch *s = nat_scratch();
	__u32 revision = frontends_revision();

	if (!f || !e || !s || !service_frontend(f) || s->frontend.service != e->service)
		return 0;
	e->revision = revision;
	return 1;
}

/* An endpoint's packet whose tuple conntrack does not know, knows with CT_SERVICE, or whose flow (`e`) is over or begins
 * anew: is it for a service? Then FLOW_SERVICE is set, and service_translate() knows where it goes. 0 or a drop. */
NOINLINE int service_ask(struct flow *f, struct ct_entry *e)
{
	struct arrival *a = arrival_get();
	const struct backend *b;
	int code, known, syn;

	if (!f || !a)
		return DROPPED(DROP_NO_CONFIG);
	a->frontend = *flow_address(f, TRANSLATE_DESTINATION);
	a->port = f->port_destination;
	known = e && (e->flags & CT_SERVICE);
	syn = is_bare_syn(f);
	/* A connection that is open stays where it is. */
	if (known && ((!syn && (f->key.protocol == PROTOCOL_TCP || e->revision == frontends_revision())) || service_same(f, e)) &&
	    backend_keeps(e->service, e->service, e->backend, &e->translated, e->translated_port, f->key.protocol, syn)) {
		a->service = e->service;
		a->backend = e->backend;
		a->to = e->translated;
		a->to_port = e->translated_port;
		a->frontends_revision = e->revision;
		f->service = e->service;
		f->flags |= FLOW_SERVICE;
		return 0;
	}
	a->backend = 0;
	a->frontends_revision = frontends_revision();
	code = service_frontend(f);
	if (!code && !known)
		return 0;
	a->key = f->key;
	a->source_hi = f->source_hi;
	code = code ? service_choose(f, a) : 0;
	/* The service is no more, or has nobody for an error: no ordinary flow. */
	if (!code && !a->backend && known)
		return DROPPED(DROP_NO_SERVICE);
	if (code || !a->backend)
		return code;
	b = backend_get(a->backend);
	if (!b)
		return DROPPED(DROP_NO_SERVICE);
	a->to = b->address;
	a->to_port = b->port;
	f->flags |= FLOW_SERVICE | FLOW_SERVICE_NEW | (a->fresh ? FLOW_SERVICE_FRESH : 0);
	return 0;
}

/* A flow to the backend that was known before has been allowed: both its entries learn of each other. (Those of a new one were made
 * so.) 0 or a drop. */
NOINLINE int service_remember(struct flow *f)
{
	struct arrival *a = arrival_get();

	if (!f || !a)
		return DROPPED(DROP_CT_CREATE_FAILED);
	return arrival_remember(f, &a->frontend, a->port, a->service, a->backend) ?: arrival_keep(f, a);
}

/* After admit(), of a packet with FLOW_SERVICE. 0 or a drop. */
INLINE int service_sent(struct __sk_buff *skb, struct flow *f)
{
	service_count_packet(f->service, skb->len);
	if (likely(f->reason == REASON_NEW || !(f->flags & FLOW_SERVICE_NEW)) || (f->flags & (FLOW_RELATED | FLOW_ERROR)))
		return 0;
	return service_remember(f);
}
#undef FILE_ID
