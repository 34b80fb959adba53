/* What is found by walking conntrack: flows that wait for an answer, told after a second and once more after ten; what connections
 * have carried; and which addresses have connections. */
#include "lib/made_headers.h"
#include "lib/traffic.h"
#include "lib/trouble.h"

#define UNANSWERED_AGAIN 10 /* s */

struct unanswered {
	__u32 now;
	__u32 hz;
	__u32 visited;
	__u32 waiting;
	__u32 found;
	__u32 told; /* connections whose traffic was told */
};

/* What it waits for, or 0. The flow is this node's: it sees what goes both ways. */
INLINE __u32 unanswered_kind(const struct ct_key *key, const struct ct_entry *e)
{
	__u32 flags = e->flags, to = e->ends[1].identity;

	if ((flags & CT_SERVICE) || !(e->ends[0].endpoint || e->ends[1].endpoint) || to == IDENTITY_MULTICAST || to == IDENTITY_BROADCAST)
		return 0;
	if (key->protocol != PROTOCOL_TCP)
		return flags & CT_SEEN_REPLY ? 0 : TROUBLE_NO_ANSWER;
	/* Who goes on after its SYN has heard an answer, on another way. */
	if ((flags & CT_SEEN_NON_SYN) || !(e->tcp_flags[0] & TCP_SYN))
		return 0;
	return flags & CT_SEEN_REPLY ? TROUBLE_UNCONFIRMED : TROUBLE_NO_ANSWER;
}

INLINE void unanswered_tell(const struct unanswered *u, const struct ct_key *key, const struct ct_entry *e, __u32 kind, __u32 holder)
{
	struct event *event = made_event(holder, EVENT_TROUBLE, key, e, u->now, u->hz);

	if (!event)
		return;
	event->subtype = kind;
	event->line = 1 + (kind == TROUBLE_NO_ANSWER ? e->sent[1] : 0);
	event->reason = REASON_NEW;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static long unanswered_entry(void *map, struct ct_key *key, struct ct_entry *e, struct unanswered *u)
{
	__u32 age = u->now - e->created, kind, holder;

	(void)map;
	u->visited++;
	if (u->told < TRAFFIC_RECORDS_MAX && traffic_due(e, u->now, u->hz)) {
		u->told++;
		traffic_tell(key, e, u->now, u->hz);
	}
	/* (One that was made after the walk began is older than anything.) */
	if ((__s32)age < (__s32)u->hz || (__s32)(e->expires - u->now) <= 0)
		return 0;
	kind = unanswered_kind(key, e);
	if (!kind)
		return 0;
	u->waiting++;
	if (e->flags & (age < UNANSWERED_AGAIN * u->hz ? CT_TOLD : CT_TOLD_AGAIN))
		return 0;
	holder = trouble_holder(e);
	/* An answer that comes at this moment may undo this, or be noted with the next packet only: both do no harm. */
	if (!(e->flags & CT_TOLD)) {
		trouble_count(e, holder, kind);
		u->found++;
	}
	e->flags |= age < UNANSWERED_AGAIN * u->hz ? CT_TOLD : CT_TOLD | CT_TOLD_AGAIN;
	if (trouble_budget(holder, u->now, u->hz))
		unanswered_tell(u, key, e, kind, holder);
	return 0;
}

SEC("syscall")
int weir_unanswered(struct unanswered_request *request)
{
	const struct config *config = config_get();
	struct unanswered u = { .now = jiffies() };

	if (!config || !config->hz)
		return -1;
	u.hz = config->hz;
	bpf_for_each_map_elem(&weir_ct, unanswered_entry, &u, 0);
	request->visited = u.visited;
	request->waiting = u.waiting;
	request->found = u.found;
	request->told = u.told;
	return 0;
}

struct in_use {
	__u32 now;
	__u32 visited;
	__u32 used;
};

INLINE void in_use_mark(struct in_use *u, const struct address *address)
{
	__u32 *used = bpf_map_lookup_elem(&weir_asked, address);

	if (!used || *used)
		return;
	*used = 1;
	u->used++;
}

static long in_use_entry(void *map, struct ct_key *key, struct ct_entry *e, struct in_use *u)
{
	struct address address;

	(void)map;
	u->visited++;
	/* What is closed at both ends has no more use for the address. */
	if (!(e->ends[0].endpoint || e->ends[1].endpoint) || (__s32)(e->expires - u->now) <= 0 ||
	    ((e->flags & CT_CLOSING_FORWARD) && (e->flags & CT_CLOSING_REVERSE)))
		return 0;
	address = key->lo;
	in_use_mark(u, &address);
	address = key->hi;
	in_use_mark(u, &address);
	return 0;
}

SEC("syscall")
int weir_in_use(struct in_use_request *request)
{
	struct in_use u = { .now = jiffies() };

	bpf_for_each_map_elem(&weir_ct, in_use_entry, &u, 0);
	request->visited = u.visited;
	request->used = u.used;
	return 0;
}
