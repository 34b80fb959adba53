/* Garbage collection of weir_nat, in the kernel. Both entries of a pair look the same to every question asked here, so they
 * go in one run. */
#pragma once

#include "nat.h"
#include "recount.h"

struct nat_gc {
	__u32 now;
	__u32 hz;
	struct gc_request *request;
	__s32 unanswered; /* as in struct gc */
	__u32 pad;
};

INLINE int nat_gc_is(const struct address *a, const struct address *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

/* Expired entries get another second, as in conntrack. */
INLINE int nat_gc_wanted(const struct nat_gc *gc, const struct nat_key *key, const struct nat_entry *e)
{
	const struct gc_request *r = gc->request;

	if ((__s32)(e->expires + gc->hz - gc->now) < 0)
		return 1;
	switch (r->mode) {
	case GC_PRESSURE:
		return !(key->protocol == PROTOCOL_TCP ? nat_answered(e) : e->tcp_flags[1]) &&
		       gc_old(r, HOLDING_NAT + share_index(e->share), gc->now - e->created, gc->hz);
	case GC_ADDRESS:
		return nat_gc_is(&key->source, &r->address) || nat_gc_is(&key->destination, &r->address) ||
		       nat_gc_is(&e->source, &r->address) || nat_gc_is(&e->destination, &r->address);
	case GC_ALL:
		return 1;
	}
	return 0;
}

static long nat_gc_entry(void *map, struct nat_key *key, struct nat_entry *e, struct nat_gc *gc)
{
	/* A copy: the element may be given away while it is being deleted. */
	struct nat_key copy = *key;
	struct nat_holders of;
	__u32 removed = 0;

	nat_holders(&copy, e, &of);
	gc->request->nat_visited++;
	if (nat_gc_wanted(gc, &copy, e) && !bpf_map_delete_elem(map, &copy)) {
		gc->request->nat_deleted++;
		removed = 1;
		nat_held(&of, -1);
	} else {
		gc->request->nat_live++;
		if (copy.protocol == PROTOCOL_TCP && !nat_answered(e) && (__s32)(e->expires - gc->now) > gc->unanswered)
			e->expires = gc->now + gc->unanswered;
	}
	recount_nat(&of, removed);
	return 0;
}
