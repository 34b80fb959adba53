/* Flows that wait for an answer, found by walking conntrack: after a second, and once more after ten. */
#include "lib/trouble.h"

#define UNANSWERED_AGAIN 10 /* s */
#define MADE_IPV4_BYTES 20
#define MADE_IPV6_BYTES 40

struct unanswered {
	__u32 now;
	__u32 hz;
	__u32 visited;
	__u32 waiting;
	__u32 found;
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

/* Headers as the flow's first packet had them; a constant offset each. */
INLINE __u32 unanswered_upper(__u8 *h, const struct ct_key *key, const struct ct_entry *e, __u16 from, __u16 to)
{
	if (key->protocol == PROTOCOL_ICMP || key->protocol == PROTOCOL_ICMPV6) {
		h[0] = e->policy_port;
		*(__u16 *)(h + 4) = from;
		return 8;
	}
	*(__u16 *)h = from;
	*(__u16 *)(h + 2) = to;
	if (key->protocol != PROTOCOL_TCP)
		return 8;
	h[12] = 0x50;
	h[13] = TCP_SYN;
	return 20;
}

INLINE void unanswered_headers(struct event *event, const struct ct_key *key, const struct ct_entry *e)
{
	int hi = e->flags & CT_ORIGIN_HI;
	const struct address *from = hi ? &key->hi : &key->lo, *to = hi ? &key->lo : &key->hi;
	__u16 port_from = hi ? key->port_hi : key->port_lo, port_to = hi ? key->port_lo : key->port_hi;
	__u8 *p = event->payload;

	__builtin_memset(p, 0, EVENT_PAYLOAD_MAX);
	if (is_mapped(from)) {
		p[0] = 0x45;
		p[8] = 64;
		p[9] = key->protocol;
		*(__u32 *)(p + 12) = from->words[3];
		*(__u32 *)(p + 16) = to->words[3];
		event->length_captured = MADE_IPV4_BYTES + unanswered_upper(p + MADE_IPV4_BYTES, key, e, port_from, port_to);
		p[3] = event->length_captured;
		event->flags = EVENT_L3;
	} else {
		p[0] = 0x60;
		p[6] = key->protocol;
		p[7] = 64;
		*(__u64 *)(p + 8) = from->halves[0];
		*(__u64 *)(p + 16) = from->halves[1];
		*(__u64 *)(p + 24) = to->halves[0];
		*(__u64 *)(p + 32) = to->halves[1];
		p[5] = unanswered_upper(p + MADE_IPV6_BYTES, key, e, port_from, port_to);
		event->length_captured = MADE_IPV6_BYTES + p[5];
		event->flags = EVENT_L3 | EVENT_IPV6;
	}
}

INLINE void unanswered_tell(const struct unanswered *u, const struct ct_key *key, const struct ct_entry *e, __u32 kind, __u32 holder)
{
	struct event *event = event_reserve(holder, EVENT_TROUBLE, 1);
	__u64 age = u->now - e->created;

	if (!event)
		return;
	event->type = EVENT_TROUBLE;
	event->subtype = kind;
	event->source_endpoint = e->ends[0].endpoint;
	event->destination_endpoint = e->ends[1].endpoint;
	event->time = bpf_ktime_get_ns();
	event->source_identity = e->ends[0].identity;
	event->destination_identity = e->ends[1].identity;
	event->ifindex = 0;
	event->length_original = age * 1000 / u->hz;
	event->line = 1 + (kind == TROUBLE_NO_ANSWER ? e->sent[1] : 0);
	event->file = 0;
	event->reason = REASON_NEW;
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
	unanswered_headers(event, key, e);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static long unanswered_entry(void *map, struct ct_key *key, struct ct_entry *e, struct unanswered *u)
{
	__u32 age = u->now - e->created, kind, holder;

	(void)map;
	u->visited++;
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
	return 0;
}
