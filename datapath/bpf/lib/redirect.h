/* Connections that the proxy judges. There are two of them, and on the wire they look like one: each has the client's and the server's own
 * addresses and ports, and one entry of conntrack (CT_REDIRECT) is about both.
 *
 *     client ──▶ (hook)  destination becomes the handle's address and the proxy's port ──▶ stack: the proxy's listener
 *     client ◀── (hook)  source becomes the server's              ◀── stack: the proxy answers from the handle's address
 *     server ◀── (hook)  source becomes the client's              ◀── stack: the proxy's socket, MARK_UPSTREAM
 *     server ──▶ (hook)  destination becomes that socket's        ──▶ stack: the proxy's socket
 *
 * Which of the two a packet is of follows from where it is met: what comes from the proxy (REDIRECT_PASSED) and goes forward is of the
 * one with the server, as is what does not and goes back. Policy is asked for every one of them as for any flow.
 *
 * The client's connection is the one whose flags, lifetime and traffic count. What the other one says keeps the entry alive. */
#pragma once

#include "decide.h"
#include "handle.h"
#include "refuse.h"
#include "translate.h"

#define FILE_ID FILE_REDIRECT

/* May a packet of this node's own stack be the proxy's? A look that costs next to nothing; `from`: its source. */
INLINE int redirect_asks(const struct __sk_buff *skb, const struct address *from, const struct config *config)
{
	return unlikely(skb->mark == MARK_UPSTREAM) || unlikely(is_handle(from, config));
}

/* The handle of the proxy's socket that sends `f`, which is noted when this is its first packet; or null. */
NOINLINE int upstream_find(struct __sk_buff *skb, const struct flow *f, __u32 *number)
{
	struct ct_key key = {};
	struct handle *h;
	__u32 *known;
	__u64 cookie;

	NEVER_NULL(f);
	NEVER_NULL(number);
	known = bpf_map_lookup_elem(&weir_upstreams, &f->key);
	if (known) {
		*number = *known;
		return 1;
	}
	if (skb->mark != MARK_UPSTREAM || (f->flags & FLOW_RELATED))
		return 0;
	cookie = bpf_get_socket_cookie(skb);
	upstream_cookie_key(&key, cookie);
	known = bpf_map_lookup_elem(&weir_upstreams, &key);
	if (!known)
		return 0;
	*number = *known;
	h = handle_get(*number);
	if (!h || h->cookie != cookie || f->port_destination != handle_server_port(h) ||
	    !same_address(flow_address(f, TRANSLATE_DESTINATION), handle_server(h)))
		return 0;
	h->upstream = *flow_address(f, TRANSLATE_SOURCE);
	h->upstream_port = f->port_source;
	return !bpf_map_update_elem(&weir_upstreams, &f->key, number, BPF_ANY);
}

/* A packet that no flow has, on its way out of the stack, which no device brought: if it is the proxy's, it becomes what it is on the wire.
 * 1: it was, and `f` is that; 0: it is not; or a drop. */
NOINLINE int redirect_passes(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct address to = {};
	struct ct_entry *e;
	struct handle *h;
	__u32 number = 0;
	__u16 port;
	int code;

	if (!f || !config || !config->proxy_port)
		return 0;
	if (is_handle(flow_address(f, TRANSLATE_SOURCE), config)) {
		if (f->key.protocol != PROTOCOL_TCP)
			return DROPPED(DROP_HANDLE_ADDRESS);
		number = handle_number(flow_address(f, TRANSLATE_SOURCE), config);
		h = handle_get(number);
		if (brought_by(skb) || f->port_source != bpf_htons(config->proxy_port))
			return DROPPED(DROP_HANDLE_ADDRESS);
		if (!h || h->key.protocol != PROTOCOL_TCP || f->port_destination != handle_client_port(h) ||
		    !same_address(flow_address(f, TRANSLATE_DESTINATION), handle_client(h)))
			return DROPPED(DROP_HANDLE_GONE);
		to = *handle_server(h);
		port = handle_server_port(h);
	} else {
		if (brought_by(skb) ||
		    (skb->mark != MARK_UPSTREAM && !(f->tcp_flags & TCP_RST) && !(f->flags & FLOW_RELATED)))
			return 0;
		if (!upstream_find(skb, f, &number))
			return skb->mark == MARK_UPSTREAM ? DROPPED(DROP_HANDLE_GONE) : 0;
		h = handle_get(number);
		if (!h)
			return DROPPED(DROP_HANDLE_GONE);
		to = *handle_client(h);
		port = handle_client_port(h);
		/* Its beginning and end are no business of the client's. */
		if (f->tcp_flags)
			f->tcp_flags = TCP_ACK;
	}
	skb->mark = 0;
	code = translate(skb, f, TRANSLATE_SOURCE, &to, port);
	if (code)
		return code;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e || !(e->flags & CT_REDIRECT) || e->handle != number)
		return DROPPED(DROP_HANDLE_GONE);
	f->redirect |= REDIRECT_PASSED;
	return 1;
}

/* A packet of a redirected flow that policy allows goes to the proxy: through the host's stack. A verdict. */
NOINLINE int redirect_to_proxy(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct address to = {};
	struct ct_entry *e;
	struct handle *h;
	__u16 port;
	int code;

	if (!f || !config)
		return SHOT;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	h = e && (e->flags & CT_REDIRECT) ? handle_get(e->handle) : 0;
	if (!h || !config->proxy_port)
		return refuse(skb, f, DROPPED(DROP_HANDLE_GONE));
	if (f->source_hi == (e->flags & CT_ORIGIN_HI)) {
		handle_address(h->number, f->flags & FLOW_IPV6, config, &to);
		port = bpf_htons(config->proxy_port);
	} else {
		if (!h->upstream_port)
			return drop(skb, f, DROPPED(DROP_HANDLE_GONE));
		to = h->upstream;
		port = h->upstream_port;
	}
	code = translate(skb, f, TRANSLATE_DESTINATION, &to, port);
	if (code)
		return drop(skb, f, code);
	/* From the tunnel, and from a bridge: addressed to the pod. */
	if (skb->pkt_type != PACKET_TYPE_HOST)
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
	return PASS;
}

/* What the proxy sends and leaves this node, as if the end of its flow that is here had sent it: judged as there. `f` is scratch's, as
 * redirect_passes() left it. 0 or a drop. */
NOINLINE int redirect_leaves(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct endpoint *own, *other;
	const struct ct_end *end;
	struct ct_entry *e;
	struct flow *f;

	if (!config || !s)
		return DROPPED(DROP_NO_CONFIG);
	f = &s->flow;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e)
		return DROPPED(DROP_HANDLE_GONE);
	end = f->source_hi == (e->flags & CT_ORIGIN_HI) ? &e->ends[0] : &e->ends[1];
	own = endpoint_get(end->endpoint);
	if (!end->endpoint || !own)
		return DROPPED(DROP_HANDLE_GONE);
	f->hook_endpoint = end->endpoint;
	f->source_endpoint = end->endpoint;
	f->now = jiffies();
	return admit_entry(skb, f, config, own, e, &other, 0);
}
#undef FILE_ID
