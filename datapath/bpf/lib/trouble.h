/* What is wrong with flows that policy allows: nobody answers, the answer is a RST, an ICMP error says that nobody is there or that a
 * packet is too big, or who asked never confirms the answer.
 *
 *     packet ─▶ RST as the first answer, ICMP error ──┐
 *     weir_unanswered ─▶ entries that wait ───────────┴─▶ weir_troubles (exact), a record within a budget
 *
 * No established flow's packet comes by here: a RST and an error leave the fast path anyway, and who waits is found by walking
 * conntrack. Who scans half a network has thousands of flows in trouble: all are counted, TROUBLES_PER_SECOND of them make a record. */
#pragma once

#include "conntrack.h"
#include "events.h"
#include "l4.h"

/* Who has opened the flow: a holder as of events. */
INLINE __u32 trouble_holder(const struct ct_entry *e)
{
	if (e->ends[0].endpoint)
		return e->ends[0].endpoint & (EVENT_OUTSIDE - 1);
	if (e->ends[0].identity == IDENTITY_HOST)
		return 0;
	return EVENT_OUTSIDE + (e->ends[1].endpoint & (EVENT_OUTSIDE - 1));
}

INLINE void trouble_add(__u32 element, __u32 kind)
{
	struct troubles *troubles = bpf_map_lookup_elem(&weir_troubles, &element);

	if (troubles)
		__sync_fetch_and_add(&troubles->counts[kind & (TROUBLES_MAX - 1)], 1);
}

/* One flow more, at both ends. */
INLINE void trouble_count(const struct ct_entry *e, __u32 holder, __u32 kind)
{
	__u32 towards = EVENT_OUTSIDE + (e->ends[1].endpoint & (EVENT_OUTSIDE - 1));

	trouble_add(holder, kind);
	if (e->ends[1].endpoint && towards != holder)
		trouble_add(towards, kind);
}

/* May one more record be made of its flows, within this second? */
INLINE int trouble_budget(__u32 holder, __u32 now, __u32 hz)
{
	struct troubles *troubles = bpf_map_lookup_elem(&weir_troubles, &holder);

	if (!troubles)
		return 0;
	if (now - READ_ONCE(troubles->since) >= hz) {
		WRITE_ONCE(troubles->since, now);
		WRITE_ONCE(troubles->told, 0);
	}
	return __sync_fetch_and_add(&troubles->told, 1) < TROUBLES_PER_SECOND;
}

/* The packet itself says what is wrong. */
NOINLINE int trouble_packet(struct __sk_buff *skb, const struct flow *f, const struct ct_entry *e, __u32 kind)
{
	const struct config *config = config_get();
	__u32 holder;

	NEVER_NULL(f);
	NEVER_NULL(e);
	if (!config)
		return 0;
	holder = trouble_holder(e);
	trouble_count(e, holder, kind);
	if (trouble_budget(holder, f->now, config->hz))
		event_emit(skb, f, EVENT_TROUBLE | kind << 8 | (holder + 1) << 16, 0);
	return 0;
}

/* Called for packets that are reported: is this the first answer to a SYN, and a RST? */
INLINE void trouble_reset(struct __sk_buff *skb, const struct flow *f, const struct ct_entry *e, __u32 reply)
{
	if (unlikely(reply && (f->tcp_flags & TCP_RST) && e->tcp_flags[1] == TCP_RST && (e->tcp_flags[0] & TCP_SYN)))
		trouble_packet(skb, f, e, TROUBLE_REFUSED);
}

/* An ICMP error about a flow, which has been judged. That somebody is unreachable is told once of a flow, and is an answer. */
INLINE void trouble_error(struct __sk_buff *skb, const struct flow *f, struct ct_entry *e, __u32 type)
{
	if (f->flags & FLOW_TOO_BIG) {
		trouble_packet(skb, f, e, TROUBLE_TOO_BIG);
	} else if (type == (f->flags & FLOW_IPV6 ? ICMPV6_UNREACHABLE : ICMP_UNREACHABLE) && !(e->flags & CT_TOLD_AGAIN)) {
		e->flags |= CT_TOLD | CT_TOLD_AGAIN;
		trouble_packet(skb, f, e, TROUBLE_UNREACHABLE);
	}
}
