/* What the proxy's UDP socket sends to a handle: to the client or to the server, by the handle's port. See redirect_datagram.h. */
#pragma once

#include "handle.h"
#include "proxy_process.h"
#include "socket_refusal.h"
#include "socket_target.h"

#define FILE_ID FILE_BPF_SOCKET

/* To a handle, by somebody else, or to no leg; or by the proxy, to anywhere else: counted as the packet would be. In process context: a
 * softirq may come between load and store. */
INLINE int socket_handle_refused(void)
{
	__u32 key = DROP_HANDLE_ADDRESS << 2 | DIRECTION_EGRESS;
	struct metric *metric = bpf_map_lookup_elem(&weir_metrics, &key);

	if (metric)
		__sync_fetch_and_add(&metric->packets, 1);
	return -SOCKET_EACCES;
}

/* `sends`: a datagram, else the socket would be connected, which none may be. SOCKET_TRANSLATED, or an errno, negative: ECONNREFUSED when the
 * flow is over. */
NOINLINE int socket_datagram(struct bpf_sock_addr *ctx, struct socket_target *target, __u32 sends)
{
	const struct config *config = config_get();
	struct handle *h;
	__u32 number, to_server;
	__u64 cookie;

	NEVER_NULL(target);
	if (!config)
		return -SOCKET_EACCES;
	to_server = target->port == bpf_htons(DATAGRAM_SERVER_PORT);
	number = handle_number(&target->address, config);
	if (!config->proxy_port || !sends || !proxy_calls(config) ||
	    socket_port(ctx) != bpf_htons(proxy_datagram_port(number, config)) || (!to_server && target->port != bpf_htons(DATAGRAM_CLIENT_PORT)))
		return socket_handle_refused();
	h = handle_get(number);
	if (!h || h->key.protocol != PROTOCOL_UDP)
		return -SOCKET_ECONNREFUSED;
	cookie = bpf_get_socket_cookie(ctx);
	if (READ_ONCE(h->cookie) != cookie)
		WRITE_ONCE(h->cookie, cookie);
	target->address = *handle_client(h);
	target->port = handle_client_port(h);
	target->handle = to_server ? number | HANDLE_OTHER_LEG : number;
	return SOCKET_TRANSLATED;
}
#undef FILE_ID
