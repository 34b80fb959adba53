/* Counting anew what everybody holds, as weir_gc walks the tables.
 *
 * The walk sees what it sees while others insert: an entry that is made during it is seen or not. So a count is corrected only by
 * what cannot be. With `base` the count as the walk began, `seen` what the walk met, `removed` what it deleted of that, and
 * `made` = now - base + removed what others made meanwhile (or took away, below zero), base was wrong by base - seen, give or take
 * `made`. */
#pragma once

#include "share.h"

/* Of an age that makes an unanswered entry go under pressure: sooner for who holds much. */
INLINE int gc_old(const struct gc_request *r, __u32 element, __u32 age, __u32 hz)
{
	__u32 limit = r->held_max && holding_now(element) > r->held_max ? r->age_over : r->age;

	return age > limit * hz;
}

static long recount_begin(void *map, const __u32 *element, struct holding *held, void *unused)
{
	(void)map, (void)element, (void)unused;
	held->base = READ_ONCE(held->now);
	held->seen = 0;
	held->removed = 0;
	return 0;
}

static long recount_end(void *map, const __u32 *element, struct holding *held, void *unused)
{
	__s32 made = READ_ONCE(held->now) - held->base + held->removed, wrong = held->base - held->seen;

	(void)map, (void)element, (void)unused;
	/* What came while we walked may have been met without being in `base`; what went may have been in `base` only. */
	if (wrong > 0 ? made < 0 : made > 0) {
		if ((wrong > 0) != (wrong + made > 0))
			return 0;
		wrong += made;
	}
	if (wrong)
		__sync_fetch_and_add(&held->now, -wrong);
	return 0;
}

INLINE void recount(__u32 element, __u32 removed)
{
	struct holding *held = bpf_map_lookup_elem(&weir_holdings, &element);

	if (!held)
		return;
	held->seen++;
	held->removed += removed;
}

INLINE void recount_ct(__u32 share, const struct address *source, __u32 removed)
{
	recount(HOLDING_CT_ALL, removed);
	recount(HOLDING_CT + share_index(share), removed);
	if (share & SHARE_OUTSIDE)
		recount(share_source(share, source, HOLDING_CT_SOURCE), removed);
}

INLINE void recount_nat(const struct nat_holders *of, __u32 removed)
{
	recount(HOLDING_NAT_ALL, removed);
	recount(of->share, removed);
	recount(of->source, removed);
	recount(of->server, removed);
	recount(of->server_all, removed);
}
