/* Fair shares of the tables that traffic fills: weir_ct, weir_nat, and the node's ports towards one server.
 *
 * Who makes an entry holds it, until it is collected: an endpoint what it opened; per endpoint, what others opened towards it; the
 * node itself (also for health checks and the control plane). Nobody may hold more than SHARE_FACTOR times what is still free:
 *
 *     held < SHARE_FACTOR * (entries_max - reserve - used)
 *
 * That is no limit while a table is half empty, and it needs no list of who is there: one that takes all it can ends at two
 * thirds of the table, n of them at 2 / (2n + 1) each, and 1 / (2n + 1) always stays free for the others (the dynamic threshold of
 * shared buffers: Choudhury and Hahne, 1998). Decided as the entry is made, so it holds however fast somebody is; user space
 * is not asked. The node itself is asked for nothing, and the last sixteenth of a table is its own.
 *
 * What came from outside for one endpoint shares again, by source (networks of the world, single machines of the cluster):
 * within what is left of the endpoint's, by the same rule.
 *
 * Counts are exact: plus one with each insert, minus one with each delete. Of weir_ct the plus comes first, and is taken back when
 * the insert fails: a locked addition waits until all that was written before it is in the cache, and a new element's memory is cold
 * (50 ns). Races are left: an expired entry that is taken over by two CPUs at once, or while it is collected, one that is counted and not
 * yet inserted as a walk begins, and a program that is replaced between the two. They move a count by one. So weir_gc counts
 * anew as it walks, and corrects what cannot be: see lib/recount.h. */
#pragma once

#include "config.h"
#include "flow.h"

#define SHARE_FACTOR 2
#define SHARE_RESERVE_SHIFT 4 /* of a table: the node's own */
#define SHARE_SOURCES 4096
#define SHARE_PORTS 32768

/* Elements of weir_holdings. */
#define HOLDING_CT 0 /* + share */
#define HOLDING_NAT SHARES_MAX /* + share */
#define HOLDING_CT_SOURCE (2 * SHARES_MAX) /* + hash of source and share */
#define HOLDING_NAT_SOURCE (HOLDING_CT_SOURCE + SHARE_SOURCES)
#define HOLDING_PORTS (HOLDING_NAT_SOURCE + SHARE_SOURCES) /* + hash of server, or of server and share */
#define HOLDING_CT_ALL (HOLDING_PORTS + SHARE_PORTS)
#define HOLDING_NAT_ALL (HOLDING_CT_ALL + 1)
_Static_assert(HOLDING_NAT_ALL + 1 == HOLDING_MAX && HOLDING_MAX < 0xffff, "HOLDING_MAX");

INLINE __u32 *holding(__u32 element)
{
	struct holding *held = bpf_map_lookup_elem(&weir_holdings, &element);

	return held ? &held->now : 0;
}

INLINE __u32 holding_now(__u32 element)
{
	const __u32 *now = holding(element);
	__s32 count = now ? READ_ONCE(*now) : 0;

	/* Below zero between a race and the next count. */
	return count > 0 ? count : 0;
}

INLINE void holding_add(__u32 element, __u32 change)
{
	__u32 *now = holding(element);

	if (likely(now))
		__sync_fetch_and_add(now, change);
}

INLINE __u32 share_hash(__u64 a, __u64 b, __u32 c)
{
	__u64 h = (a ^ c) * 0x9e3779b97f4a7c15ull;

	h = (h ^ (h >> 32) ^ b) * 0x9e3779b97f4a7c15ull;
	return h >> 40;
}

/* Beside the number of a share: */
#define SHARE_CLUSTER 0x2000 /* another node is who opened it */
#define SHARE_NETWORK 0x4000 /* one of the world, where a machine has a network of addresses */

/* Who has opened a flow that is new here. */
INLINE __u32 share_of(const struct flow *f)
{
	__u32 id = f->source_identity, share = SHARE_OUTSIDE + f->destination_endpoint;

	if (f->source_endpoint && f->source_endpoint != ENDPOINT_HOST)
		return f->source_endpoint;
	if (id == IDENTITY_HOST || id == IDENTITY_HEALTH || id == IDENTITY_KUBE_APISERVER)
		return SHARE_NODE;
	if (id == IDENTITY_REMOTE_NODE)
		return share | SHARE_CLUSTER;
	if (id == IDENTITY_WORLD || id == IDENTITY_WORLD_V4 || id == IDENTITY_WORLD_V6 || id >= 1 << 24)
		share |= SHARE_NETWORK;
	return share;
}

INLINE __u32 share_index(__u32 share)
{
	return share & (SHARES_MAX - 1);
}

/* Where what is held from one source towards one endpoint is counted; `first`: HOLDING_CT_SOURCE or HOLDING_NAT_SOURCE. */
INLINE __u32 share_source(__u32 share, const struct address *source, __u32 first)
{
	__u64 network = source->halves[0], own = source->halves[1];

	if (share & SHARE_NETWORK)
		own = !network && source->words[2] == 0xffff0000u ? own & 0x00ffffffffffffffull : 0;
	return first + (share_hash(network, own, share) & (SHARE_SOURCES - 1));
}

/* May `share` have so many `entries` more of a table? `first`, `sources`: HOLDING_* of the table. */
INLINE int share_admits(__u32 share, const struct address *source, __u32 all, __u32 first, __u32 sources,
			__u32 entries_max, __u32 entries)
{
	__u32 room = entries_max - (entries_max >> SHARE_RESERVE_SHIFT), used = holding_now(all) + entries - 1, left, own;

	if (share == SHARE_NODE || !entries_max)
		return 1;
	/* Other nodes may use one half of the reserve. */
	if ((share & SHARE_CLUSTER) && used < room + (entries_max >> SHARE_RESERVE_SHIFT) / 2)
		return 1;
	if (used >= room)
		return 0;
	left = SHARE_FACTOR * (room - used);
	own = holding_now(first + share_index(share)) + entries - 1;
	if (own >= left)
		return 0;
	return !(share & SHARE_OUTSIDE) || holding_now(share_source(share, source, sources)) < SHARE_FACTOR * (left - own);
}

INLINE const struct limits *limits_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_limits, &zero);
}

NOINLINE int share_refuse(__u32 share, __u32 nat)
{
	__u32 index = share_index(share);
	struct refused *refused = bpf_map_lookup_elem(&weir_refused, &index);

	if (refused)
		__sync_fetch_and_add(nat ? &refused->nat : &refused->ct, 1);
	return 0;
}

/* ---- conntrack --------------------------------------------------------------------------------------------- */

INLINE const struct address *flow_source(const struct flow *f)
{
	return f->source_hi ? &f->key.hi : &f->key.lo;
}

/* `change`: 1 or -1; `source`: who opened the flow */
INLINE void ct_share_add(__u32 share, const struct address *source, __u32 change)
{
	holding_add(HOLDING_CT_ALL, change);
	holding_add(HOLDING_CT + share_index(share), change);
	if (share & SHARE_OUTSIDE)
		holding_add(share_source(share, source, HOLDING_CT_SOURCE), change);
}

/* Takes so many `entries`, which are to be inserted or given back (ct_share_add()); 0 when the share has no room for them. */
INLINE int ct_share_take(__u32 share, const struct flow *f, __u32 entries)
{
	const struct limits *limits = limits_get();

	if (unlikely(!share_admits(share, flow_source(f), HOLDING_CT_ALL, HOLDING_CT, HOLDING_CT_SOURCE,
				   limits ? limits->ct_entries_max : 0, entries))) {
		share_refuse(share, 0);
		return 0;
	}
	ct_share_add(share, flow_source(f), entries);
	return 1;
}

INLINE __u32 ct_share(const struct ct_entry *e)
{
	return e->ends[0].share | e->ends[1].share << 8;
}

INLINE void ct_share_set(struct ct_entry *e, __u32 share)
{
	e->ends[0].share = share;
	e->ends[1].share = share >> 8;
}

/* The entry that is there under `key`, of a flow that is over, becomes that of one whose `share` has taken an entry; before anything
 * else in it does. */
INLINE void ct_share_move(struct ct_entry *e, const struct ct_key *key, __u32 share)
{
	__u32 before = ct_share(e);

	ct_share_set(e, share);
	ct_share_add(before, e->flags & CT_ORIGIN_HI ? &key->hi : &key->lo, -1);
}

/* ---- pairs of weir_nat ------------------------------------------------------------------------------------- */

/* The port that a pair takes is one towards one server: the rest of the tuple is free for others. */
INLINE __u32 nat_server(const struct address *server, __u16 port, __u8 protocol, __u32 share)
{
	__u32 salt = (__u32)port << 16 | protocol;

	return HOLDING_PORTS + (share_hash(server->halves[0] + share, server->halves[1], salt) & (SHARE_PORTS - 1));
}
#define NAT_SERVER_ALL 0xffff /* as `share`: everybody's */

/* Whose counts an entry is in: elements of weir_holdings; 0xffff: none. */
struct nat_holders {
	__u32 share;
	__u32 source;
	__u32 server;
	__u32 server_all;
};
#define NAT_NO_HOLDER 0xffff
#define NAT_OUTSIDE (SHARE_OUTSIDE | SHARE_NETWORK)

INLINE void nat_holders(const struct nat_key *key, const struct nat_entry *e, struct nat_holders *of)
{
	of->share = HOLDING_NAT + share_index(e->share);
	of->source = of->server = of->server_all = NAT_NO_HOLDER;
	if (e->share == SHARE_OUTSIDE)
		of->source = share_source(NAT_OUTSIDE, e->flags & NAT_REVERSE ? &e->destination : &key->source,
					  HOLDING_NAT_SOURCE);
	if ((e->flags & (NAT_REVERSE | NAT_LOCAL)) == NAT_REVERSE) {
		of->server = nat_server(&key->source, key->port_source, key->protocol, e->share);
		of->server_all = nat_server(&key->source, key->port_source, key->protocol, NAT_SERVER_ALL);
	}
}

/* An entry came (1) or went (-1). */
INLINE void nat_held(const struct nat_holders *of, __u32 change)
{
	holding_add(HOLDING_NAT_ALL, change);
	holding_add(of->share, change);
	holding_add(of->source, change);
	holding_add(of->server, change);
	holding_add(of->server_all, change);
}

/* May the pair be made whose first entry this will be? `ports`: how many there are; 0: it takes none. */
NOINLINE int nat_share_admits(const struct nat_key *key, const struct nat_entry *e, __u32 ports)
{
	const struct limits *limits = limits_get();
	__u32 share, all, left, own, index;
	struct refused *refused;

	NEVER_NULL(key);
	NEVER_NULL(e);
	share = e->share;
	if (share == SHARE_NODE || !limits || !limits->nat_entries_max)
		return 1;
	if (share == SHARE_OUTSIDE)
		share = NAT_OUTSIDE;
	if (!share_admits(share, &key->source, HOLDING_NAT_ALL, HOLDING_NAT, HOLDING_NAT_SOURCE, limits->nat_entries_max, 1)) {
		share_refuse(share, 1);
		return 0;
	}
	if (!ports)
		return 1;
	all = holding_now(nat_server(&e->destination, e->port_destination, key->protocol, NAT_SERVER_ALL));
	own = holding_now(nat_server(&e->destination, e->port_destination, key->protocol, e->share));
	left = all < ports ? ports - all : 0;
	if (own < left)
		return 1;
	index = share_index(share);
	refused = bpf_map_lookup_elem(&weir_refused, &index);
	if (refused)
		__sync_fetch_and_add(&refused->ports, 1);
	return 0;
}
