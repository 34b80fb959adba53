/* Which service is it, and which of its backends? Shared by every hook that translates: devices, sockets, XDP. Knows
 * addresses and ports, not packets. */
#pragma once

#include "config.h"

struct service_client {
	struct address address;
	__u16 port; /* be */
	__u8 protocol;
	__u8 scope; /* SCOPE_* */
	__u16 endpoint; /* of this node, whatever address it says that it has; 0: somebody else */
	__u16 pad;
};

INLINE struct frontend *frontend_get(const struct address *address, __u16 port, __u8 protocol)
{
	struct frontend_key key = { .address = *address, .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&weir_frontends, &key);
}

/* A port of every address of this node, of the family of `destination`: a port has backends of its own in each. */
INLINE struct frontend *frontend_of_node(const struct address *destination, __u16 port, __u8 protocol)
{
	struct frontend_key key = { .port = port, .protocol = protocol };

	if (!destination->halves[0] && destination->words[2] == bpf_htonl(0xffff))
		key.address.words[2] = bpf_htonl(0xffff);
	return bpf_map_lookup_elem(&weir_frontends, &key);
}

/* What all other ports of a virtual address do. */
INLINE struct frontend *frontend_closed(const struct address *address)
{
	struct frontend_key key = { .address = *address };

	return bpf_map_lookup_elem(&weir_frontends, &key);
}

/* Whether who comes from outside may use the frontend at all. */
INLINE int frontend_admits(const struct frontend *frontend, const struct address *client)
{
	struct source_range key = { .prefixlen = 32 + 128, .service = frontend->service };
	int found;

	if (!(frontend->flags & FRONTEND_SOURCE_RANGES))
		return 1;
	__builtin_memcpy(key.address, client->bytes, sizeof(key.address));
	found = bpf_map_lookup_elem(&weir_source_ranges, &key) != 0;
	return found != !!(frontend->flags & FRONTEND_SOURCE_DENY);
}

/* The record of a backend that may still be used for a new flow; null else. */
INLINE struct backend *backend_get(__u32 id)
{
	return bpf_map_lookup_elem(&weir_backends, &id);
}

INLINE __u32 hash_mix(__u32 h, __u32 word)
{
	/* One round of MurmurHash3's 32-bit body (Appleby, public domain): numbers, not code. */
	word *= 0xcc9e2d51;
	word = (word << 15) | (word >> 17);
	word *= 0x1b873593;
	h ^= word;
	h = (h << 13) | (h >> 19);
	return h * 5 + 0xe6546b64;
}

/* The same number for the same client on every node, so that a flow that comes in by another node finds its backend. */
INLINE __u32 service_hash(const struct service_client *client, __u32 port, __u32 seed)
{
	__u32 h = seed;

	h = hash_mix(h, client->address.words[0]);
	h = hash_mix(h, client->address.words[1]);
	h = hash_mix(h, client->address.words[2]);
	h = hash_mix(h, client->address.words[3]);
	h = hash_mix(h, port << 16 | client->protocol);
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

INLINE void service_count_connection(__u32 service, int refused)
{
	struct service_counters *counters = bpf_map_lookup_elem(&weir_service_counters, &service);

	if (!counters)
		return;
	if (refused)
		counters->refused++;
	else
		counters->connections++;
}

INLINE void service_count_packet(__u32 service, __u32 bytes)
{
	struct service_counters *counters = bpf_map_lookup_elem(&weir_service_counters, &service);

	if (!counters)
		return;
	counters->packets++;
	counters->bytes += bytes;
}

/* May a client get a record in weir_affinity? An LRU forgets the oldest of all, so nobody may fill it: who has many addresses (a
 * network outside, an endpoint whose source is not checked) gets AFFINITY_RECORDS in an hour. Who gets none is hashed by its address
 * each time, and so stays where it is as long as the service's backends are the same. */
INLINE int affinity_admits(const struct service_client *client, __u32 now, __u32 hz)
{
	struct affinity_rate *rate;
	__u32 bucket, v4 = !client->address.halves[0] && client->address.words[2] == 0xffff0000u;

	/* The same networks as in share_source() */
	if (client->endpoint)
		bucket = hash_mix(1, client->endpoint);
	else
		bucket = hash_mix(client->address.words[0], v4 ? client->address.words[3] & bpf_htonl(0xffffff00) :
								  client->address.words[1]);
	bucket = (bucket ^ bucket >> 16) & (AFFINITY_RATES - 1);
	rate = bpf_map_lookup_elem(&weir_affinity_rates, &bucket);
	if (!rate)
		return 1;
	if (!READ_ONCE(rate->made) || now - rate->since > AFFINITY_SECONDS * hz) {
		rate->since = now;
		rate->made = 0;
	}
	return __sync_fetch_and_add(&rate->made, 1) < AFFINITY_RECORDS;
}

/* A backend's id for a new flow, 0 if there is none. With affinity a client keeps the one it had, while that is active
 * and was used within the timeout. `client->address` is the affinity key too.
 *
 * A client without a record is hashed by its address alone, so that it finds the same backend through every node and
 * with every port. One whose time is over is hashed with its port as well, else it would come back to the backend that
 * it had, for ever. What was chosen is in the record, so whoever is asked next (tc after XDP) says the same. */
NOINLINE __u32 backend_select(const struct frontend *frontend, const struct service_client *client)
{
	struct affinity_key key = {};
	struct affinity *known, fresh;
	struct backend *backend;
	__u32 slot, zero = 0, now, entries, index, id, over = 0, recorded = 0, hz = 1, port;
	__u32 *header, *entry;
	void *selection;

	NEVER_NULL(frontend);
	NEVER_NULL(client);
	port = client->port;
	now = jiffies();
	if (frontend->flags & FRONTEND_AFFINITY) {
		const struct config *config = config_get();

		key.client = client->address;
		key.service = frontend->service;
		known = bpf_map_lookup_elem(&weir_affinity, &key);
		if (config && config->hz)
			hz = config->hz;
		recorded = known != 0;
		over = known && (now - known->used) / hz >= frontend->affinity_timeout;
		if (known && !over) {
			id = known->backend;
			backend = backend_get(id);
			/* The id may have rested and be somebody else's by now. */
			if (backend && backend->state == BACKEND_ACTIVE && backend->protocol == client->protocol &&
			    backend->service == frontend->service) {
				known->used = now;
				return id;
			}
		}
		if (!over)
			port = 0;
	}
	slot = client->scope == SCOPE_EXTERNAL ? frontend->selections[SCOPE_EXTERNAL] : frontend->selections[SCOPE_INTERNAL];
	if (!slot)
		return 0;
	selection = bpf_map_lookup_elem(&weir_selections, &slot);
	if (!selection)
		return 0;
	header = bpf_map_lookup_elem(selection, &zero);
	if (!header)
		return 0;
	index = READ_ONCE(*header);
	entries = index & SELECTION_COUNT;
	if (!entries)
		return 0;
	/* From outside always by the tuple: XDP and tc may both be asked about a packet, and must not differ. Chance is spread by a
	 * multiplication, which costs less than a division; of one there is nothing to choose. */
	if (index & SELECTION_MAGLEV || client->scope == SCOPE_EXTERNAL || ((frontend->flags & FRONTEND_AFFINITY) && !over))
		index = service_hash(client, port, frontend->seed) % entries;
	else
		index = entries > 1 ? (__u64)bpf_get_prandom_u32() * entries >> 32 : 0;
	index++;
	entry = bpf_map_lookup_elem(selection, &index);
	if (!entry)
		return 0;
	id = READ_ONCE(*entry);
	if ((frontend->flags & FRONTEND_AFFINITY) && (recorded || affinity_admits(client, now, hz))) {
		fresh.backend = id;
		fresh.used = now;
		bpf_map_update_elem(&weir_affinity, &key, &fresh, BPF_ANY);
	}
	return id;
}
