/* The state of a flow, and how long it is remembered. */
#pragma once

#include "config.h"
#include "flow.h"
#include "share.h"

/* An entry of zeros, to be filled and inserted: for programs that run with softirqs off (see maps.h). */
INLINE struct ct_entry *ct_new(void)
{
	__u32 zero = 0;
	struct ct_entry *e = bpf_map_lookup_elem(&weir_ct_new, &zero);

	if (likely(e))
		__builtin_memset(e, 0, sizeof(*e));
	return e;
}

/* The same for programs that may be interrupted. Given back by ct_release(). */
INLINE struct ct_claim *ct_claim(void)
{
	struct ct_claim *claim;
	__u32 i;

	for (i = 0; i < CT_CLAIMS_MAX; i++) {
		__u32 key = i;

		claim = bpf_map_lookup_elem(&weir_ct_claims, &key);
		if (claim && !__sync_val_compare_and_swap(&claim->taken, 0, 1)) {
			__builtin_memset(&claim->entry, 0, sizeof(claim->entry));
			return claim;
		}
	}
	return 0;
}

INLINE void ct_release(struct ct_claim *claim)
{
	__sync_lock_test_and_set(&claim->taken, 0);
}

INLINE int ct_alive(const struct ct_entry *e, const struct flow *f)
{
	return (__s32)(e->expires - f->now) > 0;
}

INLINE int is_bare_syn(const struct flow *f)
{
	return (f->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !(f->flags & FLOW_RELATED);
}

/* Of a live flow, and neither opens nor ends one, nor is an error about one. */
INLINE int ct_plain(const struct ct_entry *e, const struct flow *f)
{
	return e && ct_alive(e, f) && !(f->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)) &&
	       !(f->flags & (FLOW_ERROR | FLOW_RELATED));
}

/* Both ends have spoken; TCP: and the handshake is over. */
INLINE int ct_answered(const struct ct_entry *e, __u8 protocol)
{
	__u32 wanted = protocol == PROTOCOL_TCP ? CT_SEEN_REPLY | CT_SEEN_NON_SYN : CT_SEEN_REPLY;

	return (e->flags & wanted) == wanted;
}

INLINE __u32 ct_timeout(const struct ct_entry *e, const struct flow *f, const struct config *config)
{
	/* What was never answered lives short, whoever sends how much of it. */
	if (f->key.protocol != PROTOCOL_TCP)
		return e->flags & CT_SEEN_REPLY ? config->timeout_other : config->timeout_unanswered;
	if ((e->flags & CT_CLOSING_FORWARD) && (e->flags & CT_CLOSING_REVERSE))
		return config->timeout_closing;
	/* One in mid-stream, of before the node knew it, is answered soon enough. */
	return ct_answered(e, PROTOCOL_TCP) ? config->timeout_tcp : config->timeout_syn;
}

/* Is the quoted packet one that its sender may still wait for? Within 16 MB of what it sent last; ahead of that too, for it may
 * have sent something again. (Its socket looks at the whole number.) */
INLINE int sequence_near(__u16 sent, const struct flow *f)
{
	return (__u16)(f->sequence - sent + 256) <= 512;
}

/* Somebody still speaks after a RST: it was none to the sockets (reset.h cannot always know). The flow is as if there had
 * been none. */
INLINE __u32 ct_revive(struct ct_entry *e, __u32 flags)
{
	e->tcp_flags[0] &= ~TCP_RST;
	e->tcp_flags[1] &= ~TCP_RST;
	flags &= ~(CT_CLOSING_FORWARD | CT_CLOSING_REVERSE);
	if (e->tcp_flags[0] & TCP_FIN)
		flags |= CT_CLOSING_FORWARD;
	if (e->tcp_flags[1] & TCP_FIN)
		flags |= CT_CLOSING_REVERSE;
	return flags;
}

/* Notes flags and lifetime (not of an ICMP error: that is no sign of life of its flow).
 * `reply`: 1 if the packet goes against the flow, else 0; `ingress`: on the way to an endpoint. True when an event is due.
 *
 * The entry is written only when something changed, lifetimes at most once a second: a line that both directions'
 * CPUs only read is not passed between them. */
INLINE int ct_touch(struct ct_entry *e, const struct flow *f, const struct config *config, __u32 reply,
		    const __u32 ingress)
{
	__u8 seen = f->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST);
	__u32 report = 0, flags = e->flags, expires;
	__s32 gain;

	if (f->tcp_flags) {
		__u8 *known = reply ? &e->tcp_flags[1] : &e->tcp_flags[0];
		__u16 *sent = reply ? &e->sent[1] : &e->sent[0];

		/* Every 64 KB, by who really sends: what comes from elsewhere is only claimed. */
		if (!ingress && unlikely(*sent != f->sequence))
			*sent = f->sequence;
		if (unlikely(seen & ~*known)) {
			*known |= seen;
			report = 1;
		}
		if (seen != TCP_SYN)
			flags |= CT_SEEN_NON_SYN;
		if (unlikely(seen & TCP_FIN))
			flags |= reply ? CT_CLOSING_REVERSE : CT_CLOSING_FORWARD;
		if (unlikely(seen & TCP_RST))
			flags |= CT_CLOSING_REVERSE | CT_CLOSING_FORWARD;
		else if (unlikely(flags & CT_CLOSING_REVERSE) && ((e->tcp_flags[0] | e->tcp_flags[1]) & TCP_RST))
			flags = ct_revive(e, flags);
	}
	if (reply)
		flags |= CT_SEEN_REPLY;
	else if (unlikely(!(flags & CT_SEEN_REPLY)) && (!ingress || !e->ends[0].endpoint) && e->sent[1] < TRIES_MAX)
		e->sent[1]++;
	if (flags != e->flags)
		e->flags = flags;
	expires = f->now + ct_timeout(e, f, config) * config->hz;
	gain = (__s32)(expires - e->expires);
	if (gain > (__s32)config->hz || gain < 0)
		e->expires = expires;
	if (report || config->aggregation < 3 ||
	    f->now - (reply ? e->reported[1] : e->reported[0]) >= config->report_interval * config->hz) {
		if (reply)
			e->reported[1] = f->now;
		else
			e->reported[0] = f->now;
		return 1;
	}
	return 0;
}

/* Counts a packet that is to be cut into segments: each has a copy of the headers. */
NOINLINE int ct_count_segments(struct __sk_buff *skb, const struct flow *f, struct ct_entry *e, __u32 reply)
{
	__u32 link, headers, segments, length;
	__u8 offset = 0x20;

	NEVER_NULL(f);
	NEVER_NULL(e);
	link = f->flags & FLOW_L3 ? 0 : ETHERNET_LENGTH;
	headers = (f->l4_offset ?: link + (f->flags & FLOW_IPV6 ? 40 : 20)) - link;
	if (f->protocol == PROTOCOL_TCP && bpf_skb_load_bytes(skb, link + headers + 12, &offset, 1))
		offset = 0x50;
	/* (Read behind the call: the stack has no room for them.) */
	headers += (offset >> 4) * 4;
	length = skb->len - link;
	segments = skb->gso_segs;
	/* A VM says only how large they are. */
	if (!segments && skb->gso_size && length > headers)
		segments = (length - headers + skb->gso_size - 1) / skb->gso_size;
	if (!segments)
		segments = 1;
	e->traffic[reply & 1].packets += segments;
	e->traffic[reply & 1].bytes += length + (segments - 1) * headers;
	return 0;
}

/* Counts a packet that passes: once, where it comes from an end here, else on its way to the one here. `link`: bytes before its IP
 * header. */
INLINE void ct_count(struct __sk_buff *skb, const struct flow *f, struct ct_entry *e, __u32 reply, const __u32 link)
{
	struct ct_traffic *traffic = &e->traffic[reply];

	if (unlikely(skb->gso_size)) {
		ct_count_segments(skb, f, e, reply);
		return;
	}
	traffic->packets++;
	traffic->bytes += skb->len - link;
}

/* A new flow's entry, its ends still to be filled. */
INLINE void ct_init(struct ct_entry *e, const struct flow *f, const struct config *config)
{
	__u8 seen = f->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST);

	e->flags = f->source_hi ? CT_ORIGIN_HI : 0;
	e->tcp_flags[0] = seen;
	e->tcp_flags[1] = 0;
	e->sent[0] = f->flags & FLOW_INGRESS ? 0 : f->sequence;
	e->sent[1] = 0;
	if (f->tcp_flags && seen != TCP_SYN)
		e->flags |= CT_SEEN_NON_SYN;
	if (seen & TCP_FIN)
		e->flags |= CT_CLOSING_FORWARD;
	if (seen & TCP_RST)
		e->flags |= CT_CLOSING_FORWARD | CT_CLOSING_REVERSE;
	e->expires = f->now + ct_timeout(e, f, config) * config->hz;
	e->created = f->now;
	e->reported[0] = f->now;
	/* long ago: the first answer is reported */
	e->reported[1] = f->now - (config->report_interval + 1) * config->hz;
	e->policy_port = f->policy_port;
	__builtin_memset(e->traffic, 0, sizeof(e->traffic));
	e->told = 0;
	e->told_at = 0;
}
