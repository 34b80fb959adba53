/* Garbage collection of conntrack and of weir_nat, in the kernel: nothing is copied out. */
#include "lib/fragment_order.h"
#include "lib/handle.h"
#include "lib/nat_gc.h"
#include "lib/revision.h"

struct gc {
	__u32 now;
	__u32 hz;
	struct gc_request copy;
	__s32 unanswered; /* jiffies that a flow may have at most which nobody has answered */
};

/* A (client, frontend) entry is of use while the flow to its backend is known. */
INLINE int gc_service_wanted(const struct gc *gc, const struct ct_key *key, const struct ct_entry *e)
{
	const struct config *config = config_get();
	struct flow f = {};
	struct address client = e->flags & CT_ORIGIN_HI ? key->hi : key->lo;
	struct ct_entry *own;

	f.port_source = e->flags & CT_ORIGIN_HI ? key->port_hi : key->port_lo;
	f.port_destination = e->translated_port;
	if (config && same_address(&client, &e->translated)) {
		if (client.halves[0] || client.words[2] != 0xffff0000u)
			client = config->loopback_ipv6;
		else
			client.words[3] = config->loopback_ipv4;
	}
	flow_set_key(&f, client.halves[0], client.halves[1], e->translated.halves[0], e->translated.halves[1], key->protocol);
	own = bpf_map_lookup_elem(&weir_ct, &f.key);
	return !own || own->backend != e->backend || (__s32)(own->expires + gc->hz - gc->now) < 0;
}

/* Expired entries get another second: a packet that just found one alive is still working with it. */
INLINE int gc_wanted(const struct gc *gc, const struct ct_key *key, const struct ct_entry *e)
{
	const struct gc_request *r = &gc->copy;

	/* Not in the second in which it is made: its flow comes after it. */
	if (e->flags & CT_SERVICE) {
		if (gc->now - e->created > gc->hz && gc_service_wanted(gc, key, e))
			return 1;
	} else if ((__s32)(e->expires + gc->hz - gc->now) < 0)
		return 1;
	switch (r->mode) {
	case GC_PRESSURE:
		return !(e->flags & CT_SERVICE) && !ct_answered(e, key->protocol) && gc_old(r, HOLDING_CT + share_index(ct_share(e)), gc->now - e->created, gc->hz);
	case GC_ENDPOINT:
		return r->endpoint && (e->ends[0].endpoint == r->endpoint || e->ends[1].endpoint == r->endpoint);
	case GC_ADDRESS:
		return (key->lo.halves[0] == r->address.halves[0] && key->lo.halves[1] == r->address.halves[1]) ||
		       (key->hi.halves[0] == r->address.halves[0] && key->hi.halves[1] == r->address.halves[1]);
	case GC_ALL:
		return 1;
	}
	return 0;
}

static long gc_entry(void *map, struct ct_key *key, struct ct_entry *e, struct gc *gc)
{
	/* A copy: the element may be given away while it is being deleted. */
	struct ct_key copy = *key;
	const struct address *source = e->flags & CT_ORIGIN_HI ? &copy.hi : &copy.lo;
	__u32 share = ct_share(e), removed = 0;

	gc->copy.visited++;
	if (gc_wanted(gc, &copy, e) && !bpf_map_delete_elem(map, &copy)) {
		gc->copy.deleted++;
		removed = 1;
		ct_share_add(share, source, -1);
	} else {
		gc->copy.live++;
		/* Versions before gave what was never answered hours. */
		if (!(e->flags & CT_SERVICE) && !ct_answered(e, copy.protocol) && (__s32)(e->expires - gc->now) > gc->unanswered)
			e->expires = gc->now + gc->unanswered;
	}
	recount_ct(share, source, removed);
	return 0;
}

/* Fragments whose first one never came. */
static long held_gc_entry(void *map, __u32 *key, struct held_fragment *held, struct gc *gc)
{
	(void)map;
	if (READ_ONCE(held->state) != HELD_FULL || !held_expired(held, gc->now, gc->hz) || !held_take(held, HELD_FULL))
		return 0;
	held_lost(held);
	held_give(held, HELD_FREE);
	held_count(*key / HELD_GROUP_PLACES, -1);
	return 0;
}

/* Of a flow that is over. Not in the second in which it is made: its flow comes after it. */
static long handle_gc_entry(void *map, __u32 *key, struct handle *h, struct gc *gc)
{
	const struct config *config = config_get();
	const struct ct_entry *e;
	struct ct_key flow;

	(void)map;
	(void)key;
	if (!config || READ_ONCE(h->taken) != 1 || gc->now - h->created <= gc->hz)
		return 0;
	handle_flow_key(&flow, h, config);
	e = bpf_map_lookup_elem(&weir_ct, &flow);
	if (!e || !(e->flags & CT_REDIRECT) || e->handle != h->number)
		handle_give(h);
	return 0;
}

SEC("syscall")
int weir_gc(struct gc_request *request)
{
	const struct config *config = config_get();
	struct gc gc = { .now = jiffies() };
	struct nat_gc nat = { .now = gc.now, .request = &gc.copy };
	const __u32 *handles;

	if (!config || !config->hz)
		return -1;
	gc.hz = config->hz;
	gc.unanswered = nat.unanswered = config->timeout_syn * config->hz;
	gc.copy.mode = request->mode;
	gc.copy.endpoint = request->endpoint;
	gc.copy.address = request->address;
	gc.copy.age = request->age;
	gc.copy.age_over = request->age_over;
	gc.copy.held_max = request->held_max;
	bpf_for_each_map_elem(&weir_holdings, recount_begin, &gc, 0);
	bpf_for_each_map_elem(&weir_ct, gc_entry, &gc, 0);
	bpf_for_each_map_elem(&weir_held, held_gc_entry, &gc, 0);
	handles = handle_holding(HANDLE_HOLDING_ALL);
	if (handles && *handles)
		bpf_for_each_map_elem(&weir_handles, handle_gc_entry, &gc, 0);
	nat.hz = gc.hz;
	bpf_for_each_map_elem(&weir_nat, nat_gc_entry, &nat, 0);
	bpf_for_each_map_elem(&weir_holdings, recount_end, &gc, 0);
	request->visited = gc.copy.visited;
	request->deleted = gc.copy.deleted;
	request->live = gc.copy.live;
	request->nat_visited = gc.copy.nat_visited;
	request->nat_deleted = gc.copy.nat_deleted;
	request->nat_live = gc.copy.nat_live;
	return 0;
}

struct revise {
	__u32 first;
	__u32 count;
};

static long revise_element(void *map, const __u32 *element, __u32 *revision, struct revise *revise)
{
	(void)map;
	if (*element - revise->first < revise->count)
		__sync_fetch_and_add(revision, 1);
	return 0;
}

/* Bumps every element that an address of the prefix may have. Called after the map that has changed was written. */
SEC("syscall")
int weir_revise(struct revision_request *request)
{
	struct address address = request->address;
	__u32 length = request->prefixlen, element, *revision;
	struct revise revise = { .count = REVISIONS_MAX };

	if (!address.halves[0] && address.words[2] == 0xffff0000u)
		/* as if it were v6: whole, in a block, in a wide block, more */
		length = length >= 128 ? 128 : length >= 96 + 24 ? 64 : length >= 96 + 8 ? 32 : 0;
	else if (!address.halves[0] && length < 96)
		length = 0; /* covers every v4 address */
	element = revision_element(&address);
	if (length >= 128)
		revise.count = 1;
	else if (length >= 64)
		revise.count = 1 << REVISION_BLOCK_SHIFT;
	else if (length >= 32)
		revise.count = 1 << REVISION_WIDE_SHIFT;
	revise.first = element & ~(revise.count - 1);
	request->revised = revise.count;
	if (revise.count == 1) {
		revision = bpf_map_lookup_elem(&weir_revisions, &element);
		if (revision)
			__sync_fetch_and_add(revision, 1);
		return 0;
	}
	bpf_for_each_map_elem(&weir_revisions, revise_element, &revise, 0);
	return 0;
}

SEC("syscall")
int weir_clock(struct clock_sample *sample)
{
	sample->jiffies = bpf_jiffies64();
	sample->time = bpf_ktime_get_ns();
	return 0;
}
