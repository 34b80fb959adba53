/* NodePorts of other nodes, asked from here. The asker's node knows all frontends and backends, so it chooses itself: then the
 * flow is one between who asks and who serves, which is what policy is asked about, the same on every node and in both
 * directions; and no node stands between. With externalTrafficPolicy Local only backends of the node that is asked may serve.
 *
 * What a node without this service yet sends on, and who comes from outside, is the asked node's business (node_port.h). */
#pragma once

#include "ipcache.h"
#include "service.h"

#define BACKEND_ASK_NODE 0xffffffffu /* too many to look through: the node that is asked knows its own */
#define NODE_BACKENDS_MAX 128

/* Does the backend live on the node, and may it have a new flow? */
NOINLINE int backend_lives_on(__u32 id, const struct address *node)
{
	const struct backend *b = backend_get(id);
	struct ipcache_entry *entry;

	NEVER_NULL(node);
	if (!b || (b->state != BACKEND_ACTIVE && b->state != BACKEND_TERMINATING))
		return 0;
	entry = ipcache_lookup(&b->address);
	return entry && same_address(&entry->node, node);
}

/* One of the node's own backends: an id, 0 when it has none, or BACKEND_ASK_NODE. From a place that depends on the client
 * with affinity, else from any. */
NOINLINE __u32 backend_select_on(const struct frontend *frontend, const struct service_client *client, const struct address *node)
{
	__u32 slot, zero = 0, entries, start, i, id, index;
	__u32 *header, *entry;
	void *selection;

	NEVER_NULL(frontend);
	NEVER_NULL(client);
	NEVER_NULL(node);
	slot = frontend->selections[SCOPE_INTERNAL];
	selection = slot ? bpf_map_lookup_elem(&weir_selections, &slot) : 0;
	if (!selection)
		return BACKEND_ASK_NODE;
	header = bpf_map_lookup_elem(selection, &zero);
	if (!header)
		return BACKEND_ASK_NODE;
	entries = READ_ONCE(*header) & SELECTION_COUNT;
	start = frontend->flags & FRONTEND_AFFINITY ? service_hash(client, 0, frontend->seed) : bpf_get_prandom_u32();
	for (i = 0; i < NODE_BACKENDS_MAX; i++) {
		if (i >= entries)
			return 0;
		index = 1 + (start + i) % entries;
		entry = bpf_map_lookup_elem(selection, &index);
		if (!entry)
			return BACKEND_ASK_NODE;
		id = READ_ONCE(*entry);
		if (backend_lives_on(id, node))
			return id;
	}
	return BACKEND_ASK_NODE;
}

/* The frontend that another node's address has there, into `found`; for FRONTEND_LOCAL the node into `node`. 1, or 0. */
INLINE int frontend_of_other(const struct address *to, __u16 port, __u8 protocol, struct frontend *found, struct address *node)
{
	const struct frontend *frontend = frontend_of_node(to, port, protocol);
	const struct address *where;

	if (!frontend || !(frontend->flags & FRONTEND_EVERY_NODE))
		return 0;
	where = ipcache_node(to);
	if (!where)
		return 0;
	*found = *frontend;
	if (frontend->flags & FRONTEND_LOCAL)
		*node = *where;
	else
		found->selections[SCOPE_INTERNAL] = frontend->selections[SCOPE_EXTERNAL];
	return 1;
}
