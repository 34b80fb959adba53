/* UDP flows that the proxy judges, in conntrack. There is no stream that would have to go on as it began, so policy says with each of the
 * client's datagrams anew whether the flow is the proxy's. What the other end answered to what was asked otherwise ends here, and the client
 * asks again. Only what an endpoint with a device asks is redirected (REDIRECT_EGRESS). */
#pragma once

#include "conntrack.h"
#include "handle.h"
#include "metrics.h"

#define FILE_ID FILE_REDIRECT_DATAGRAM

/* Is it on its way from the proxy to the server, by its client's own device? */
INLINE void datagram_onward(struct __sk_buff *skb, struct flow *f)
{
	if (skb->mark != MARK_ONWARD || (f->flags & (FLOW_INGRESS | FLOW_L3)))
		return;
	skb->mark = 0;
	f->redirect |= REDIRECT_PASSED;
}

/* redirect_judge() of UDP. `e`: the flow's entry, when it is alive; it becomes redirected, or direct. 0 or a drop. */
NOINLINE int datagram_judge(struct __sk_buff *skb, struct flow *f, struct ct_entry *e, const struct peer *source,
			    const struct peer *destination)
{
	const struct config *config = config_get();
	struct arrival *a = arrival_get();
	__u32 reply;
	int code;

	if (!f || !source || !destination || !config || !a)
		return DROPPED(DROP_PROXY_LOOKUP_FAILED);
	datagram_onward(skb, f);
	reply = e && f->source_hi != (e->flags & CT_ORIGIN_HI);
	if (e && (e->flags & CT_REDIRECT)) {
		/* What a router or the server says about what was asked is for the client, which may ask elsewhere. */
		if ((f->flags & FLOW_RELATED) && reply)
			return 0;
		if (reply || (f->redirect & (REDIRECT_EGRESS | REDIRECT_PASSED)) ||
		    (f->flags & (FLOW_RELATED | FLOW_INGRESS | FLOW_L3))) {
			f->redirect |= REDIRECT_FLOW;
			return 0;
		}
		e->flags &= ~CT_REDIRECT;
		e->handle = 0;
		f->redirect = 0;
		return 0;
	}
	if (f->redirect & REDIRECT_PASSED)
		return DROPPED(DROP_HANDLE_GONE);
	if (f->flags & FLOW_RELATED)
		return 0;
	if (f->redirect & REDIRECT_INGRESS)
		return DROPPED(DROP_PROXY_UNKNOWN_PROTO);
	/* Sockets of a cgroup, and what comes through the host's stack. */
	if (!config->proxy_port || (!reply && (f->flags & (FLOW_INGRESS | FLOW_L3 | FLOW_STACK))) ||
	    !(f->flags & FLOW_IPV6 ? config->handle_ipv6 : config->handle_mask_ipv4))
		return DROPPED(DROP_PROXY_LOOKUP_FAILED);
	if (reply)
		return DROPPED(DROP_DIRECT_CONNECTION);
	if (e && (e->flags & CT_REPLY_NAT) && !(f->flags & FLOW_SERVICE)) {
		a->frontend = e->translated;
		a->port = e->translated_port;
	}
	f->redirect |= REDIRECT_FLOW;
	code = handle_take(f, source, destination, &a->frontend, a->port, &a->handle);
	if (code || !e)
		return code;
	e->handle = a->handle;
	e->flags |= CT_REDIRECT;
	return 0;
}

/* Nobody knows who has begun a UDP flow, for its entry may be gone, or somebody else speaks first. Is `other`, who seems not to have, one who may
 * ask only through the proxy, and so is to be looked at as who has? (As in decide_turned().) */
INLINE int datagram_turned(const struct flow *f, const struct ct_entry *e, const struct peer *other)
{
	const struct policy_slot *slot;
	__u32 policy = other->policy;

	if (f->key.protocol != PROTOCOL_UDP || !other->endpoint || !policy || (f->flags & FLOW_RELATED) ||
	    (e && (e->flags & CT_REDIRECT)))
		return 0;
	slot = bpf_map_lookup_elem(&weir_policy_slots, &policy);
	return slot && slot->directions[POLICY_EGRESS].flags & POLICY_DIRECTION_REDIRECTS;
}

/* After the entry has learned what policy says now: a flow that is not to be redirected any more is judged again, until its client asks. */
INLINE void datagram_noted(const struct flow *f, struct ct_entry *e)
{
	if (f->key.protocol == PROTOCOL_UDP && !(f->redirect & REDIRECT_EGRESS))
		WRITE_ONCE(e->ends[0].revision, e->ends[0].revision - 1);
}

/* A datagram of a redirected flow is allowed. No handle waits long for what was answered: a resolver takes a port for each question. */
INLINE void datagram_lives(struct ct_entry *e, const struct flow *f, const struct config *config)
{
	__u32 waits = e->traffic[0].packets > e->traffic[1].packets;

	e->expires = f->now + (waits ? config->timeout_unanswered : config->timeout_closing) * config->hz;
}

/* What goes on to the server is no more that the client has sent: from_endpoint counts it, and has counted what the proxy was asked. */
INLINE void datagram_uncount(struct __sk_buff *skb, const struct flow *f)
{
	struct endpoint_counters *counters;

	if (!(f->redirect & REDIRECT_PASSED) || (f->flags & FLOW_INGRESS))
		return;
	counters = counters_get(f->hook_endpoint);
	if (!counters)
		return;
	counters->tx_packets--;
	counters->tx_bytes -= skb->len;
}
#undef FILE_ID
