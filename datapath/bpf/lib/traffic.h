/* What connections carry: counted in their entries (ct_count()), told by records, as conntrack is walked. One that goes on is told every
 * TRAFFIC_INTERVAL seconds in which it carried something, one that is over with the next walk: closed and expired entries stay longer
 * than a walk takes to come. */
#pragma once

#include "conntrack.h"
#include "events.h"
#include "made_headers.h"
#include "trouble.h"

#define TRAFFIC_INTERVAL 10 /* s */
#define TRAFFIC_RECORDS_MAX 2048 /* of one walk; the others' turn is the next one */

INLINE __u64 traffic_packets(const struct ct_entry *e)
{
	return e->traffic[0].packets + e->traffic[1].packets;
}

/* Closed by both, or nobody has said anything for so long. */
INLINE int traffic_over(const struct ct_entry *e, __u32 now)
{
	__u32 closed = CT_CLOSING_FORWARD | CT_CLOSING_REVERSE;

	return (e->flags & closed) == closed || (__s32)(e->expires - now) <= 0;
}

/* Has it carried what nobody was told of? Of this node's endpoints only: the others' hooks see one direction. */
INLINE int traffic_untold(const struct ct_entry *e)
{
	return !(e->flags & CT_SERVICE) && (e->ends[0].endpoint || e->ends[1].endpoint) && traffic_packets(e) != e->told;
}

INLINE int traffic_due(const struct ct_entry *e, __u32 now, __u32 hz)
{
	return traffic_untold(e) &&
	       (traffic_over(e, now) || (__s32)(now - (e->told_at ?: e->created)) >= (__s32)(TRAFFIC_INTERVAL * hz));
}

INLINE void traffic_tell(const struct ct_key *key, struct ct_entry *e, __u32 now, __u32 hz)
{
	struct event *event = made_event(trouble_holder(e), EVENT_TRAFFIC, key, e, now, hz);

	if (!event)
		return;
	event->subtype = traffic_over(e, now);
	event->line = 0;
	event->reason = REASON_UNKNOWN;
	__builtin_memcpy(event->payload + EVENT_TRAFFIC_OFFSET, e->traffic, sizeof(e->traffic));
	e->told = traffic_packets(e);
	e->told_at = now ?: 1;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}
