/* Connections of cgroup endpoints that the proxy judges. Their packets may pass no device on which they could be turned, so the sockets connect
 * to the proxy themselves, and both connections are ordinary ones of this node:
 *
 *     connect(server) ──▶ (connect hook) the endpoint's policy wants the proxy ──▶ connect(HANDLE:15001) ──▶ lo ──▶ the proxy's listener
 *     getpeername() ──▶ the server, or its frontend                       connect(HANDLE) ──▶ (connect hook) ──▶ the server
 *
 * What goes over lo is, to policy, conntrack and in events, the flow to the server (REDIRECT_SOCKET): every packet is judged as if it went
 * there. Its entry has the handle's address where the client's would be. To a server on this node itself, whose endpoint may be another
 * cgroup's, the proxy's socket is noted: what it says is the client's endpoint's. */
#pragma once

#include <linux/in.h>
#include <linux/in6.h>

#include "fib.h"
#include "handle.h"
#include "policy.h"
#include "socket_refusal.h"
#include "socket_target.h"
#include "translate.h"

#define FILE_ID FILE_REDIRECT_SOCKET

#define SOCKET_BIND_TRIES 8

/* The proxy's port is full for the endpoint, or there is none: counted, reported, and the errno. */
NOINLINE int socket_redirect_refused(const struct socket_target *target, __u32 endpoint, __u32 reason)
{
	struct socket_refusal r = {};
	const struct endpoint *own = endpoint_get(endpoint);
	__u32 key = reason << 2 | DIRECTION_EGRESS;
	struct metric *metric = bpf_map_lookup_elem(&weir_metrics, &key);

	if (!target || !own)
		return -SOCKET_ECONNREFUSED;
	if (metric)
		__sync_fetch_and_add(&metric->packets, 1);
	r.endpoint = endpoint;
	r.reason = reason;
	r.protocol = PROTOCOL_TCP;
	r.identity = own->identity;
	r.from = target->own;
	r.to = target->address;
	r.port_to = target->port;
	socket_report(&r);
	return -SOCKET_ECONNREFUSED;
}

/* Which address of this node a socket has towards a server: the server's own where that is here too. */
INLINE void socket_own_address(struct socket_target *target, const struct peer *server, const struct config *config)
{
	if (server->host) {
		target->own = target->address;
	} else if (socket_is_v4(&target->address)) {
		target->own.halves[0] = 0;
		target->own.halves[1] = mapped(config->ipv4);
	} else {
		target->own = config->ipv6;
	}
}

/* A process of this node connects by TCP. Its handle's number where the policy of its endpoint wants the proxy; 0, or an errno, negative. */
NOINLINE int socket_redirect(struct bpf_sock_addr *ctx, struct socket_target *target)
{
	const struct config *config = config_get();
	struct peer client = {}, server = {};
	const struct policy_slot *slot;
	const struct endpoint *own;
	struct address node = {};
	struct flow f = {};
	__u32 id, policy, number = 0, ipv6;
	int code;

	NEVER_NULL(target);
	if (!config || !config->netns_cookie || bpf_get_netns_cookie(ctx) != config->netns_cookie)
		return 0;
	id = endpoint_by_cgroup(0);
	own = id ? endpoint_get(id) : 0;
	if (!own || !own->policy)
		return 0;
	policy = own->policy;
	slot = bpf_map_lookup_elem(&weir_policy_slots, &policy);
	if (!slot || !(slot->directions[POLICY_EGRESS].flags & POLICY_DIRECTION_REDIRECTS))
		return 0;
	ipv6 = !socket_is_v4(&target->address);
	/* "Any" is what the kernel takes for loopback. */
	if (ipv6 && is_zero(&target->address))
		target->address.words[3] = bpf_htonl(1);
	else if (!ipv6 && !target->address.words[3])
		target->address.words[3] = bpf_htonl(0x7f000001);
	peer_from_endpoint(&client, id);
	f.flags = FLOW_L3 | (ipv6 ? FLOW_IPV6 : 0);
	f.protocol = PROTOCOL_TCP;
	f.hook_endpoint = id;
	f.source_endpoint = id;
	f.source_identity = client.identity;
	f.now = jiffies();
	f.port_destination = target->port;
	f.policy_port = bpf_ntohs(target->port);
	peer_resolve(&target->address, &server, &node, world_identity(&f, config));
	socket_own_address(target, &server, config);
	flow_set_key(&f, target->own.halves[0], target->own.halves[1], target->address.halves[0], target->address.halves[1], PROTOCOL_TCP);
	f.destination_identity = server.identity;
	/* (What it denies is dropped, and reported, as the packet that it is.) */
	code = policy_check(&f, client.policy, server.identity, POLICY_EGRESS | (f.source_hi ? 0 : POLICY_TARGET_HI));
	if (code || !(f.redirect & REDIRECT_EGRESS))
		return 0;
	if (!config->proxy_port || !(ipv6 ? config->handle_ipv6 != 0 : config->handle_mask_ipv4 != 0))
		return socket_redirect_refused(target, id, DROP_PROXY_LOOKUP_FAILED);
	f.redirect |= REDIRECT_SOCKET;
	code = handle_take(&f, &client, &server, 0, 0, &number);
	if (code)
		return socket_redirect_refused(target, id, DROP_REASON(code));
	return number;
}

/* It connects to the proxy with handle `number`; `service`: a frontend was asked for. SOCKET_TRANSLATED, or an errno, negative. */
NOINLINE int socket_redirected(struct bpf_sock_addr *ctx, struct socket_target *target, __u32 number, __u32 service)
{
	struct socket_key key = {};
	const struct config *config = config_get();
	struct socket_peer peer = {}, *known;
	struct handle *h = handle_get(number);

	NEVER_NULL(target);
	if (!config || !h)
		return -SOCKET_ECONNREFUSED;
	key.direction = SOCKET_REVERSE;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.address = target->address;
	key.port = target->port;
	peer.address = target->address;
	peer.port = target->port;
	known = service ? bpf_map_lookup_elem(&weir_sockets_tcp, &key) : 0;
	if (known) {
		peer = *known;
		h->frontend = peer.address;
		h->frontend_port = peer.port;
		h->service = peer.service;
	}
	handle_address(number, !socket_is_v4(&target->address), config, &key.address);
	key.port = bpf_htons(config->proxy_port);
	bpf_map_update_elem(&weir_sockets_tcp, &key, &peer, BPF_ANY);
	target->address = key.address;
	target->port = key.port;
	target->handle = number;
	target->bind = SOCKET_BIND_CLIENT;
	return SOCKET_TRANSLATED;
}

/* The proxy's socket goes on to the server of `h`, a socket's: as the node's own. On this node it is told by its address and port. */
INLINE void socket_onward(struct socket_target *target, const struct handle *h)
{
	const struct address *server = handle_server(h);
	struct address_owner *owner = bpf_map_lookup_elem(&weir_addresses, server);

	target->address = *server;
	target->port = handle_server_port(h);
	if (!is_loopback(server) && !(owner && (owner->flags & ADDRESS_HOST)))
		return;
	target->own = *server;
	target->bind = SOCKET_BIND_UPSTREAM;
}

/* The proxy's socket has this address and port. True when that is noted. */
NOINLINE int upstream_bound(const struct socket_target *target, __u32 port)
{
	struct handle *h;
	struct ct_key key;

	NEVER_NULL(target);
	h = handle_get(target->handle);
	if (!h)
		return 0;
	h->upstream = target->own;
	h->upstream_port = port;
	upstream_key(&key, h);
	return !bpf_map_update_elem(&weir_upstreams, &key, &target->handle, BPF_ANY);
}

INLINE __u16 socket_any_port(void)
{
	return bpf_htons(32768 + bpf_get_prandom_u32() % 28232);
}

/* What socket_bind_v4() and _v6() make of their tries. */
INLINE int socket_bound(const struct socket_target *target, __u16 port)
{
	return target->bind == SOCKET_BIND_CLIENT || upstream_bound(target, port) ? SOCKET_TRANSLATED : -SOCKET_ECONNREFUSED;
}

NOINLINE int socket_bind_v4(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	struct sockaddr_in to = {};
	int i;

	NEVER_NULL(target);
	to.sin_family = ADDRESS_FAMILY_INET;
	to.sin_addr.s_addr = target->own.words[3];
	for (i = 0; i < SOCKET_BIND_TRIES; i++) {
		to.sin_port = target->bind == SOCKET_BIND_UPSTREAM ? socket_any_port() : 0;
		if (!bpf_bind(ctx, (struct sockaddr *)&to, sizeof(to)) || target->bind == SOCKET_BIND_CLIENT)
			return socket_bound(target, to.sin_port);
	}
	return -SOCKET_ECONNREFUSED;
}

NOINLINE int socket_bind_v6(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	struct sockaddr_in6 to = {};
	int i;

	NEVER_NULL(target);
	to.sin6_family = ADDRESS_FAMILY_INET6;
	__builtin_memcpy(&to.sin6_addr, &target->own, 16);
	for (i = 0; i < SOCKET_BIND_TRIES; i++) {
		to.sin6_port = target->bind == SOCKET_BIND_UPSTREAM ? socket_any_port() : 0;
		if (!bpf_bind(ctx, (struct sockaddr *)&to, sizeof(to)) || target->bind == SOCKET_BIND_CLIENT)
			return socket_bound(target, to.sin6_port);
	}
	return -SOCKET_ECONNREFUSED;
}

/* The client of `h` has sent its first packet: now its address and port are known. */
INLINE void socket_known(struct handle *h, const struct address *own, __u16 port)
{
	struct address server = *handle_server(h);
	struct flow f = {};

	f.port_source = port;
	f.port_destination = handle_server_port(h);
	flow_set_key(&f, own->halves[0], own->halves[1], server.halves[0], server.halves[1], PROTOCOL_TCP);
	h->key = f.key;
	h->client_hi = f.source_hi;
}

/* The kernel's answer where the proxy does not listen: counted and reported, and let by. */
NOINLINE int socket_proxy_away(struct __sk_buff *skb, struct flow *f)
{
	const struct ct_entry *e;

	NEVER_NULL(f);
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e || (e->flags & CT_SEEN_REPLY))
		return 0;
	f->source_identity = e->ends[1].identity;
	f->destination_identity = e->ends[0].identity;
	drop(skb, f, DROPPED(DROP_PROXY_AWAY));
	return 0;
}

/* A packet of an endpoint's socket to or from a handle: its flow becomes the one to the server, `f`, whose packet stays as it is. 0 or a drop. */
NOINLINE int redirect_of_socket(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	const struct address *proxy, *server;
	struct address own;
	__u32 number, answers;
	struct handle *h;
	__u16 port;

	if (!f || !config)
		return 0;
	answers = f->flags & FLOW_INGRESS;
	proxy = flow_address(f, answers ? TRANSLATE_SOURCE : TRANSLATE_DESTINATION);
	if (!config->proxy_port || !is_handle(proxy, config))
		return DROPPED(DROP_HANDLE_ADDRESS);
	number = handle_number(proxy, config);
	h = handle_get(number);
	own = *flow_address(f, answers ? TRANSLATE_DESTINATION : TRANSLATE_SOURCE);
	port = answers ? f->port_destination : f->port_source;
	if (f->key.protocol != PROTOCOL_TCP || (f->flags & (FLOW_RELATED | FLOW_FRAGMENT)) || skb->ifindex != LOOPBACK_IFINDEX ||
	    (answers ? f->port_source : f->port_destination) != bpf_htons(config->proxy_port))
		return DROPPED(DROP_HANDLE_ADDRESS);
	if (!h || !(h->redirect & REDIRECT_SOCKET))
		return DROPPED(DROP_HANDLE_GONE);
	if (h->client.endpoint != f->hook_endpoint || (is_handle(&own, config) && !same_address(&own, proxy)))
		return DROPPED(DROP_HANDLE_ADDRESS);
	server = handle_server(h);
	if (!handle_client_port(h)) {
		if (answers || !is_bare_syn(f))
			return DROPPED(DROP_HANDLE_GONE);
		socket_known(h, &own, port);
		server = handle_server(h);
		handle_tell(number);
	} else if (port != handle_client_port(h) || !same_address(&own, handle_client(h))) {
		return DROPPED(DROP_HANDLE_ADDRESS);
	}
	if (answers)
		f->port_source = handle_server_port(h);
	else
		f->port_destination = handle_server_port(h);
	f->policy_port = bpf_ntohs(f->port_destination);
	own = *proxy;
	if (answers)
		flow_set_key(f, server->halves[0], server->halves[1], own.halves[0], own.halves[1], PROTOCOL_TCP);
	else
		flow_set_key(f, own.halves[0], own.halves[1], server->halves[0], server->halves[1], PROTOCOL_TCP);
	f->redirect = REDIRECT_SOCKET | REDIRECT_FLOW;
	if (answers) {
		f->redirect |= REDIRECT_PASSED;
		f->point = TRACE_FROM_PROXY;
		if (f->tcp_flags & TCP_RST)
			socket_proxy_away(skb, f);
	}
	return 0;
}
#undef FILE_ID
