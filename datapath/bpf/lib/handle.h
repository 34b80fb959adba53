/* Handles: the numbers of connections that the proxy judges.
 *
 * Each is an address of this node, prefix and number, at which the proxy's listener finds the connection, and to which the proxy connects
 * to reach the server; so nobody has to tell it who is whose. The number's low bits are the place in weir_handles, the others count how
 * often that was used: who comes late with an old one is refused.
 *
 * One is taken with the flow's entry of conntrack, and given back by weir_gc when that entry is gone, or has another. Shares are those of
 * lib/share.h: nobody holds more than twice what is free. */
#pragma once

#include "arrival_record.h"
#include "handle_address.h"
#include "ipcache.h"

#define FILE_ID FILE_HANDLE

#define HANDLE_HOLDING_ALL SHARES_MAX
#define HANDLE_HAND (SHARES_MAX + 1)
#define HANDLE_TRIES 64 /* places that one search looks at */

/* Has the packet a handle's address? */
NOINLINE int is_of_handle(const struct flow *f)
{
	const struct config *config = config_get();

	NEVER_NULL(f);
	return config && (is_handle(&f->key.lo, config) || is_handle(&f->key.hi, config));
}

/* The record of a handle that is in use, or null. */
INLINE struct handle *handle_get(__u32 number)
{
	__u32 index = number & ((1 << HANDLE_INDEX_BITS) - 1);
	struct handle *h = bpf_map_lookup_elem(&weir_handles, &index);

	return h && READ_ONCE(h->taken) && h->number == number ? h : 0;
}

INLINE const struct address *handle_server(const struct handle *h)
{
	return h->client_hi ? &h->key.lo : &h->key.hi;
}

INLINE const struct address *handle_client(const struct handle *h)
{
	return h->client_hi ? &h->key.hi : &h->key.lo;
}

INLINE __u16 handle_server_port(const struct handle *h)
{
	return h->client_hi ? h->key.port_lo : h->key.port_hi;
}

INLINE __u16 handle_client_port(const struct handle *h)
{
	return h->client_hi ? h->key.port_hi : h->key.port_lo;
}

/* Key of the flow's entry in conntrack. A socket that is connected to the handle itself has the handle's address there, which is nobody else's:
 * its own port may be another socket's towards the same server. */
INLINE void handle_flow_key(struct ct_key *key, const struct handle *h, const struct config *config)
{
	const struct address *server = handle_server(h);
	struct address client;
	struct flow f = {};

	*key = h->key;
	if (likely(!(h->redirect & REDIRECT_SOCKET)))
		return;
	handle_address(h->number, !is_mapped(server), config, &client);
	f.port_source = handle_client_port(h);
	f.port_destination = handle_server_port(h);
	flow_set_key(&f, client.halves[0], client.halves[1], server->halves[0], server->halves[1], h->key.protocol);
	*key = f.key;
}

/* Key of weir_upstreams for a socket that has not sent yet. */
INLINE void upstream_cookie_key(struct ct_key *key, __u64 cookie)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->lo.halves[0] = cookie;
}

/* Key of weir_upstreams for the proxy's socket of `h`. */
INLINE void upstream_key(struct ct_key *key, const struct handle *h)
{
	struct flow f = {};

	f.port_source = h->upstream_port;
	f.port_destination = handle_server_port(h);
	flow_set_key(&f, h->upstream.halves[0], h->upstream.halves[1], handle_server(h)->halves[0], handle_server(h)->halves[1],
		     h->key.protocol);
	*key = f.key;
}

INLINE __u32 *handle_holding(__u32 element)
{
	return bpf_map_lookup_elem(&weir_handle_holdings, &element);
}

INLINE void handle_held(__u32 share, __u32 change)
{
	__u32 *own = handle_holding(share_index(share)), *all = handle_holding(HANDLE_HOLDING_ALL);

	if (own)
		__sync_fetch_and_add(own, change);
	if (all)
		__sync_fetch_and_add(all, change);
}

/* May `share` have one more? The last sixteenth is the node's. 0 or a drop. */
INLINE int handle_admits(__u32 share, __u32 handles_max)
{
	__u32 *own = handle_holding(share_index(share)), *all = handle_holding(HANDLE_HOLDING_ALL);
	__u32 room = handles_max - (handles_max >> SHARE_RESERVE_SHIFT), used;

	if (!own || !all)
		return DROPPED(DROP_HANDLES_FULL);
	used = READ_ONCE(*all);
	if (used >= handles_max)
		return DROPPED(DROP_HANDLES_FULL);
	if (share == SHARE_NODE)
		return 0;
	if (used >= room || READ_ONCE(*own) >= SHARE_FACTOR * (room - used))
		return DROPPED(DROP_HANDLE_SHARE);
	return 0;
}

/* Tells of one that is taken. The reader is woken when it has seen all others. */
INLINE void handle_tell(__u32 number)
{
	__u32 *told = bpf_ringbuf_reserve(&weir_new_handles, sizeof(*told), 0), zero = 0;
	__u64 *untold;

	if (told) {
		*told = number;
		bpf_ringbuf_submit(told, 0);
		return;
	}
	untold = bpf_map_lookup_elem(&weir_handles_untold, &zero);
	if (untold)
		(*untold)++;
}

/* Takes a handle for `f`, a new flow towards the server; `client`, `server`: who they are; `frontend`: what was asked for, with `f->service`. Its
 * number is left in `number`. A socket's is told of when it is known whose it is. 0 or a drop. */
INLINE int handle_take(const struct flow *f, const struct peer *client, const struct peer *server, const struct address *frontend,
		       __u16 frontend_port, __u32 *number)
{
	const struct config *config = config_get();
	const struct limits *limits = limits_get();
	__u32 *hand = handle_holding(HANDLE_HAND), share, max, index, mask;
	struct refused *refused;
	struct handle *h = 0;
	int i, code;

	if (!config || !limits || !hand)
		return DROPPED(DROP_HANDLES_FULL);
	max = limits->handles_max;
	mask = f->flags & FLOW_IPV6 ? HANDLE_NUMBER_MASK : config->handle_mask_ipv4 & HANDLE_NUMBER_MASK;
	if (!max)
		return DROPPED(DROP_HANDLES_FULL);
	share = share_of(f);
	code = handle_admits(share, max);
	if (code) {
		index = share_index(share);
		refused = bpf_map_lookup_elem(&weir_refused, &index);
		if (refused)
			__sync_fetch_and_add(&refused->handles, 1);
		return code;
	}
	for (i = 0; i < HANDLE_TRIES; i++) {
		index = __sync_fetch_and_add(hand, 1) % max;
		h = bpf_map_lookup_elem(&weir_handles, &index);
		/* Number 0 is none. */
		if (h && index && !__sync_val_compare_and_swap(&h->taken, 0, 2))
			break;
		h = 0;
	}
	if (!h)
		return DROPPED(DROP_HANDLES_FULL);
	handle_held(share, 1);
	h->number = (((h->number & ~((1 << HANDLE_INDEX_BITS) - 1)) + (1 << HANDLE_INDEX_BITS)) | index) & mask;
	h->created = f->now;
	h->upstream_port = 0;
	h->redirect = f->redirect & (REDIRECT_EGRESS | REDIRECT_INGRESS | REDIRECT_SOCKET);
	h->client_hi = f->source_hi;
	h->key = f->key;
	h->upstream.halves[0] = 0;
	h->upstream.halves[1] = 0;
	h->cookie = 0;
	h->share = share;
	h->client.identity = client->identity;
	h->client.endpoint = client->endpoint;
	h->server.identity = server->identity;
	h->server.endpoint = server->endpoint;
	h->service = f->service;
	h->frontend_port = 0;
	h->frontend.halves[0] = 0;
	h->frontend.halves[1] = 0;
	if (frontend && f->service) {
		h->frontend = *frontend;
		h->frontend_port = frontend_port;
	}
	*number = h->number;
	/* last: who finds it taken sees the rest */
	__sync_lock_test_and_set(&h->taken, 1);
	if (!(f->redirect & REDIRECT_SOCKET))
		handle_tell(*number);
	return 0;
}

/* What weir_upstreams has of it goes. */
INLINE void upstream_forget(const struct handle *h)
{
	struct ct_key key;

	if (h->key.protocol != PROTOCOL_TCP)
		return;
	if (h->upstream_port) {
		upstream_key(&key, h);
		bpf_map_delete_elem(&weir_upstreams, &key);
	}
	if (h->cookie) {
		upstream_cookie_key(&key, h->cookie);
		bpf_map_delete_elem(&weir_upstreams, &key);
	}
}

/* Gives back one that is taken. */
NOINLINE int handle_give(struct handle *h)
{
	NEVER_NULL(h);
	upstream_forget(h);
	handle_held(h->share, -1);
	__sync_lock_test_and_set(&h->taken, 0);
	return 0;
}
#undef FILE_ID
