/* What one packet is, parsed: the program's working memory, kept on its stack. */
#pragma once

#include "maps.h"

/* flags of struct flow */
#define FLOW_IPV6 1
#define FLOW_L3 2 /* no Ethernet header (cgroup hooks) */
#define FLOW_RELATED 4 /* an ICMP error: the key is that of the packet it quotes, turned round */
#define FLOW_TOO_BIG 8 /* fragmentation needed, packet too big: so many a second */
#define FLOW_FRAGMENT 16 /* not the first fragment: no TCP flags */
#define FLOW_FIRST_FRAGMENT 32
#define FLOW_TUNNEL 64 /* deliver through the tunnel, to `node` */
#define FLOW_INGRESS 128 /* the hook is on the way to an endpoint */
#define FLOW_NETWORK 256 /* comes from another machine: its source may not be an address of this node */
#define FLOW_STACK 512 /* came through the host's stack and goes back the same way */
#define FLOW_ERROR 1024 /* an ICMP error of any kind: makes no conntrack entry */
#define FLOW_REPLY_NAT 2048 /* an answer through a service: its source is to become the frontend */
#define FLOW_SERVICE 4096 /* was sent to a service, and now goes to its backend */
#define FLOW_SERVICE_NEW 8192 /* ... whose choice is not remembered yet */
#define FLOW_LOOPBACK 16384 /* an endpoint speaks to itself through a service */
#define FLOW_SERVICE_FRESH 32768 /* ... nothing is known of the flow to the backend either */

struct flow {
	struct ct_key key;
	struct address node; /* underlay address of the remote end */
	__u32 now; /* jiffies */
	__u32 source_identity;
	__u32 destination_identity;
	__u32 vni; /* that the packet came through the tunnel with */
	__u32 egress_cookie;
	__u32 ingress_cookie;
	__u16 source_endpoint; /* set by hooks that know it */
	__u16 destination_endpoint;
	__u16 hook_endpoint;
	__u16 flags;
	__u16 port_source; /* be */
	__u16 port_destination; /* be */
	__u16 policy_port; /* host order */
	__u16 redirect; /* REDIRECT_* */
	__u8 source_hi; /* the packet's source is key.hi */
	__u8 protocol; /* of the packet itself; key.protocol is that of the flow */
	__u8 tcp_flags;
	__u8 reason; /* REASON_* */
	__u8 verdicts; /* EVENT_EGRESS_VERDICT, EVENT_INGRESS_VERDICT */
	__u8 egress_match;
	__u8 ingress_match;
	__u8 point; /* TRACE_* where a new connection is reported */
	__u16 l4_offset; /* set when there are options or extension headers */
	__u16 service; /* the flow goes through this service */
	__u16 sequence; /* TCP: upper half of the sequence number; in an error, of the packet that it quotes */
	__u16 quoted_offset; /* of the upper layer of the packet that an error quotes */
};
/* Zeroed for every packet, by eight bytes. */
_Static_assert(sizeof(struct flow) == 112, "flow");

/* A drop is a number that carries its place: file << 24 | line << 8 | reason. 0 is no drop. */
#define DROPPED(reason) ((FILE_ID << 24) | (__LINE__ << 8) | (reason))
#define DROP_REASON(code) ((code) & 0xff)
#define LOOPBACK_IFINDEX 1

/* What parsers return for packets of the link itself (neighbour discovery, listener reports). */
#define PARSED_LINK 1

/* IPv4 in a 16-byte address, ::ffff:a.b.c.d: second half, little endian as it lies in memory. */
INLINE __u64 mapped(__u32 ipv4)
{
	return ((__u64)ipv4 << 32) | 0xffff0000u;
}

/* ::ffff:a.b.c.d: on the wire nobody's. */
INLINE int is_mapped(const struct address *a)
{
	return a->halves[0] == 0 && a->words[2] == 0xffff0000u;
}

/* fe80::/10: no router passes such packets on, so to an endpoint it is the host at the other end of its link. */
INLINE int is_link_local(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

INLINE int same_address(const struct address *a, const struct address *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

INLINE int is_zero_ipv4(const struct address *a)
{
	return a->halves[0] == 0 && a->halves[1] == mapped(0);
}

INLINE int is_zero(const struct address *a)
{
	return !(a->halves[0] | a->halves[1]);
}

/* Puts the smaller end first, so that both directions of a flow have the same key. */
INLINE void flow_set_key(struct flow *f, __u64 s0, __u64 s1, __u64 d0, __u64 d1, __u8 protocol)
{
	int hi = s0 > d0 || (s0 == d0 && (s1 > d1 || (s1 == d1 && f->port_source > f->port_destination)));

	f->key.protocol = protocol;
	f->source_hi = hi;
	if (hi) {
		f->key.lo.halves[0] = d0;
		f->key.lo.halves[1] = d1;
		f->key.hi.halves[0] = s0;
		f->key.hi.halves[1] = s1;
		f->key.port_lo = f->port_destination;
		f->key.port_hi = f->port_source;
	} else {
		f->key.lo.halves[0] = s0;
		f->key.lo.halves[1] = s1;
		f->key.hi.halves[0] = d0;
		f->key.hi.halves[1] = d1;
		f->key.port_lo = f->port_source;
		f->key.port_hi = f->port_destination;
	}
}

/* Makes the first `bytes` of the packet directly readable. Only a packet whose headers lie in fragments costs a call.
 * `pull` is a constant: cgroup programs have no pull_data; what reaches a socket has linear headers. */
INLINE int reach(struct __sk_buff *skb, int pull, __u32 bytes)
{
	if (packet_start(skb) + bytes <= packet_end(skb))
		return 1;
	return pull && skb->len >= bytes && bpf_skb_pull_data(skb, bytes) == 0;
}

/* `bytes` of the packet at `offset`, or null: as reach(), with one comparison when they lie there. */
INLINE __u8 *reach_at(struct __sk_buff *skb, int pull, __u32 offset, __u32 bytes)
{
	__u8 *h = packet_start(skb) + offset;

	if (likely(h + bytes <= (__u8 *)packet_end(skb)))
		return h;
	if (!pull || skb->len < offset + bytes || bpf_skb_pull_data(skb, offset + bytes))
		return 0;
	h = packet_start(skb) + offset;
	return h + bytes <= (__u8 *)packet_end(skb) ? h : 0;
}
