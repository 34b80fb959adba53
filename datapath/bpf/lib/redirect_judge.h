/* Redirected flows in conntrack: which new ones become so, and what their packets change in it. See redirect.h. */
#pragma once

#include "conntrack.h"
#include "events.h"
#include "handle.h"
#include "redirect_datagram_judge.h"
#include "trouble.h"

#define FILE_ID FILE_REDIRECT

/* Who asks again has not been answered, or has forgotten the connection that there was: it is a new one. */
INLINE int redirect_begins(const struct flow *f, const struct ct_entry *e)
{
	return is_bare_syn(f) && f->source_hi == (e->flags & CT_ORIGIN_HI);
}

/* A direct connection that may not be: both ends hear so, and its entry need not be kept for what they say next. */
INLINE void redirect_ended(struct ct_entry *e, const struct flow *f, const struct config *config)
{
	e->tcp_flags[f->source_hi != (e->flags & CT_ORIGIN_HI)] |= TCP_RST;
	e->flags |= CT_CLOSING_FORWARD | CT_CLOSING_REVERSE;
	e->expires = f->now + config->timeout_closing * config->hz;
}

/* Policy allows the flow by way of the proxy (REDIRECT_EGRESS, REDIRECT_INGRESS), or its entry is redirected: may it? `e`: the entry, when
 * it is alive; if not, or when the flow begins anew (REASON_NEW), it gets a handle. Goes on to its end as it began, whatever policy says of the
 * proxy since. 0 or a drop. */
NOINLINE int redirect_judge(struct flow *f, struct ct_entry *e, const struct peer *client, const struct peer *server)
{
	const struct config *config = config_get();
	struct arrival *a;

	if (!f || !client || !server || !config)
		return DROPPED(DROP_PROXY_LOOKUP_FAILED);
	if (e && (e->flags & CT_REDIRECT)) {
		f->redirect |= REDIRECT_FLOW;
		return 0;
	}
	if (f->redirect & REDIRECT_PASSED)
		return DROPPED(DROP_HANDLE_GONE);
	/* Its socket has been given one. */
	if (f->redirect & REDIRECT_SOCKET)
		return 0;
	/* What it says is about a connection that is direct, and is reset with its next packet. */
	if (f->flags & FLOW_RELATED)
		return 0;
	/* The proxy would find itself in the middle of a request. */
	if (e && f->key.protocol == PROTOCOL_TCP && !redirect_begins(f, e)) {
		redirect_ended(e, f, config);
		return DROPPED(DROP_DIRECT_CONNECTION);
	}
	/* Sockets of a cgroup, and what the host passes on by devices that have no program for the answers. */
	if (!config->proxy_port || (f->flags & (FLOW_STACK | FLOW_L3)) ||
	    !(f->flags & FLOW_IPV6 ? config->handle_ipv6 : config->handle_mask_ipv4))
		return DROPPED(DROP_PROXY_LOOKUP_FAILED);
	if (f->key.protocol != PROTOCOL_TCP)
		return DROPPED(DROP_PROXY_UNKNOWN_PROTO);
	if (!e && !is_bare_syn(f))
		return DROPPED(DROP_DIRECT_CONNECTION);
	f->reason = REASON_NEW;
	f->redirect |= REDIRECT_FLOW;
	a = arrival_get();
	if (!a)
		return DROPPED(DROP_HANDLES_FULL);
	/* (One whose flow gets no entry after all is given back by weir_gc.) */
	return handle_take(f, client, server, &a->frontend, a->port, &a->handle);
}

/* What all redirected flows' packets have in common once they are allowed. */
INLINE void redirect_note(struct flow *f, __u32 reply)
{
	__u32 passed = f->redirect & REDIRECT_PASSED ? 1 : 0;

	f->redirect |= REDIRECT_FLOW;
	if (passed) {
		f->flags &= ~FLOW_STACK;
	} else {
		f->flags |= FLOW_STACK;
		/* The proxy knows the server by its own address. */
		f->flags &= ~FLOW_REPLY_NAT;
		/* (Has to_endpoint look again: the host, or who is behind it, answers an endpoint.) */
		if (f->key.protocol == PROTOCOL_UDP && (f->flags & (FLOW_INGRESS | FLOW_RELATED)) == FLOW_INGRESS)
			f->flags |= FLOW_REPLY_NAT;
	}
	/* Its beginning and end are no business of the client's. */
	if (passed != reply && f->tcp_flags)
		f->tcp_flags = TCP_ACK;
}

/* A packet of a redirected flow that is allowed: counts, lifetime, events. */
NOINLINE int redirect_admitted(struct __sk_buff *skb, struct flow *f, struct ct_entry *e, __u32 reply)
{
	const struct config *config = config_get();
	__u32 passed, away, report;

	if (!f || !e || !config)
		return 0;
	if (f->key.protocol == PROTOCOL_UDP)
		datagram_onward(skb, f);
	passed = f->redirect & REDIRECT_PASSED ? 1 : 0;
	redirect_note(f, reply);
	if (!(f->flags & FLOW_INGRESS))
		f->node = e->node;
	if (passed != reply) {
		ct_touch(e, f, config, reply, 1);
		if (f->key.protocol == PROTOCOL_UDP) {
			datagram_lives(e, f, config);
			datagram_uncount(skb, f);
		}
		return 0;
	}
	/* It is what `passed` is, which clang knows and spills; the kernel has forgotten it then. */
	asm volatile("%0 &= 1" : "+r"(reply));
	ct_count(skb, f, e, reply, ETHERNET_LENGTH);
	/* The kernel's answer where nobody listens. */
	away = passed && (f->tcp_flags & TCP_RST) && !(e->flags & CT_SEEN_REPLY);
	report = ct_touch(e, f, config, reply, reply);
	if (f->key.protocol == PROTOCOL_UDP)
		datagram_lives(e, f, config);
	if (!report)
		return 0;
	f->policy_port = e->policy_port;
	if (away) {
		drop(skb, f, DROPPED(DROP_PROXY_AWAY));
		return 0;
	}
	if (passed)
		f->point = TRACE_FROM_PROXY;
	else
		f->point = TRACE_TO_PROXY;
	trace(skb, f, f->point);
	trouble_reset(skb, f, e, reply);
	return 0;
}

/* decide() has allowed a packet of a redirected flow. `e`: its entry as it was before, or null. */
NOINLINE int redirect_decided(struct __sk_buff *skb, struct flow *f, struct ct_entry *e)
{
	if (!f)
		return 0;
	if (f->reason == REASON_NEW || !e)
		redirect_note(f, 0);
	else if (f->reason == REASON_RELATED)
		redirect_note(f, f->source_hi != (e->flags & CT_ORIGIN_HI));
	else
		redirect_admitted(skb, f, e, f->reason == REASON_REPLY);
	return 0;
}
#undef FILE_ID
