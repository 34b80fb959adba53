/* Records of the ring: drops, verdicts of new connections, traces. Never woken: a wake-up costs 7 us, so user space
 * polls. What does not fit is counted by type. */
#pragma once

#include "metrics.h"

NOINLINE int event_lost(__u32 type)
{
	__u64 *lost = bpf_map_lookup_elem(&weir_lost, &type);

	if (lost)
		__sync_fetch_and_add(lost, 1);
	return 0;
}

/* `what` is type | subtype << 8, `place` is file << 16 | line. */
NOINLINE int event_emit(struct __sk_buff *skb, const struct flow *f, __u32 what, __u32 place)
{
	__u32 length = skb->len;
	struct event *event;

	NEVER_NULL(f);
	event = bpf_ringbuf_reserve(&weir_events, sizeof(*event), 0);
	if (!event)
		return event_lost(what & 0xff);
	event->type = what;
	event->subtype = what >> 8;
	event->source_endpoint = f->source_endpoint;
	event->destination_endpoint = f->destination_endpoint;
	event->time = bpf_ktime_get_ns();
	event->source_identity = f->source_identity;
	event->destination_identity = f->destination_identity;
	event->ifindex = skb->ifindex;
	event->length_original = length;
	event->line = place;
	event->file = place >> 16;
	event->reason = f->reason;
	/* FLOW_IPV6 and FLOW_L3 are the same bits as EVENT_IPV6 and EVENT_L3 */
	event->flags = (f->flags & (FLOW_IPV6 | FLOW_L3)) | f->verdicts | (f->flags & FLOW_INGRESS ? EVENT_INGRESS : 0);
	event->egress_match = f->egress_match;
	event->ingress_match = f->ingress_match;
	event->protocol = f->protocol;
	event->egress_cookie = f->egress_cookie;
	event->ingress_cookie = f->ingress_cookie;
	event->policy_port = f->policy_port;
	event->proxy_port = f->proxy_port;
	event->hook_endpoint = f->hook_endpoint;
	event->service = f->service;
	event->pad2 = 0;
	if (length >= EVENT_PAYLOAD_MAX) {
		length = EVENT_PAYLOAD_MAX;
		if (bpf_skb_load_bytes(skb, 0, event->payload, EVENT_PAYLOAD_MAX))
			length = 0;
	} else if (length > 0) {
		if (bpf_skb_load_bytes(skb, 0, event->payload, length))
			length = 0;
	}
	event->length_captured = length;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}
_Static_assert(FLOW_IPV6 == EVENT_IPV6 && FLOW_L3 == EVENT_L3, "event flags");

/* The one way to drop: counts by reason and by endpoint, and says what, where and by which policy entry. */
NOINLINE int drop(struct __sk_buff *skb, struct flow *f, __u32 code)
{
	struct endpoint_counters *counters;
	__u32 endpoint;

	if (!f)
		return SHOT;
	endpoint = f->hook_endpoint;
	count(f, DROP_REASON(code), f->flags & FLOW_INGRESS ? DIRECTION_INGRESS : DIRECTION_EGRESS, skb->len);
	if (endpoint) {
		counters = counters_get(endpoint);
		if (counters) {
			add(f, &counters->dropped_packets, 1);
			add(f, &counters->dropped_bytes, skb->len);
		}
	}
	event_emit(skb, f, EVENT_DROP | DROP_REASON(code) << 8, code >> 8);
	return SHOT;
}

INLINE void trace(struct __sk_buff *skb, const struct flow *f, __u32 point)
{
	event_emit(skb, f, EVENT_TRACE | point << 8, 0);
}
