/* Only a datagram's first fragment has ports: it leaves them in weir_frag_senders for the others.
 *
 * A sender has FRAG_SLOTS places, of which the one that rests longest is taken, so whoever floods overwrites nobody else's: an
 * endpoint of this node has them alone, others share 1024 times as many by the hash of both addresses. A datagram's fragments
 * come one after the other, so that 16 at a time are enough (8 through a service, where each has two names); who mixes
 * more has lost those that rested (175).
 *
 * Several CPUs may write and read a place at once: `sequence` is odd while one writes, and a reader that sees it change has
 * found nothing. Who finds a writer at work lets it go on, and remembers nothing. */
#pragma once

#include "l4.h"
#include "metrics.h"
#include "share.h"

#define FILE_ID FILE_FRAGMENT

#define METRIC_FRAGMENTED 9
#define METRIC_FRAGMENT_UPDATE 10

/* Bytes behind the place where the upper layer begins that policy reads of it. */
INLINE __u32 fragment_header_bytes(__u8 protocol)
{
	return protocol == PROTOCOL_TCP ? 20 : protocol == PROTOCOL_SCTP ? 12 : 8;
}

#define FRAGMENT_SECONDS 30 /* no receiver waits longer for the rest (RFC 791, ip_frag.c) */

INLINE struct frag_sender *fragment_sender(const struct frag_key *key)
{
	const struct address_owner *owner = bpf_map_lookup_elem(&weir_addresses, &key->source);
	__u32 sender;

	if (owner && owner->endpoint)
		sender = owner->endpoint;
	else
		sender = ENDPOINTS_MAX + (share_hash(key->source.halves[0] ^ key->destination.halves[1],
						     key->source.halves[1] ^ key->destination.halves[0], 0) &
					  (FRAG_SENDERS - ENDPOINTS_MAX - 1));
	return bpf_map_lookup_elem(&weir_frag_senders, &sender);
}

INLINE int fragment_same(const struct frag_key *a, const struct frag_key *b)
{
	return a->id == b->id && a->protocol == b->protocol && a->source.halves[0] == b->source.halves[0] &&
	       a->source.halves[1] == b->source.halves[1] && a->destination.halves[0] == b->destination.halves[0] &&
	       a->destination.halves[1] == b->destination.halves[1];
}

/* What the datagram's first fragment has left: 1, and `ports` has it; 0: nothing. */
NOINLINE int fragment_lookup(const struct frag_key *key, struct frag_ports *ports)
{
	const struct config *config = config_get();
	struct frag_sender *sender;
	struct frag_slot *slot;
	__u32 sequence, i;

	NEVER_NULL(key);
	NEVER_NULL(ports);
	sender = fragment_sender(key);
	if (!sender || !config)
		return 0;
	for (i = 0; i < FRAG_SLOTS; i++) {
		slot = &sender->slots[i];
		if (READ_ONCE(slot->key.id) != key->id)
			continue;
		/* Atomic operations that return something are full barriers. */
		sequence = __sync_fetch_and_add(&slot->sequence, 0);
		if ((sequence & 1) || !fragment_same(&slot->key, key) || !slot->ports.protocol ||
		    jiffies() - slot->made > FRAGMENT_SECONDS * config->hz)
			continue;
		*ports = slot->ports;
		if (__sync_fetch_and_add(&slot->sequence, 0) != sequence)
			continue;
		WRITE_ONCE(slot->used, 1 + __sync_fetch_and_add(&sender->clock, 1));
		return 1;
	}
	return 0;
}

/* 0, or -1 when another CPU writes there. */
NOINLINE int fragment_keep(const struct frag_key *key, const struct frag_ports *ports)
{
	struct frag_sender *sender;
	struct frag_slot *slot;
	__u32 sequence, i, clock, at = 0, rest = 0;

	if (!key || !ports)
		return -1;
	sender = fragment_sender(key);
	if (!sender)
		return -1;
	clock = 1 + __sync_fetch_and_add(&sender->clock, 1);
	for (i = 0; i < FRAG_SLOTS; i++) {
		slot = &sender->slots[i];
		/* The same once more: another hook of its way */
		if (fragment_same(&slot->key, key)) {
			at = i;
			break;
		}
		if (clock - slot->used >= rest) {
			rest = clock - slot->used;
			at = i;
		}
	}
	slot = &sender->slots[at & (FRAG_SLOTS - 1)];
	sequence = READ_ONCE(slot->sequence);
	if ((sequence & 1) || __sync_val_compare_and_swap(&slot->sequence, sequence, sequence + 1) != sequence)
		return -1;
	slot->key = *key;
	slot->ports = *ports;
	slot->made = jiffies();
	slot->used = clock;
	__sync_fetch_and_add(&slot->sequence, 1);
	return 0;
}

/* `position`: of the fragment in what is fragmented, in bytes. One that begins inside the headers would put others in place of
 * those that policy has read (RFC 1858, RFC 3128, RFC 5722). */
INLINE int fragment_find(struct flow *f, const struct frag_key *key, __u32 position)
{
	struct frag_ports ports = {};

	if (!fragment_lookup(key, &ports))
		return DROPPED(DROP_FRAG_NOT_FOUND);
	if (position / 8 < ports.header)
		return DROPPED(DROP_INVALID);
	f->protocol = ports.protocol;
	f->port_source = ports.port_source;
	f->port_destination = ports.port_destination;
	f->policy_port = ports.policy_port;
	f->flags |= FLOW_FRAGMENT;
	return 0;
}

/* `header`: bytes of what is fragmented before the upper layer. 0 or a drop. */
INLINE int fragment_remember(struct flow *f, const struct frag_key *key, __u32 header)
{
	struct frag_ports ports = {
		.port_source = f->port_source,
		.port_destination = f->port_destination,
		.policy_port = f->policy_port,
		.protocol = f->protocol,
	};

	header = (header + fragment_header_bytes(f->protocol) + 7) / 8;
	if (header > 255)
		return DROPPED(DROP_INVALID_EXTHDR);
	ports.header = header;
	/* Without it the later fragments are dropped (175); the first one is complete in itself. */
	if (fragment_keep(key, &ports))
		count(f->flags, METRIC_FRAGMENT_UPDATE, DIRECTION_EGRESS, 0);
	return 0;
}
#undef FILE_ID
