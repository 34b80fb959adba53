/* Tells an endpoint at once that the proxy cannot have its datagram: ICMP port unreachable, in the name of whom it asked. */
#pragma once

#include "refuse.h"

#define FILE_ID FILE_REFUSE

/* refuse() of UDP. What answers, or comes from the proxy or elsewhere, is dropped and no more. A verdict. */
NOINLINE int refuse_datagram(struct __sk_buff *skb, struct flow *f, __u32 code)
{
	struct address destination = {};
	const struct arrival *a;
	int verdict;

	if (!f)
		return SHOT;
	verdict = drop(skb, f, code);
	if ((!refused(code) && DROP_REASON(code) != DROP_PROXY_AWAY) || f->reason == REASON_REPLY || (f->redirect & REDIRECT_PASSED) ||
	    (f->flags & (FLOW_INGRESS | FLOW_RELATED | FLOW_ERROR | FLOW_FRAGMENT)))
		return verdict;
	if (f->flags & FLOW_SERVICE) {
		a = arrival_get();
		if (!a)
			return verdict;
		destination = a->frontend;
		if (translate(skb, f, TRANSLATE_DESTINATION, &destination, a->port))
			return verdict;
		destination.halves[0] = 0;
		destination.halves[1] = 0;
	}
	if (f->flags & FLOW_IPV6 ? reject_ipv6(skb, ICMPV6_PORT_UNREACHABLE, &destination) :
				   reject_ipv4(skb, ICMP_PORT_UNREACHABLE, 0))
		return verdict;
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}

/* Either, by what it is. (Inline: the stack has no room for one that calls the other.) */
INLINE int refuse_any(struct __sk_buff *skb, struct flow *f, __u32 code)
{
	return f->protocol == PROTOCOL_UDP ? refuse_datagram(skb, f, code) : refuse(skb, f, code);
}
#undef FILE_ID
