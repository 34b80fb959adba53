/* Does a RST or a FIN end anything? Its receiver looks at the sequence number; a tracker that does not is told by any packet with
 * the right ports that a connection is over which both sockets still have, forgets it, and takes what comes next for a new
 * one, that policy may forbid.
 *
 * Sequence numbers per flow would have to be written for every packet. But at least one end of a flow is a pod of this
 * node, and its socket knows: it is looked up in the pod's network namespace, for such packets only.
 *
 *     to a pod     RST: the socket takes it at exactly the next number that it expects (RFC 5961, 3.2; Linux)
 *                  FIN: in its window; the window is not told to us, so up to 2^23 beyond. (One that is guessed
 *                  is seen; both ends' FINs are needed to close a flow.)
 *     from a pod   RST: the next number that its socket sends, or there is no such socket any more
 *                  FIN: not beyond that, nor acknowledged
 *
 * What does not hold is let through, as what it is to the receiver (nothing, or a reason for a challenge ACK), and changes
 * nothing here. The namespace is not known of machines behind a tap, and sockets bound to a device are not found: there every RST counts;
 * but a packet after it, from either end, takes it back (ct_touch()). */
#pragma once

#include "conntrack.h"
#include "endpoint.h"
#include "nat.h"
#include "translate.h"

#define TCP_STATE_SYN_SENT 2
#define TCP_STATE_LISTEN 10
#define FIN_WINDOW (1 << 23)
#define SEGMENT_MAX (1 << 19) /* BIG TCP */

/* One end's socket of a connection, as that end sees it. */
struct reset_end {
	struct address own;
	struct address peer;
	__u16 port;
	__u16 port_peer;
	__u32 netns; /* as in struct endpoint */
	__u32 sequence; /* RST: of the packet, FIN: behind its data */
	__u8 flags; /* TCP_RST or TCP_FIN */
	__u8 to; /* the packet goes to it, else it comes from it */
	__u8 pad[2];
};

/* Does its socket agree? Without one, a RST is right and a FIN says nothing more. */
NOINLINE int reset_agreed(struct __sk_buff *skb, const struct reset_end *end)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *sk;
	__u32 received, sent, acknowledged;
	__s32 ahead;
	int agreed = 1;

	NEVER_NULL(end);
	if (!end->own.halves[0] && end->own.words[2] == 0xffff0000u) {
		tuple.ipv4.saddr = end->peer.words[3];
		tuple.ipv4.daddr = end->own.words[3];
		tuple.ipv4.sport = end->port_peer;
		tuple.ipv4.dport = end->port;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), end->netns - 1, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &end->peer, 16);
		__builtin_memcpy(tuple.ipv6.daddr, &end->own, 16);
		tuple.ipv6.sport = end->port_peer;
		tuple.ipv6.dport = end->port;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), end->netns - 1, 0);
	}
	if (!sk)
		return 1;
	/* Null: half open, or in TIME-WAIT. */
	tcp = bpf_tcp_sock(sk);
	if (tcp && sk->state != TCP_STATE_SYN_SENT && sk->state != TCP_STATE_LISTEN) {
		/* Two loads, else clang makes one of a computed address, which a socket has none of. */
		received = READ_ONCE(tcp->rcv_nxt);
		sent = READ_ONCE(tcp->snd_nxt);
		acknowledged = READ_ONCE(tcp->snd_una);
		ahead = end->sequence - (end->to ? received : sent);
		if (end->flags & TCP_RST)
			agreed = ahead == 0;
		else if (end->to)
			agreed = ahead >= 0 && ahead < FIN_WINDOW;
		else
			/* It counts as sent a moment after it has gone. */
			agreed = ahead <= SEGMENT_MAX && (__s32)(end->sequence - acknowledged) >= 0;
	}
	bpf_sk_release(sk);
	return agreed;
}

INLINE int reset_sequence(struct __sk_buff *skb, const struct flow *f, struct reset_end *end)
{
	__u8 length;

	if (bpf_skb_load_bytes(skb, f->l4_offset + 4, &end->sequence, 4) ||
	    bpf_skb_load_bytes(skb, f->l4_offset + 12, &length, 1))
		return 0;
	end->flags = f->tcp_flags & (TCP_RST | TCP_FIN);
	end->sequence = bpf_ntohl(end->sequence);
	if (end->flags == TCP_FIN)
		end->sequence += skb->len - f->l4_offset - (length >> 4) * 4;
	return 1;
}

/* `e`: the flow's entry, alive. True when the packet's RST or FIN counts. */
NOINLINE int reset_counts(struct __sk_buff *skb, const struct flow *f, const struct ct_entry *e)
{
	const struct ct_end *sender, *receiver;
	struct reset_end end = {};
	struct endpoint *record;
	__u32 reply, client;

	/* A redirected flow's two connections have numbers of their own, each known to one end and the proxy. */
	if (!f || !e || (e->flags & CT_REDIRECT))
		return 1;
	reply = f->source_hi != (e->flags & CT_ORIGIN_HI);
	/* A FIN is asked about once. */
	if ((f->flags & FLOW_RELATED) || (!(f->tcp_flags & TCP_RST) && ((reply ? e->tcp_flags[1] : e->tcp_flags[0]) & TCP_FIN)))
		return 1;
	if (!reset_sequence(skb, f, &end))
		return 1;
	sender = reply ? &e->ends[1] : &e->ends[0];
	receiver = reply ? &e->ends[0] : &e->ends[1];
	record = receiver->endpoint ? endpoint_get(receiver->endpoint) : 0;
	end.to = record && record->netns;
	if (!end.to)
		record = sender->endpoint ? endpoint_get(sender->endpoint) : 0;
	if (!record || !record->netns || (e->flags & CT_LOOPBACK))
		return 1;
	end.netns = record->netns;
	end.own = *flow_address(f, end.to ? TRANSLATE_DESTINATION : TRANSLATE_SOURCE);
	end.peer = *flow_address(f, end.to ? TRANSLATE_SOURCE : TRANSLATE_DESTINATION);
	end.port = end.to ? f->port_destination : f->port_source;
	end.port_peer = end.to ? f->port_source : f->port_destination;
	/* A client believes that it speaks to the frontend. */
	client = end.to ? reply : !reply;
	if (client && (e->flags & CT_REPLY_NAT)) {
		end.peer = e->translated;
		end.port_peer = e->translated_port;
	}
	return reset_agreed(skb, &end);
}

/* The same for a masqueraded flow of an endpoint. Scratch has the packet's key and flow and, of one `to` the endpoint, the entry that says
 * whom it is for. */
NOINLINE int reset_counts_masqueraded(struct __sk_buff *skb, __u32 endpoint, __u32 to)
{
	struct endpoint *record = endpoint_get(endpoint);
	struct nat_scratch *s = nat_scratch();
	struct reset_end end = {};

	if (!s || !record || !record->netns || (s->flow.flags & FLOW_RELATED) || !reset_sequence(skb, &s->flow, &end))
		return 1;
	end.netns = record->netns;
	end.to = to;
	end.own = to ? s->entry.destination : s->key.source;
	end.port = to ? s->entry.port_destination : s->key.port_source;
	end.peer = to ? s->key.source : s->key.destination;
	end.port_peer = to ? s->key.port_source : s->key.port_destination;
	return reset_agreed(skb, &end);
}
