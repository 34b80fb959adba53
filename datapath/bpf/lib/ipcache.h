/* Address -> identity and node. This node's own addresses first, then single addresses by hash, then prefixes. */
#pragma once

#include "endpoint.h"
#include "flow.h"

/* One end of a flow, resolved. */
struct peer {
	__u32 identity;
	__u32 revision; /* of the endpoint; read before its policy */
	__u32 policy; /* slot */
	__u16 endpoint; /* 0: none of this node's */
	__u16 flags; /* IPCACHE_* */
	__u8 host; /* one of this node's own addresses */
	__u8 endpoint_flags;
	__u8 known; /* this node's: found in weir_addresses */
	__u8 pad;
};

INLINE void peer_from_endpoint(struct peer *peer, __u32 id)
{
	struct endpoint *endpoint = endpoint_get(id);

	if (!endpoint)
		return;
	peer->revision = READ_ONCE(endpoint->revision);
	peer->identity = READ_ONCE(endpoint->identity);
	peer->policy = READ_ONCE(endpoint->policy);
	peer->endpoint_flags = endpoint->flags;
	peer->endpoint = id;
}

/* The host hears what is sent to `peer`. While a policy selects the node, it is an endpoint too. */
INLINE void peer_has_host(struct peer *peer)
{
	const struct endpoint *host = host_endpoint();

	if (!host)
		return;
	peer->revision = READ_ONCE(host->revision);
	peer->policy = READ_ONCE(host->policy);
	peer->endpoint = ENDPOINT_HOST;
}

/* One of this node's own addresses. */
INLINE void peer_is_host(struct peer *peer)
{
	peer->host = 1;
	peer->identity = IDENTITY_HOST;
	peer_has_host(peer);
}

INLINE struct ipcache_entry *ipcache_lookup(const struct address *address)
{
	struct ipcache_entry *entry = bpf_map_lookup_elem(&weir_ipcache_exact, address);
	struct ipcache_prefix prefix;

	if (entry)
		return entry;
	prefix.prefixlen = 128;
	__builtin_memcpy(prefix.address, address->bytes, sizeof(prefix.address));
	return bpf_map_lookup_elem(&weir_ipcache, &prefix);
}

/* The other node that has this address as its own, or null. */
INLINE const struct address *ipcache_node(const struct address *address)
{
	struct ipcache_entry *entry = bpf_map_lookup_elem(&weir_ipcache_exact, address);

	return entry && entry->identity == IDENTITY_REMOTE_NODE && !is_zero(&entry->node) ? &entry->node : 0;
}

/* 127.0.0.0/8 and ::1: the host, whoever asks. */
INLINE int is_loopback(const struct address *a)
{
	return a->halves[0] == 0 &&
	       (a->halves[1] == bpf_cpu_to_be64(1) || (a->words[2] == 0xffff0000u && a->bytes[12] == 127));
}

/* 224.0.0.0/4, ff00::/8, 255.255.255.255: by their bits, whatever prefixes cover them. 0: one address. */
INLINE __u32 identity_of_many(const struct address *a)
{
	if (a->halves[0] || a->words[2] != 0xffff0000u)
		return a->bytes[0] == 0xff ? IDENTITY_MULTICAST : 0;
	if (a->words[3] == 0xffffffffu)
		return IDENTITY_BROADCAST;
	return (a->bytes[12] & 0xf0) == 0xe0 ? IDENTITY_MULTICAST : 0;
}

/* Not a node's, nor a pod's: the world, or a CIDR of it. */
INLINE int identity_outside(__u32 identity)
{
	return identity == IDENTITY_WORLD || identity == IDENTITY_WORLD_V4 || identity == IDENTITY_WORLD_V6 ||
	       identity >= 1 << 24;
}

/* Fills `peer`, and `node` when another node has the address. */
NOINLINE int peer_resolve(const struct address *address, struct peer *peer, struct address *node, __u32 world)
{
	struct address_owner *owner;
	struct ipcache_entry *entry;

	NEVER_NULL(address);
	NEVER_NULL(peer);
	NEVER_NULL(node);
	owner = bpf_map_lookup_elem(&weir_addresses, address);
	if (owner) {
		peer->known = 1;
		if (owner->flags & ADDRESS_HOST) {
			peer_is_host(peer);
		} else if (owner->flags & ADDRESS_BROADCAST) {
			peer->identity = IDENTITY_BROADCAST;
		} else {
			peer_from_endpoint(peer, owner->endpoint);
		}
		return 0;
	}
	if (is_loopback(address) || is_link_local(address)) {
		peer_is_host(peer);
		return 0;
	}
	peer->identity = identity_of_many(address);
	if (peer->identity)
		return 0;
	entry = ipcache_lookup(address);
	if (!entry) {
		peer->identity = world;
		return 0;
	}
	peer->identity = entry->identity;
	peer->flags = entry->flags;
	if (entry->node.halves[0] | entry->node.halves[1])
		*node = entry->node;
	return 0;
}
