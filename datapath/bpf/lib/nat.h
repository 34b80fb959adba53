/* Pairs of weir_nat: a flow whose source (and, for services, destination too) is another one beyond this node. Knows
 * tuples, not packets, so that every hook may use it.
 *
 *   packet as it arrives ──key──▶ entry: as it leaves          (of who opened the flow)
 *   answer as it arrives ──key──▶ entry: as it leaves          (NAT_REVERSE; its key is the other's entry, turned round)
 *
 * Both entries live and end together. A port is taken when its reverse entry could be inserted: that is the lock.
 */
#pragma once

#include "config.h"
#include "flow.h"
#include "service.h"
#include "share.h"

#define NAT_LEAPS 192 /* tries of a port anywhere in the range, */
#define NAT_TRIES 256 /* and in all: with one port in twenty free one search in 100,000 fails */
#define NAT_ACK TCP_ACK /* in tcp_flags: seen at all, whatever the protocol */
#define NAT_STREAM 32 /* in tcp_flags[0], not TCP: the opener went on after an answer */
#define NAT_HOST_PORTS_SHIFT 3 /* of the ports: the first eighth is for the node's own */

/* Working memory of one packet, per CPU: programs of devices run with softirqs off. What is in here is not on the stack,
 * whose 512 bytes a chain of calls shares. */
struct nat_scratch {
	struct nat_key key; /* the packet as it arrives */
	struct nat_entry entry; /* as it shall leave; port_source is the port that it would like */
	struct nat_key back;
	struct nat_entry answer;
	struct flow flow;
	struct frontend frontend; /* that it is for */
	struct service_client client; /* who asks for it */
	struct address node; /* whose backends alone may serve the frontend; zero: everybody's */
	__u32 endpoint; /* who gets the packet after translation; 0: nobody of this node's endpoints */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_scratch);
	__uint(max_entries, 1);
} weir_nat_scratch SEC(".maps");

INLINE struct nat_scratch *nat_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weir_nat_scratch, &zero);
}

/* The key of the other entry of a pair. */
INLINE void nat_turn(struct nat_key *key, const struct nat_entry *e, __u8 protocol)
{
	key->source = e->destination;
	key->destination = e->source;
	key->port_source = e->port_destination;
	key->port_destination = e->port_source;
	key->protocol = protocol;
	key->pad[0] = 0;
	key->pad[1] = 0;
	key->pad[2] = 0;
}

INLINE int nat_alive(const struct nat_entry *e, __u32 now)
{
	return (__s32)(e->expires - now) > 0;
}

INLINE struct nat_entry *nat_find(const struct nat_key *key, __u32 now)
{
	struct nat_entry *e = bpf_map_lookup_elem(&weir_nat, key);

	return e && nat_alive(e, now) ? e : 0;
}

INLINE int nat_closing(const struct nat_entry *e)
{
	return ((e->tcp_flags[0] | e->tcp_flags[1]) & TCP_RST) || (e->tcp_flags[0] & e->tcp_flags[1] & TCP_FIN);
}

/* TCP: the handshake is over. */
INLINE int nat_answered(const struct nat_entry *e)
{
	if (e->flags & NAT_DSR)
		return (e->tcp_flags[0] & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	/* The opener's first packet that is not a bare SYN, and any answer */
	return (e->tcp_flags[0] & TCP_ACK) && e->tcp_flags[1];
}

INLINE __u32 nat_timeout(const struct nat_entry *e, __u8 protocol, const struct config *config)
{
	if (protocol != PROTOCOL_TCP) {
		/* One question, one answer: a resolver is asked thousands of those, each from a port of its own. */
		if (e->tcp_flags[1] && !(e->tcp_flags[0] & NAT_STREAM))
			return config->timeout_closing;
		return e->tcp_flags[1] || (e->flags & NAT_DSR) ? config->timeout_other : config->timeout_unanswered;
	}
	if (nat_closing(e))
		return config->timeout_closing;
	/* Answers go past this node: that the client has nothing more to say is all that it will know. */
	if ((e->flags & NAT_DSR) && (e->tcp_flags[0] & TCP_FIN))
		return config->timeout_syn;
	return nat_answered(e) ? config->timeout_tcp : config->timeout_syn;
}

/* The other entry of the pair learns flags and lifetime. */
NOINLINE int nat_share(const struct nat_entry *e, __u32 protocol)
{
	struct nat_entry *other;
	struct nat_key key;

	NEVER_NULL(e);
	nat_turn(&key, e, protocol);
	other = bpf_map_lookup_elem(&weir_nat, &key);
	if (!other)
		return 0;
	other->tcp_flags[0] = e->tcp_flags[0];
	other->tcp_flags[1] = e->tcp_flags[1];
	other->expires = e->expires;
	return 0;
}

/* Notes flags and lifetime in both entries, at most once a second unless a new flag was seen. An error about a flow is
 * no sign of life of it: callers do not touch for those. */
INLINE void nat_touch(struct nat_entry *e, __u8 tcp_flags, __u8 protocol, const struct config *config, __u32 now)
{
	__u8 seen = protocol == PROTOCOL_TCP ? tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK) : NAT_ACK;
	__u8 *known = e->flags & NAT_REVERSE ? &e->tcp_flags[1] : &e->tcp_flags[0];
	__u32 expires;
	__s32 gain;
	int changed = 0;

	if (protocol != PROTOCOL_TCP && e->tcp_flags[1] && !(e->flags & NAT_REVERSE))
		seen |= NAT_STREAM;

	if (unlikely(seen & ~*known)) {
		*known |= seen;
		changed = 1;
	}
	/* As in ct_touch(): somebody still speaks after a RST. */
	if (unlikely((e->tcp_flags[0] | e->tcp_flags[1]) & TCP_RST) && seen == TCP_ACK && protocol == PROTOCOL_TCP) {
		e->tcp_flags[0] &= ~TCP_RST;
		e->tcp_flags[1] &= ~TCP_RST;
		changed = 1;
	}
	expires = now + nat_timeout(e, protocol, config) * config->hz;
	gain = (__s32)(expires - e->expires);
	if (likely(!changed && gain <= (__s32)config->hz && gain >= 0))
		return;
	e->expires = expires;
	nat_share(e, protocol);
}

/* Inserts an entry, and counts it. 0, or -1. */
NOINLINE int nat_insert(const struct nat_key *key, const struct nat_entry *e)
{
	struct nat_holders of;

	if (!key || !e)
		return -1;
	if (bpf_map_update_elem(&weir_nat, key, e, BPF_NOEXIST))
		return -1;
	nat_holders(key, e, &of);
	nat_held(&of, 1);
	return 0;
}

/* Deletes what is under a key, and counts it. */
NOINLINE int nat_remove(const struct nat_key *key)
{
	const struct nat_entry *e;
	struct nat_holders of;

	NEVER_NULL(key);
	e = bpf_map_lookup_elem(&weir_nat, key);
	if (!e)
		return 0;
	nat_holders(key, e, &of);
	if (!bpf_map_delete_elem(&weir_nat, key))
		nat_held(&of, -1);
	return 0;
}

/* Both entries go: the backend is dead, or a bare SYN opens the flow anew. */
NOINLINE int nat_delete(const struct nat_key *key)
{
	struct nat_entry *e;
	struct nat_key own, other;

	NEVER_NULL(key);
	own = *key;
	e = bpf_map_lookup_elem(&weir_nat, &own);
	if (!e)
		return 0;
	nat_turn(&other, e, own.protocol);
	nat_remove(&own);
	nat_remove(&other);
	return 0;
}

/* Does a socket of this node use the port towards who answers (`back`: an answer as it arrives)? */
#define NAT_SOCKET(ctx, back, length)                                                                                  \
	do {                                                                                                           \
		if ((back)->protocol == PROTOCOL_TCP)                                                                  \
			sk = bpf_skc_lookup_tcp(ctx, &tuple, length, BPF_F_CURRENT_NETNS, 0);                          \
		else                                                                                                   \
			sk = bpf_sk_lookup_udp(ctx, &tuple, length, BPF_F_CURRENT_NETNS, 0);                           \
	} while (0)

INLINE int nat_port_of_socket(void *ctx, const struct nat_key *back)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	if (back->protocol != PROTOCOL_TCP && back->protocol != PROTOCOL_UDP)
		return 0;
	if (back->source.halves[0] == 0 && back->source.words[2] == 0xffff0000u) {
		tuple.ipv4.saddr = back->source.words[3];
		tuple.ipv4.daddr = back->destination.words[3];
		tuple.ipv4.sport = back->port_source;
		tuple.ipv4.dport = back->port_destination;
		NAT_SOCKET(ctx, back, sizeof(tuple.ipv4));
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &back->source, 16);
		__builtin_memcpy(tuple.ipv6.daddr, &back->destination, 16);
		tuple.ipv6.sport = back->port_source;
		tuple.ipv6.dport = back->port_destination;
		NAT_SOCKET(ctx, back, sizeof(tuple.ipv6));
	}
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* Is the key somebody's? Who has let it expire more than a second ago has lost it: as weir_gc would have it. */
INLINE int nat_taken(const struct nat_key *key, __u32 now, __u32 hz)
{
	const struct nat_entry *e = bpf_map_lookup_elem(&weir_nat, key);

	return e && (__s32)(e->expires + hz - now) >= 0;
}

/* Takes the port of `s->back` if nobody has it. 1: taken; 0: somebody has it; -1: the table is full. */
INLINE int nat_take(struct nat_scratch *s, __u32 now, __u32 hz)
{
	struct nat_entry *e = bpf_map_lookup_elem(&weir_nat, &s->back);
	struct nat_key other;

	if (e) {
		if ((__s32)(e->expires + hz - now) >= 0)
			return 0;
		nat_turn(&other, e, s->back.protocol);
		nat_remove(&s->back);
		nat_remove(&other);
	}
	return nat_insert(&s->back, &s->answer) ? -1 : 1;
}

/* One try for a port of scratch's pair. As nat_take(). */
NOINLINE int nat_try(struct __sk_buff *skb, __u32 port)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 now = jiffies();

	if (!config || !s)
		return -1;
	s->back.port_destination = bpf_htons(port);
	/* The cheaper question first: most ports are free or a pair's. */
	return nat_taken(&s->back, now, config->hz) || nat_port_of_socket(skb, &s->back) ? 0 : nat_take(s, now, config->hz);
}

/* The ports that a pair may have: the node's own connections keep the first of the range, so that they find one whatever
 * others do. How many; the first into `min`. */
INLINE __u32 nat_ports(const struct config *config, const struct nat_entry *e, __u32 *min)
{
	__u32 span = (__u32)config->nat_port_max - config->nat_port_min + 1, own = span >> NAT_HOST_PORTS_SHIFT;

	*min = config->nat_port_min;
	if (e->share == SHARE_NODE && own)
		return own;
	*min += own;
	return span - own;
}

/* Finds a port: the packet's own if it is one that translated sources get, then by leaps of chance over the whole range, for who takes
 * many takes them in a row; at last one after the other, which finds any in a small range. */
INLINE int nat_search(struct __sk_buff *skb, struct nat_scratch *s, const struct config *config)
{
	__u32 min, span = nat_ports(config, &s->entry, &min), max = config->nat_port_max;
	__u32 port = bpf_ntohs(s->entry.port_source), start = bpf_get_prandom_u32(), i;
	__u32 chance = start;
	int taken = 0;

	if (port >= min && port <= max)
		taken = nat_try(skb, port);
	for (i = 0; i < NAT_TRIES && !taken; i++) {
		/* A linear congruential generator (Numerical Recipes): its upper bits are good enough, without 192 helper calls. */
		chance = chance * 1664525 + 1013904223;
		start = i < NAT_LEAPS ? (__u64)chance * span >> 32 : start + 1;
		taken = nat_try(skb, min + start % span);
	}
	s->entry.port_source = s->back.port_destination;
	return taken;
}

/* What both entries of scratch's pair have in common with every other; the port is still to be taken. */
INLINE void nat_begin(struct nat_scratch *s, const struct config *config, __u32 now, __u32 tcp_flags)
{
	__u8 protocol = s->key.protocol;

	s->entry.created = now;
	s->entry.tcp_flags[0] = protocol == PROTOCOL_TCP ? tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK) : NAT_ACK;
	s->entry.tcp_flags[1] = 0;
	s->entry.expires = now + nat_timeout(&s->entry, protocol, config) * config->hz;
	if (s->entry.flags & NAT_DSR)
		return;
	/* What an answer becomes: the packet as it arrived, turned round. */
	s->answer = s->entry;
	s->answer.flags |= NAT_REVERSE;
	s->answer.source = s->key.destination;
	s->answer.destination = s->key.source;
	s->answer.port_source = s->key.port_destination;
	s->answer.port_destination = s->key.port_source;
	nat_turn(&s->back, &s->entry, protocol);
}

/* The port is taken: the entry of who opened the flow. 0 when there is no room. */
INLINE int nat_finish(struct nat_scratch *s, __u32 now)
{
	if (!nat_insert(&s->key, &s->entry))
		return 1;
	/* Another CPU was faster with the same flow: its pair holds. What has expired gives way. */
	if (!nat_find(&s->key, now)) {
		nat_remove(&s->key);
		if (!nat_insert(&s->key, &s->entry))
			return 1;
	}
	nat_remove(&s->back);
	return nat_find(&s->key, now) != 0;
}

/* The one entry of a flow with DSR. 1, or 0 when there is no room. */
INLINE int nat_single(struct nat_scratch *s)
{
	if (!nat_insert(&s->key, &s->entry))
		return 1;
	nat_remove(&s->key);
	return !nat_insert(&s->key, &s->entry);
}

/* Makes the pair of scratch: `key` and `entry` are given but for lifetimes and flags seen. `search`: the source becomes this
 * node's, with a port that is free. 0, or a drop (without its place) when there is no port or no room, or not for its share.
 * Callers look the entry up then: another CPU may have made it. */
NOINLINE int nat_create(struct __sk_buff *skb, __u32 search, __u32 tcp_flags)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 now = jiffies(), min;

	if (!config || !s || config->nat_port_min > config->nat_port_max || !config->nat_port_min)
		return DROP_NAT_NO_MAPPING;
	nat_begin(s, config, now, tcp_flags);
	if (!nat_share_admits(&s->key, &s->entry, search ? nat_ports(config, &s->entry, &min) : 0))
		return DROP_NAT_SHARE;
	if (s->entry.flags & NAT_DSR)
		return nat_single(s) ? 0 : DROP_NAT_NO_MAPPING;
	/* SCTP's checksum covers the ports: they stay. */
	if ((search && s->key.protocol != PROTOCOL_SCTP ? nat_search(skb, s, config) : nat_take(s, now, config->hz)) != 1)
		return DROP_NAT_NO_MAPPING;
	return nat_finish(s, now) ? 0 : DROP_NAT_NO_MAPPING;
}
