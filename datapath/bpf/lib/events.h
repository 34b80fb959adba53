/* Records of the ring: drops, verdicts of new connections, traces. Never woken: a wake-up costs 7 us, so user space
 * polls. What does not fit is counted, by type and by who has caused it.
 *
 * Fair shares: while the ring fills, nobody may have more than EVENT_FACTOR times what is still free waiting in it,
 *
 *     held < EVENT_FACTOR * (size - waiting)
 *
 * so one that floods ends at two thirds of the ring, n of them at 2 / (2n + 1) each, and some is always free for the others
 * (dynamic threshold of shared buffers: Choudhury and Hahne, 1998). What a holder has waiting is reckoned without hearing from the
 * reader: of what it had between the reader's last position and the end of the ring, as much is gone as the reader has moved on.
 * It is reckoned for EVENT_CREDIT records at a time; who has nothing left asks at every record, and pays no reservation. */
#pragma once

#include "config.h"
#include "metrics.h"

#define EVENT_QUIET_SHIFT 3 /* an eighth of the ring may wait before anybody is asked for a share */
#define EVENT_CREDIT 16 /* records per reckoning: it costs some 20 ns, too much for each */
#define EVENT_FACTOR 2
#define EVENT_RING_BYTES (sizeof(struct event) + BPF_RINGBUF_HDR_SZ)

NOINLINE int event_lost(__u32 type)
{
	__u64 *lost = bpf_map_lookup_elem(&weir_lost, &type);

	if (lost)
		__sync_fetch_and_add(lost, 1);
	return 0;
}

/* Who has caused it. At the hook of an endpoint that sends there is no doubt; else it is who conntrack and the addresses say,
 * and nobody of this node for what comes from another machine, whatever that claims. */
INLINE __u32 event_holder(const struct flow *f)
{
	if (f->hook_endpoint && !(f->flags & FLOW_INGRESS))
		return f->hook_endpoint & (EVENT_OUTSIDE - 1);
	if (!(f->flags & FLOW_NETWORK)) {
		if (f->source_endpoint)
			return f->source_endpoint & (EVENT_OUTSIDE - 1);
		if (!f->hook_endpoint || f->source_identity == IDENTITY_HOST)
			return 0;
	}
	return EVENT_OUTSIDE + (f->destination_endpoint & (EVENT_OUTSIDE - 1));
}

/* How many records `holder` may make now, at most EVENT_CREDIT; they count as made. CPUs that do this at once lose each other's
 * additions now and then, which the next reckoning mends. */
NOINLINE int event_credit(__u32 holder)
{
	struct event_share *share = bpf_map_lookup_elem(&weir_event_shares, &holder);
	__u64 position = bpf_ringbuf_query(&weir_events, BPF_RB_CONS_POS), waiting = bpf_ringbuf_query(&weir_events, BPF_RB_AVAIL_DATA);
	__u64 size = bpf_ringbuf_query(&weir_events, BPF_RB_RING_SIZE), held, span, limit;

	if (!share || waiting < size >> EVENT_QUIET_SHIFT)
		return EVENT_CREDIT;
	held = share->held;
	if (share->position != position) {
		/* Beyond the reader: the ring is another one. */
		span = position + waiting - share->position;
		held = share->position < position && held <= span ? held * waiting / span : 0;
		share->position = position;
	}
	limit = waiting < size ? EVENT_FACTOR * (size - waiting) : 0;
	limit = held < limit ? (limit - held + EVENT_RING_BYTES - 1) / EVENT_RING_BYTES : 0;
	if (limit > EVENT_CREDIT)
		limit = EVENT_CREDIT;
	share->held = held + limit * EVENT_RING_BYTES;
	return limit;
}

/* Room for a record that `holder` has caused, or null, which is counted. `atomic`: softirqs may interrupt. */
INLINE struct event *event_reserve(__u32 holder, __u32 type, int atomic)
{
	struct event_counts *counts = bpf_map_lookup_elem(&weir_event_counts, &holder);
	struct event *event = 0;
	__u32 credit;

	if (!counts)
		return 0;
	credit = counts->credit;
	if (unlikely(!credit))
		credit = event_credit(holder);
	if (likely(credit)) {
		counts->credit = credit - 1;
		event = bpf_ringbuf_reserve(&weir_events, sizeof(*event), 0);
		if (!event)
			__sync_fetch_and_add(&counts->lost, 1);
		else if (atomic)
			__sync_fetch_and_add(&counts->made, 1);
		else
			counts->made++;
	} else {
		__sync_fetch_and_add(&counts->refused, 1);
	}
	if (unlikely(!event))
		event_lost(type & (LOST_MAX - 1));
	return event;
}

/* Reading the clock costs some 30 ns, a tenth of a denial. So in a flood records share a reading: none while they come slower than one
 * in EVENT_CLOCK_NS, then one, three, and EVENT_CLOCK_SHARED, never beyond the tick in which it was read. Times are exact when few
 * packets come; in a flood they are late by a few microseconds, and by a tick at most for what comes as it ends. */
#define EVENT_CLOCK_SHARED 7
#define EVENT_CLOCK_NS 12000

struct event_clock {
	__u64 time; /* ns, as it was read last */
	__u32 tick; /* jiffies then */
	__u16 left; /* records that may take it still, */
	__u16 shared; /* of so many */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct event_clock);
	__uint(max_entries, 1);
} weir_event_clock SEC(".maps");

NOINLINE int event_clock_read(__u32 tick)
{
	__u32 zero = 0, shared;
	struct event_clock *clock = bpf_map_lookup_elem(&weir_event_clock, &zero);
	__u64 now = bpf_ktime_get_ns();

	if (!clock)
		return 0;
	shared = clock->shared;
	shared = now - clock->time < (shared + 1) * EVENT_CLOCK_NS ? 2 * shared + 1 : 0;
	if (shared > EVENT_CLOCK_SHARED)
		shared = EVENT_CLOCK_SHARED;
	clock->left = clock->shared = shared;
	clock->time = now;
	clock->tick = tick;
	return 0;
}

INLINE __u64 event_time(const struct flow *f)
{
	__u32 zero = 0;
	struct event_clock *clock;

	/* Not of programs that may be interrupted, nor of packets that were dropped before the tick was known. */
	if (unlikely((f->flags & FLOW_L3) || !f->now))
		return bpf_ktime_get_ns();
	clock = bpf_map_lookup_elem(&weir_event_clock, &zero);
	if (!clock)
		return bpf_ktime_get_ns();
	if (clock->left && clock->tick == f->now)
		clock->left--;
	else
		event_clock_read(f->now);
	return clock->time;
}

/* What came through the tunnel, as it says itself: `f->node` is where it came from. */
#define FLOW_FROM_TUNNEL (FLOW_TUNNEL | FLOW_NETWORK | FLOW_INGRESS)

/* Where a redirected flow goes. */
INLINE __u16 redirect_port(const struct flow *f)
{
	const struct config *config = config_get();

	return config && (f->redirect & ~REDIRECT_PASSED) ? config->proxy_port : 0;
}

/* What is on its way between a socket and the proxy has the handle's address where the server's is meant. */
INLINE void event_server(const struct flow *f, struct event *event)
{
	__u32 ipv6 = f->flags & FLOW_IPV6, from_server = f->flags & FLOW_INGRESS, length = ipv6 ? 16 : 4;
	const struct address *server = (f->source_hi != 0) == (from_server != 0) ? &f->key.hi : &f->key.lo;
	__u8 *at = event->payload + (ipv6 ? 8 : 12) + (from_server ? 0 : length), *ports = event->payload + (ipv6 ? 40 : 20);

	if (f->l4_offset != (ipv6 ? 40 : 20))
		return;
	if (ipv6)
		__builtin_memcpy(at, server, 16);
	else
		__builtin_memcpy(at, &server->words[3], 4);
	__builtin_memcpy(ports + (from_server ? 0 : 2), from_server ? &f->port_source : &f->port_destination, 2);
}

/* `what` is type | subtype << 8, and holder + 1 << 16 where that is not who sends; `place` is file << 16 | line. */
NOINLINE int event_emit(struct __sk_buff *skb, const struct flow *f, __u32 what, __u32 place)
{
	__u32 length = skb->len, holder;
	struct event *event;

	NEVER_NULL(f);
	holder = unlikely(what >> 16) ? (what >> 16) - 1 : event_holder(f);
	event = event_reserve(holder, what & 0xff, f->flags & FLOW_L3);
	if (!event)
		return 0;
	event->type = what;
	event->subtype = what >> 8;
	event->source_endpoint = f->source_endpoint;
	event->destination_endpoint = f->destination_endpoint;
	event->time = event_time(f);
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
	event->proxy_port = unlikely(f->redirect) ? redirect_port(f) : 0;
	event->hook_endpoint = f->hook_endpoint;
	event->service = f->service;
	event->holder = holder;
	event->pad2 = 0;
	event->vni = f->vni;
	if (unlikely((f->flags & FLOW_FROM_TUNNEL) == FLOW_FROM_TUNNEL && length >= EVENT_OUTER_OFFSET)) {
		length = EVENT_OUTER_OFFSET;
		if (bpf_skb_load_bytes(skb, 0, event->payload, EVENT_OUTER_OFFSET))
			length = 0;
	} else if (length >= EVENT_PAYLOAD_MAX) {
		length = EVENT_PAYLOAD_MAX;
		if (bpf_skb_load_bytes(skb, 0, event->payload, EVENT_PAYLOAD_MAX))
			length = 0;
	} else if (length > 0) {
		if (bpf_skb_load_bytes(skb, 0, event->payload, length))
			length = 0;
	}
	event->length_captured = length;
	if (unlikely(f->redirect & REDIRECT_SOCKET))
		event_server(f, event);
	if (unlikely((f->flags & FLOW_FROM_TUNNEL) == FLOW_FROM_TUNNEL)) {
		event->flags |= EVENT_TUNNEL;
		__builtin_memcpy(event->payload + EVENT_OUTER_OFFSET, &f->node, sizeof(f->node));
	}
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
	count(f->flags, DROP_REASON(code), f->flags & FLOW_INGRESS ? DIRECTION_INGRESS : DIRECTION_EGRESS, skb->len);
	if (endpoint) {
		counters = counters_get(endpoint);
		if (counters) {
			add(f->flags, &counters->dropped_packets, 1);
			add(f->flags, &counters->dropped_bytes, skb->len);
		}
	}
	event_emit(skb, f, EVENT_DROP | DROP_REASON(code) << 8, code >> 8);
	return SHOT;
}

INLINE void trace(struct __sk_buff *skb, const struct flow *f, __u32 point)
{
	event_emit(skb, f, EVENT_TRACE | point << 8, 0);
}
