/* Fragments that come before their datagram's first one.
 *
 * Without the first fragment nobody knows the ports, so nothing can be decided about a later one. It is held, as a copy in
 * weir_held, until the first one comes:
 *
 *   second ──▶ weir_held                     (the packet itself ends here, and is no drop yet)
 *   first  ──▶ somebody waits for it: first, then those that are held ──▶ backlog of the device that they came by
 *                                     MARK_FRAGMENT: in order now, neither held nor looked for again
 *   2 s later: what is still held is dropped (175), counted and reported, when its place is wanted or weir_gc runs
 *
 * What comes again is judged like any packet by the hook that held it: this file reorders, and decides nothing.
 *
 * Bounds. A sender has the 48 places of one group (a datagram of 64 KB, the other way round, at an MTU of 1500), by its endpoint's
 * number or, from outside, by the hash of its address; half of the groups are the endpoints'. So lone late fragments take no
 * place from another group, and never more than 64 * 48 in all. A full group means 175 at once, as without all this; so do frames longer than
 * HELD_BYTES. For comparison: Cilium drops each fragment that comes before its first one.
 *
 * Only at tc ingress: a frame is sent again by bpf_clone_redirect() into the device's backlog, so nothing runs inside the program that
 * does so. What the host's own stack sends (to_endpoint, to_overlay) is in order.
 *
 * A place belongs to who changes its state from HELD_FREE or HELD_FULL to HELD_BUSY. Two CPUs may see first and second at
 * the same time: the first is remembered before it looks for who waits, the second looks for the first after it is
 * held, so one of them sees the other. */
#pragma once

#include "events.h"
#include "ipv4.h"
#include "ipv6.h"
#include "sender.h"
#include "translate.h"

#define FILE_ID FILE_FRAGMENT

#define HELD_BYTES 1536
#define HELD_GROUPS 64
#define HELD_GROUP_PLACES 48
#define HELD_SECONDS 2

#define HELD_FREE 0
#define HELD_BUSY 1
#define HELD_FULL 2

struct held_fragment {
	__u32 state; /* HELD_* */
	__u32 made; /* jiffies */
	struct frag_key key;
	struct address node; /* of a packet from the tunnel: as its header says, which is lost when it is sent again */
	__u32 identity;
	__u32 ifindex;
	__u16 length;
	__u16 endpoint; /* whose hook held it; 0: a device's */
	__u16 flags; /* FLOW_*, as far as an event needs them */
	__u16 pad;
	__u8 bytes[HELD_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct held_fragment);
	__uint(max_entries, HELD_GROUPS * HELD_GROUP_PLACES);
} weir_held SEC(".maps");

/* How many a group holds: a first fragment looks at this only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, HELD_GROUPS);
} weir_held_groups SEC(".maps");

/* Who sent the fragments of a datagram through the tunnel, when they are sent again. */
struct held_origin {
	struct address node;
	__u32 identity;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct frag_key);
	__type(value, struct held_origin);
	__uint(max_entries, 1024);
} weir_held_origins SEC(".maps");

/* The group of who sent the packet of a hook. */
INLINE __u32 held_group(const struct flow *f)
{
	const struct address *from = flow_address(f, TRANSLATE_SOURCE);
	__u32 h;

	if (!(f->flags & FLOW_INGRESS))
		return f->hook_endpoint % (HELD_GROUPS / 2);
	h = from->words[0] ^ from->words[1] ^ from->words[2] ^ from->words[3];
	/* The finish of MurmurHash3, as in service.h: every bit counts. */
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return HELD_GROUPS / 2 + (h ^ h >> 16) % (HELD_GROUPS / 2);
}

/* The key of the packet's datagram, as its parser made it. True when it is a fragment. */
NOINLINE int held_key(struct __sk_buff *skb, const struct flow *f, struct frag_key *key)
{
	struct extensions x;
	__u16 id;

	NEVER_NULL(f);
	NEVER_NULL(key);
	key->source = *flow_address(f, TRANSLATE_SOURCE);
	key->destination = *flow_address(f, TRANSLATE_DESTINATION);
	if (f->flags & FLOW_IPV6) {
		__builtin_memset(&x, 0, sizeof(x));
		x.offset = ETHERNET_LENGTH + 40;
		if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 6, &x.protocol, 1) || ipv6_extensions(skb, &x, skb->len))
			return 0;
		key->id = x.id;
		return x.fragmented;
	}
	if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 4, &id, 2) ||
	    bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 9, &key->protocol, 1))
		return 0;
	key->id = id;
	return 1;
}

INLINE struct held_fragment *held_place(__u32 group, __u32 i)
{
	__u32 key = group * HELD_GROUP_PLACES + i;

	return bpf_map_lookup_elem(&weir_held, &key);
}

INLINE int held_expired(const struct held_fragment *held, __u32 now, __u32 hz)
{
	return now - held->made > HELD_SECONDS * hz;
}

INLINE int held_take(struct held_fragment *held, __u32 state)
{
	return __sync_val_compare_and_swap(&held->state, state, HELD_BUSY) == state;
}

INLINE void held_give(struct held_fragment *held, __u32 state)
{
	__sync_lock_test_and_set(&held->state, state);
}

INLINE void held_count(__u32 group, int change)
{
	__u32 *count = bpf_map_lookup_elem(&weir_held_groups, &group);

	if (count)
		__sync_fetch_and_add(count, change);
}

/* Its first one never came: the drop that was put off. The place is the caller's. Additions are atomic, for weir_gc is
 * interrupted. */
NOINLINE int held_lost(const struct held_fragment *held)
{
	__u32 key = DROP_FRAG_NOT_FOUND << 2, endpoint, length, i;
	struct endpoint_counters *counters;
	struct metric *metric;
	struct event *event;

	NEVER_NULL(held);
	endpoint = held->endpoint;
	length = held->length;
	key |= endpoint ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	metric = bpf_map_lookup_elem(&weir_metrics, &key);
	if (metric) {
		__sync_fetch_and_add(&metric->packets, 1);
		__sync_fetch_and_add(&metric->bytes, length);
	}
	counters = endpoint ? counters_get(endpoint) : 0;
	if (counters) {
		__sync_fetch_and_add(&counters->dropped_packets, 1);
		__sync_fetch_and_add(&counters->dropped_bytes, length);
	}
	event = event_reserve(endpoint ? endpoint & (EVENT_OUTSIDE - 1) : EVENT_OUTSIDE, EVENT_DROP, 1);
	if (!event)
		return 0;
	__builtin_memset(event, 0, offsetof(struct event, payload));
	event->type = EVENT_DROP;
	event->subtype = DROP_FRAG_NOT_FOUND;
	event->source_endpoint = endpoint;
	event->hook_endpoint = endpoint;
	event->holder = endpoint ? endpoint : EVENT_OUTSIDE;
	event->time = bpf_ktime_get_ns();
	event->source_identity = held->identity;
	event->ifindex = held->ifindex;
	event->length_original = length;
	event->length_captured = length < EVENT_PAYLOAD_MAX ? length : EVENT_PAYLOAD_MAX;
	event->line = __LINE__;
	event->file = FILE_ID;
	event->reason = REASON_UNKNOWN;
	event->flags = (held->flags & FLOW_IPV6) | (endpoint ? 0 : EVENT_INGRESS);
	event->protocol = held->key.protocol;
	for (i = 0; i < EVENT_PAYLOAD_MAX / 8; i++)
		((__u64 *)event->payload)[i] = ((const __u64 *)held->bytes)[i];
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Both bounds on the number itself: clang makes one comparison of them, on a copy from which the lower one is taken off
 * (`w2 = w4; w2 += -34; if w2 > 1502`), and the verifier does not learn from it about the number. */
#define HELD_LENGTH_CHECK(length)                                                                              \
	do {                                                                                                   \
		if ((length) < ETHERNET_LENGTH + 20)                                                           \
			return 0;                                                                              \
		asm volatile("" : "+r"(length));                                                               \
		if ((length) > HELD_BYTES)                                                                     \
			return 0;                                                                              \
	} while (0)

/* Holds a later fragment. True when it is held. */
NOINLINE int held_put(struct __sk_buff *skb, const struct flow *f, const struct frag_key *key, __u32 group)
{
	const struct config *config = config_get();
	__u32 now = jiffies(), length = skb->len, i, state;
	struct held_fragment *held = 0;

	if (!f || !key || !config)
		return 0;
	HELD_LENGTH_CHECK(length);
	for (i = 0; i < HELD_GROUP_PLACES; i++) {
		held = held_place(group, i);
		if (!held)
			return 0;
		state = READ_ONCE(held->state);
		if (state != HELD_FREE && (state != HELD_FULL || !held_expired(held, now, config->hz)))
			continue;
		if (held_take(held, state))
			break;
	}
	if (i == HELD_GROUP_PLACES || !held)
		return 0;
	if (state == HELD_FULL)
		held_lost(held);
	else
		held_count(group, 1);
	held->made = now;
	held->key = *key;
	held->node = f->node;
	held->identity = f->source_identity;
	held->ifindex = skb->ifindex;
	held->length = length;
	held->endpoint = f->flags & FLOW_INGRESS ? 0 : f->hook_endpoint;
	held->flags = f->flags;
	held->pad = 0;
	if (bpf_skb_load_bytes(skb, 0, held->bytes, length)) {
		held_give(held, HELD_FREE);
		held_count(group, -1);
		return 0;
	}
	held_give(held, HELD_FULL);
	return 1;
}

/* Sends the packet to its device once more. */
INLINE int held_again(struct __sk_buff *skb)
{
	skb->mark = MARK_FRAGMENT;
	return bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) == 0;
}

/* The packet becomes the one that is held, and is sent again. */
NOINLINE int held_send(struct __sk_buff *skb, struct held_fragment *held)
{
	__u32 length;

	NEVER_NULL(held);
	length = held->length;
	HELD_LENGTH_CHECK(length);
	if (bpf_skb_change_tail(skb, length, 0) || bpf_skb_store_bytes(skb, 0, held->bytes, length, BPF_F_RECOMPUTE_CSUM))
		return 0;
	return held_again(skb);
}

/* The ports are known: those that wait for them are sent again, behind the packet itself if that is the first one (`first`). True
 * when there were any: the packet is used up. */
NOINLINE int held_release(struct __sk_buff *skb, const struct flow *f, const struct frag_key *key, __u32 group, __u32 first)
{
	const struct config *config = config_get();
	struct held_fragment *held;
	struct held_origin origin = {};
	__u32 now = jiffies(), i, released = 0;

	if (!f || !key || !config)
		return 0;
	for (i = 0; i < HELD_GROUP_PLACES; i++) {
		held = held_place(group, i);
		if (!held)
			break;
		if (READ_ONCE(held->state) != HELD_FULL || held->key.id != key->id || held_expired(held, now, config->hz) ||
		    !held_take(held, HELD_FULL))
			continue;
		if (held->key.id != key->id || held->key.protocol != key->protocol || !same_address(&held->node, &f->node) ||
		    held->identity != f->source_identity ||
		    held->key.source.halves[0] != key->source.halves[0] ||
		    held->key.source.halves[1] != key->source.halves[1] ||
		    held->key.destination.halves[0] != key->destination.halves[0] ||
		    held->key.destination.halves[1] != key->destination.halves[1]) {
			held_give(held, HELD_FULL);
			continue;
		}
		if (!released) {
			if (f->flags & FLOW_TUNNEL) {
				origin.node = f->node;
				origin.identity = f->source_identity;
				bpf_map_update_elem(&weir_held_origins, key, &origin, BPF_ANY);
			}
			released = !first || held_again(skb);
			if (!released) {
				skb->mark = 0;
				held_give(held, HELD_FULL);
				return 0;
			}
		}
		if (!held_send(skb, held))
			held_lost(held);
		held_give(held, HELD_FREE);
		held_count(group, -1);
	}
	return released;
}

/* See fragment_waits(). */
NOINLINE int fragment_order(struct __sk_buff *skb, const struct flow *f, __u32 late)
{
	struct frag_key key = {};
	struct frag_ports ports = {};
	__u32 group, *count;

	NEVER_NULL(f);
	if (skb->mark == MARK_FRAGMENT) {
		skb->mark = 0;
		return 0;
	}
	if ((f->flags & (FLOW_RELATED | FLOW_FRAGMENT)) || !held_key(skb, f, &key))
		return 0;
	group = held_group(f);
	if (!late) {
		count = bpf_map_lookup_elem(&weir_held_groups, &group);
		return count && READ_ONCE(*count) && held_release(skb, f, &key, group, 1);
	}
	if (!held_put(skb, f, &key, group))
		return 0;
	/* Has its first one come by another CPU in the meantime, and not seen it? */
	if (fragment_lookup(&key, &ports))
		held_release(skb, f, &key, group, 0);
	return 1;
}

/* Who sent a fragment that comes again, and from which node. 0 or a drop. */
NOINLINE int held_source(struct __sk_buff *skb, struct flow *f)
{
	struct held_origin *origin;
	struct frag_key key = {};

	if (!f || !held_key(skb, f, &key))
		return DROPPED(DROP_NO_TUNNEL_KEY);
	origin = bpf_map_lookup_elem(&weir_held_origins, &key);
	if (!origin)
		return DROPPED(DROP_NO_TUNNEL_KEY);
	f->node = origin->node;
	f->source_identity = origin->identity;
	f->vni = wire_identity(origin->identity);
	return 0;
}

INLINE int fragment_matters(const struct flow *f, int code)
{
	return unlikely((f->flags & (FLOW_FIRST_FRAGMENT | FLOW_FRAGMENT)) || DROP_REASON(code) == DROP_FRAG_NOT_FOUND);
}

/* For hooks at tc ingress, after the packet was parsed (`code`) and its sender is known. True: it is held, or was sent again behind
 * others, and ends here without having been dropped. */
INLINE int fragment_waits(struct __sk_buff *skb, const struct flow *f, int code)
{
	__u32 late = DROP_REASON(code) == DROP_FRAG_NOT_FOUND;

	return fragment_matters(f, code) && (late || !code) && fragment_order(skb, f, late);
}
#undef FILE_ID
