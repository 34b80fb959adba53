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

INLINE void traffic_tell(const struct ct_key *key, struct ct_entry *e, __u32 now)
{
	const struct config *config = config_get();
	struct event *event;
	__u32 holder;

	if (!config || !config->hz)
		return;
	holder = trouble_holder(e);
	event = event_reserve(holder, EVENT_TRAFFIC, 1);
	if (!event)
		return;
	event->type = EVENT_TRAFFIC;
	event->subtype = traffic_over(e, now);
	event->source_endpoint = e->ends[0].endpoint;
	event->destination_endpoint = e->ends[1].endpoint;
	event->time = bpf_ktime_get_ns();
	event->source_identity = e->ends[0].identity;
	event->destination_identity = e->ends[1].identity;
	event->ifindex = 0;
	event->length_original = (__u64)(now - e->created) * 1000 / config->hz;
	event->line = 0;
	event->file = 0;
	event->reason = REASON_UNKNOWN;
	event->egress_match = e->ends[0].match;
	event->ingress_match = e->ends[1].match;
	event->protocol = key->protocol;
	event->egress_cookie = e->ends[0].cookie;
	event->ingress_cookie = e->ends[1].cookie;
	event->policy_port = e->policy_port;
	event->proxy_port = 0;
	event->hook_endpoint = e->ends[0].endpoint ?: e->ends[1].endpoint;
	event->service = e->service;
	event->holder = holder;
	event->pad2 = 0;
	event->vni = 0;
	made_headers(event, key, e);
	__builtin_memcpy(event->payload + EVENT_TRAFFIC_OFFSET, e->traffic, sizeof(e->traffic));
	e->told = traffic_packets(e);
	e->told_at = now ?: 1;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}
