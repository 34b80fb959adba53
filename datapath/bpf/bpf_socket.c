/* Services at the sockets of the node itself: its processes ask for a frontend, and their sockets talk to a backend as
 * if they had asked for that. Nothing is left to do per packet, and policy of a cgroup endpoint sees the backend.
 *
 *   connect, sendmsg ──▶ frontend? ──▶ backend into user_ip, user_port; remembered by the socket's cookie
 *   recvmsg, getpeername ──▶ backend of this socket? ──▶ the frontend again
 *   bind ──▶ a port of the L7 proxy's? ──▶ only for the proxy
 *
 * Programs hang on the root of the cgroups and so see the sockets of every network namespace of the machine. Those of pods
 * (and of other nodes, in a lab) are left alone, because theirs are translated per packet; only that nobody serves what an
 * unconnected UDP socket asks for is told here, see socket_refusal.h. */
#include "lib/handle.h"
#include "lib/ipcache.h"
#include "lib/redirect_socket.h"
#include "lib/service.h"
#include "lib/service_node.h"
#include "lib/socket_datagram.h"
#include "lib/socket_refusal.h"
#include "lib/socket_target.h"

#include <bpf/bpf_core_read.h>

#define SOCKET_DENY 0
#define SOCKET_ALLOW 1
#define SOCKET_EHOSTUNREACH 113
#define SOL_SOCKET 1
#define SO_MARK 36

/* What socket_translate() is asked for. */
#define SOCKET_CONNECT 0
#define SOCKET_SENDMSG 1

#define SOCKET_UNCHANGED 0

/* Kernels before 5.18 have no bpf_set_retval(): there a refused call fails with EPERM. */
enum bpf_func_id___weir {
	BPF_FUNC_set_retval___weir = 187,
};

INLINE int socket_is_ours(struct bpf_sock_addr *ctx)
{
	const struct config *config = config_get();

	return config && config->netns_cookie && bpf_get_netns_cookie(ctx) == config->netns_cookie;
}

/* What stands for this node: its addresses, loopback, and "any", which the kernel takes for loopback. */
INLINE int socket_target_is_node(const struct address *a)
{
	struct address_owner *owner;

	if (is_loopback(a) || (!a->halves[0] && (!a->halves[1] || (a->words[2] == 0xffff0000u && !a->words[3]))))
		return 1;
	owner = bpf_map_lookup_elem(&weir_addresses, a);
	return owner && (owner->flags & ADDRESS_HOST);
}

/* The frontend that is asked for, into `found`; `node`: see frontend_of_other(). 1, or 0. */
INLINE int socket_frontend(const struct socket_target *target, struct frontend *found, struct address *node)
{
	struct frontend *frontend = frontend_get(&target->address, target->port, target->protocol);

	if (!frontend && socket_target_is_node(&target->address)) {
		frontend = frontend_of_node(&target->address, target->port, target->protocol);
		if (!frontend)
			return 0;
	}
	if (!frontend && frontend_of_other(&target->address, target->port, target->protocol, found, node))
		return 1;
	if (!frontend)
		frontend = frontend_closed(&target->address);
	if (!frontend)
		return 0;
	*found = *frontend;
	return 1;
}

/* In process context: a softirq may come between load and store. */
INLINE void socket_count(__u32 service, int refused)
{
	struct service_counters *counters = bpf_map_lookup_elem(&weir_service_counters, &service);
	__u32 key = DROP_NO_SERVICE << 2 | DIRECTION_SERVICE;
	struct metric *metric;

	if (!refused) {
		if (counters)
			__sync_fetch_and_add(&counters->connections, 1);
		return;
	}
	if (counters)
		__sync_fetch_and_add(&counters->refused, 1);
	metric = bpf_map_lookup_elem(&weir_metrics, &key);
	if (metric)
		__sync_fetch_and_add(&metric->packets, 1);
}

/* A record that is new in weir_sockets. Each cgroup (of a process: the kernel's word) has SOCKET_PLACES, shared with those whose id
 * has the same hash, and overwrites its own oldest: it makes nobody else's record go. */
INLINE void socket_insert(const struct socket_key *key, const struct socket_peer *peer)
{
	__u64 id = bpf_get_current_cgroup_id();
	__u32 group = id * 0x9e3779b97f4a7c15ull >> 59, place, *turn;
	struct socket_key *oldest;

	_Static_assert(SOCKET_GROUPS == 32, "group");
	turn = bpf_map_lookup_elem(&weir_socket_turns, &group);
	if (!turn)
		return;
	place = group * SOCKET_PLACES + __sync_fetch_and_add(turn, 1) % SOCKET_PLACES;
	oldest = bpf_map_lookup_elem(&weir_socket_places, &place);
	if (!oldest)
		return;
	if (oldest->cookie)
		bpf_map_delete_elem(&weir_sockets, oldest);
	*oldest = *key;
	bpf_map_update_elem(&weir_sockets, key, peer, BPF_ANY);
}

/* Written only when it is not there yet: to update an entry of an LRU costs ten lookups. */
INLINE void socket_remember(const struct socket_key *key, const struct socket_peer *peer)
{
	struct socket_peer *known = bpf_map_lookup_elem(&weir_sockets, key);

	if (!known)
		socket_insert(key, peer);
	else if (known->address.halves[0] != peer->address.halves[0] || known->address.halves[1] != peer->address.halves[1] ||
		 known->port != peer->port || known->service != peer->service || known->backend != peer->backend)
		*known = *peer;
}

/* The backend that this socket's datagrams to the frontend went to, as long as it may have them; else 0. */
INLINE __u32 socket_backend_known(const struct socket_key *forward, const struct frontend *frontend)
{
	struct socket_peer *known = bpf_map_lookup_elem(&weir_sockets, forward);
	struct backend *backend;

	if (!known || known->service != frontend->service)
		return 0;
	backend = backend_get(known->backend);
	if (!backend || backend->state == BACKEND_GONE || backend->port != known->port ||
	    backend->address.halves[0] != known->address.halves[0] ||
	    backend->address.halves[1] != known->address.halves[1])
		return 0;
	return known->backend;
}

/* Nobody is there for who asks `target`: counted, reported, and the errno for it. */
NOINLINE int socket_nobody(struct bpf_sock_addr *ctx, const struct socket_target *target, __u32 service)
{
	const struct config *config = config_get();
	struct socket_refusal r = { .identity = IDENTITY_HOST, .service = service, .reason = DROP_NO_SERVICE };

	if (!config || !target)
		return -SOCKET_ECONNREFUSED;
	r.to = target->address;
	r.port_to = target->port;
	r.protocol = target->protocol;
	r.port_from = socket_port(ctx);
	if (r.to.halves[0] || r.to.words[2] != 0xffff0000u)
		r.from = config->ipv6;
	else
		r.from.halves[1] = mapped(config->ipv4);
	socket_count(service, 1);
	socket_report(&r);
	return config->flags & CONFIG_NO_BACKEND_DROP ? -SOCKET_EHOSTUNREACH : -SOCKET_ECONNREFUSED;
}

/* A pod's datagram to `target`. SOCKET_UNCHANGED, or an errno, negative. */
NOINLINE int socket_of_pod(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	struct socket_refusal r = { .reason = DROP_NO_SERVICE };

	if (!target)
		return SOCKET_UNCHANGED;
	r.to = target->address;
	r.port_to = target->port;
	r.protocol = target->protocol;
	r.port_from = socket_port(ctx);
	if (!pod_refused(ctx, &r))
		return SOCKET_UNCHANGED;
	socket_count(r.service, 1);
	socket_report(&r);
	return -SOCKET_ECONNREFUSED;
}

/* A socket of this node wants to a handle: the proxy's goes on to the handle's server, and nobody else's. SOCKET_TRANSLATED, or an errno,
 * negative. */
NOINLINE int socket_handle(struct bpf_sock_addr *ctx, struct socket_target *target, __u32 call)
{
	const struct config *config = config_get();
	int mark = MARK_UPSTREAM;
	struct ct_key key;
	struct handle *h;
	__u32 number;

	NEVER_NULL(target);
	if (!config || !config->proxy_port || call != SOCKET_CONNECT || target->protocol != PROTOCOL_TCP || !proxy_calls(config))
		return socket_handle_refused();
	number = handle_number(&target->address, config);
	h = handle_get(number);
	if (!h || h->key.protocol != target->protocol)
		return -SOCKET_ECONNREFUSED;
	target->handle = number;
	/* Another one than before: what that sends still is nobody's. */
	upstream_forget(h);
	h->upstream_port = 0;
	if (h->redirect & REDIRECT_SOCKET) {
		socket_onward(target, h);
		return SOCKET_TRANSLATED;
	}
	if (bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -SOCKET_EACCES;
	h->cookie = bpf_get_socket_cookie(ctx);
	upstream_cookie_key(&key, h->cookie);
	if (bpf_map_update_elem(&weir_upstreams, &key, &number, BPF_ANY))
		return -SOCKET_ECONNREFUSED;
	target->address = *handle_server(h);
	target->port = handle_server_port(h);
	return SOCKET_TRANSLATED;
}

/* Puts the backend into `target`. SOCKET_UNCHANGED, SOCKET_TRANSLATED, or an errno, negative: the call must fail. */
NOINLINE int socket_translate(struct bpf_sock_addr *ctx, struct socket_target *target, __u32 call)
{
	struct service_client client = {};
	struct socket_key key = {};
	struct socket_peer peer = {};
	const struct config *config;
	struct frontend found = {}, *frontend = &found;
	struct address node = {};
	struct backend *backend;
	__u32 id = 0;

	NEVER_NULL(target);
	config = config_get();
	if (!config)
		return SOCKET_UNCHANGED;
	if (!socket_is_ours(ctx))
		return call == SOCKET_SENDMSG ? socket_of_pod(ctx, target) : SOCKET_UNCHANGED;
	if (unlikely(is_handle(&target->address, config)))
		return target->protocol == PROTOCOL_UDP ? socket_datagram(ctx, target, call == SOCKET_SENDMSG) :
							  socket_handle(ctx, target, call);
	if (unlikely(proxy_is_confined(config)))
		return socket_handle_refused();
	if (config->flags & CONFIG_NO_SOCKET_LB)
		return SOCKET_UNCHANGED;
	if (!socket_frontend(target, &found, &node))
		return SOCKET_UNCHANGED;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.address = target->address;
	key.port = target->port;
	key.direction = SOCKET_FORWARD;
	peer.service = frontend->service;
	if (call == SOCKET_SENDMSG)
		id = socket_backend_known(&key, frontend);
	if (!id && !(frontend->flags & FRONTEND_CLOSED)) {
		client.address.halves[0] = ~0ull;
		client.address.halves[1] = config->netns_cookie;
		/* The port is not chosen yet; any will do for a Maglev table. */
		client.port = bpf_get_prandom_u32();
		client.protocol = target->protocol;
		client.scope = SCOPE_INTERNAL;
		id = is_zero(&node) ? backend_select(frontend, &client) : backend_select_on(frontend, &client, &node);
		if (id == BACKEND_ASK_NODE)
			return SOCKET_UNCHANGED;
		if (id)
			socket_count(peer.service, 0);
	}
	backend = id ? backend_get(id) : 0;
	if (!backend || backend->state == BACKEND_GONE)
		return socket_nobody(ctx, target, peer.service);
	target->address = backend->address;
	target->port = backend->port;
	peer.backend = id;
	if (call == SOCKET_SENDMSG) {
		peer.address = target->address;
		peer.port = target->port;
		socket_remember(&key, &peer);
	}
	peer.address = key.address;
	peer.port = key.port;
	key.address = target->address;
	key.port = target->port;
	key.direction = SOCKET_REVERSE;
	/* A socket that connects by TCP is new nearly always, so its entry is not looked for. */
	if (target->protocol != PROTOCOL_TCP)
		socket_remember(&key, &peer);
	else
		bpf_map_update_elem(&weir_sockets_tcp, &key, &peer, BPF_ANY);
	return SOCKET_TRANSLATED;
}

/* Puts the frontend into `target`, when this socket reached the backend in it by one. */
NOINLINE int socket_translate_back(struct bpf_sock_addr *ctx, struct socket_target *target)
{
	struct socket_key key = {};
	struct socket_peer *peer;

	NEVER_NULL(target);
	if (!socket_is_ours(ctx))
		return SOCKET_UNCHANGED;
	key.cookie = bpf_get_socket_cookie(ctx);
	key.address = target->address;
	key.port = target->port;
	peer = target->protocol == PROTOCOL_TCP ? bpf_map_lookup_elem(&weir_sockets_tcp, &key) : 0;
	/* Versions before weir_sockets_tcp had all of them in one. */
	if (!peer)
		peer = bpf_map_lookup_elem(&weir_sockets, &key);
	if (!peer)
		return SOCKET_UNCHANGED;
	target->address = peer->address;
	target->port = peer->port;
	return SOCKET_TRANSLATED;
}

#define SOCKET_ERRNO_MAX 4095

/* `code` comes from a function that is verified apart, so a verifier knows nothing of it, and bpf_set_retval() takes errnos
 * only. Clang knows what that function returns, and would leave the check out. */
INLINE int socket_refuse(int code)
{
	asm volatile("" : "+r"(code));
	if (code < -SOCKET_ERRNO_MAX || code > 0)
		return SOCKET_DENY;
	if (bpf_core_enum_value_exists(enum bpf_func_id___weir, BPF_FUNC_set_retval___weir))
		bpf_set_retval(code);
	return SOCKET_DENY;
}

/* Policy may send the connection to the proxy. `code`: what socket_translate() says; the same now. */
INLINE int socket_via_proxy(struct bpf_sock_addr *ctx, struct socket_target *target, int code)
{
	int number;

	if (code < 0 || target->handle || ctx->protocol != PROTOCOL_TCP)
		return code;
	number = socket_redirect(ctx, target);
	if (number <= 0)
		return number ?: code;
	return socket_redirected(ctx, target, number, code == SOCKET_TRANSLATED);
}

INLINE int socket_go_v4(struct bpf_sock_addr *ctx, __u32 call)
{
	struct socket_target target = {};
	int code;

	if (ctx->protocol != PROTOCOL_TCP && ctx->protocol != PROTOCOL_UDP)
		return SOCKET_ALLOW;
	socket_read_v4(ctx, &target);
	code = socket_translate(ctx, &target, call);
	/* A socket of one family cannot reach a backend of the other. */
	if (code == SOCKET_TRANSLATED && !socket_is_v4(&target.address))
		code = -SOCKET_EHOSTUNREACH;
	if (call == SOCKET_CONNECT) {
		code = socket_via_proxy(ctx, &target, code);
		if (unlikely(target.bind) && code > 0)
			code = socket_bind_v4(ctx, &target);
	}
	if (code < 0)
		return socket_refuse(code);
	if (code == SOCKET_TRANSLATED)
		socket_write_v4(ctx, &target);
	if (call == SOCKET_SENDMSG)
		socket_write_source_v4(ctx, &target);
	return SOCKET_ALLOW;
}

INLINE int socket_go_v6(struct bpf_sock_addr *ctx, __u32 call)
{
	struct socket_target target = {};
	int code;

	if (ctx->protocol != PROTOCOL_TCP && ctx->protocol != PROTOCOL_UDP)
		return SOCKET_ALLOW;
	socket_read_v6(ctx, &target);
	code = socket_translate(ctx, &target, call);
	/* connect() takes a v4-mapped address for IPv4 after this hook, sendmsg() before it (udpv6_sendmsg). */
	if (code == SOCKET_TRANSLATED && call == SOCKET_SENDMSG && socket_is_v4(&target.address))
		code = -SOCKET_EHOSTUNREACH;
	if (call == SOCKET_CONNECT) {
		code = socket_via_proxy(ctx, &target, code);
		if (unlikely(target.bind) && code > 0)
			code = socket_bind_v6(ctx, &target);
	}
	if (code < 0)
		return socket_refuse(code);
	if (code == SOCKET_TRANSLATED)
		socket_write_v6(ctx, &target);
	if (call == SOCKET_SENDMSG)
		socket_write_source_v6(ctx, &target);
	return SOCKET_ALLOW;
}

INLINE int socket_come_v4(struct bpf_sock_addr *ctx)
{
	struct socket_target target = {};

	socket_read_v4(ctx, &target);
	if (socket_translate_back(ctx, &target) == SOCKET_TRANSLATED && socket_is_v4(&target.address))
		socket_write_v4(ctx, &target);
	return SOCKET_ALLOW;
}

INLINE int socket_come_v6(struct bpf_sock_addr *ctx)
{
	struct socket_target target = {};

	socket_read_v6(ctx, &target);
	if (socket_translate_back(ctx, &target) == SOCKET_TRANSLATED)
		socket_write_v6(ctx, &target);
	return SOCKET_ALLOW;
}

/* The proxy has sockets of TCP and UDP alone: what others send comes by none of these hooks (net/ipv4/ping.c, net/sctp). */
SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *sk)
{
	const struct config *config = config_get();

	if (sk->protocol == PROTOCOL_TCP || sk->protocol == PROTOCOL_UDP || !config || likely(!proxy_is_confined(config)))
		return SOCKET_ALLOW;
	return socket_refuse(socket_handle_refused());
}

/* The proxy's ports are nobody else's, also while it is away: who had one would be sent what pods say to their servers. */
INLINE int socket_bind(struct bpf_sock_addr *ctx)
{
	const struct config *config = config_get();

	if (!config || likely(!is_proxy_port(bpf_ntohs(ctx->user_port), ctx->protocol, config)) || !socket_is_ours(ctx) ||
	    proxy_calls(config))
		return SOCKET_ALLOW;
	return socket_refuse(socket_handle_refused());
}

SEC("cgroup/bind4")
int socket_bind4(struct bpf_sock_addr *ctx)
{
	return socket_bind(ctx);
}

SEC("cgroup/bind6")
int socket_bind6(struct bpf_sock_addr *ctx)
{
	return socket_bind(ctx);
}

SEC("cgroup/connect4")
int socket_connect4(struct bpf_sock_addr *ctx)
{
	return socket_go_v4(ctx, SOCKET_CONNECT);
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr *ctx)
{
	return socket_go_v6(ctx, SOCKET_CONNECT);
}

SEC("cgroup/sendmsg4")
int socket_sendmsg4(struct bpf_sock_addr *ctx)
{
	return socket_go_v4(ctx, SOCKET_SENDMSG);
}

SEC("cgroup/sendmsg6")
int socket_sendmsg6(struct bpf_sock_addr *ctx)
{
	return socket_go_v6(ctx, SOCKET_SENDMSG);
}

SEC("cgroup/recvmsg4")
int socket_recvmsg4(struct bpf_sock_addr *ctx)
{
	return socket_come_v4(ctx);
}

SEC("cgroup/recvmsg6")
int socket_recvmsg6(struct bpf_sock_addr *ctx)
{
	return socket_come_v6(ctx);
}

SEC("cgroup/getpeername4")
int socket_getpeername4(struct bpf_sock_addr *ctx)
{
	return socket_come_v4(ctx);
}

SEC("cgroup/getpeername6")
int socket_getpeername6(struct bpf_sock_addr *ctx)
{
	return socket_come_v6(ctx);
}
