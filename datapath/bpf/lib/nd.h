/* IPv6 messages of the link: neighbour discovery (RFC 4861) and listener reports (RFC 2710, 3810). They pass no policy and
 * no conntrack, so they are let through only as what they are: between the two ends of one link, as their RFC has them.
 *
 *   133-137  hop limit 255, code 0, no extension header or fragment (RFC 6980), a length that fits, whole options
 *   130-132, 143  hop limit 1, code 0, a router alert before them, source of the link or none, whole records
 *
 * Everything else with one of these types is dropped with 176 (somebody else's address: 132), whatever policy says: beyond
 * a link they mean nothing.
 */
#pragma once

#include "deliver.h"
#include "l4.h"

#define FILE_ID FILE_ND

#define ND_OFFSET (ETHERNET_LENGTH + 40)
#define ND_LENGTH (ND_OFFSET + 24)
#define ND_OPTION_LENGTH (ND_LENGTH + 8)
#define ND_OPTION_SOURCE 1
#define ND_OPTION_TARGET 2
#define ND_OPTION_NONCE 14 /* RFC 7527: duplicate address detection hears itself */
#define ND_OPTIONS_MAX 16
#define MLD_RECORDS_MAX 64
#define LINK_BYTES_MAX 1240 /* what fits the smallest IPv6 packet */

/* A message of the link, as the packet has it. */
struct link_message {
	struct address source;
	struct address destination;
	struct address target; /* ND: who is spoken about; listener messages of version 1: the group */
	__u8 head[8]; /* type, code, checksum, flags */
	__u8 mac[6]; /* of the link-layer address option */
	__u8 option; /* ND_OPTION_SOURCE or _TARGET, 0: none */
	__u8 plain; /* no option but these and a nonce */
};

INLINE int is_nobody(const struct address *a)
{
	return !(a->halves[0] | a->halves[1]);
}

INLINE int is_same(const struct address *a, const struct address *b)
{
	return a->halves[0] == b->halves[0] && a->halves[1] == b->halves[1];
}

/* ff02::`last`: everybody of the link 1, routers 2, listeners to reports 0x16. */
INLINE int is_link_group(const struct address *a, __u8 last)
{
	return a->halves[0] == bpf_cpu_to_be64(0xff02ull << 48) && a->halves[1] == bpf_cpu_to_be64((__u64)last);
}

/* The group of those whose address ends like `target`: ff02::1:ffxx:xxxx. */
INLINE int is_solicited_group(const struct address *a, const struct address *target)
{
	return a->halves[0] == bpf_cpu_to_be64(0xff02ull << 48) && a->words[2] == bpf_htonl(1) && a->bytes[12] == 0xff &&
	       a->bytes[13] == target->bytes[13] && LOAD16(&a->bytes[14]) == LOAD16(&target->bytes[14]);
}

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Options of neighbour discovery from `at` to `end`, whole ones only. 1 when they are right. */
NOINLINE int nd_options(struct __sk_buff *skb, struct link_message *m, __u32 at, __u32 end)
{
	__u8 h[8] __attribute__((aligned(8)));
	int i;

	NEVER_NULL(m);
	m->plain = 1;
	for (i = 0; i < ND_OPTIONS_MAX; i++) {
		if (at == end)
			return 1;
		/* Every option is at least 8 bytes long. */
		if (at + 8 > end || bpf_skb_load_bytes(skb, at, h, sizeof(h)) || !h[1])
			return 0;
		if (h[0] == ND_OPTION_SOURCE || h[0] == ND_OPTION_TARGET) {
			if (h[1] != 1 || m->option)
				return 0;
			m->option = h[0];
			__builtin_memcpy(m->mac, h + 2, 6);
		} else if (h[0] != ND_OPTION_NONCE || h[1] != 1) {
			m->plain = 0;
		}
		at += h[1] * 8;
	}
	return at == end;
}

/* Records of a version 2 report from `at` to `end`, `count` of them. 1 when they are right. */
NOINLINE int mld_records(struct __sk_buff *skb, __u32 at, __u32 end, __u32 count)
{
	__u8 h[8] __attribute__((aligned(8)));
	__u32 i;

	if (count > MLD_RECORDS_MAX)
		return 0;
	for (i = 0; i < MLD_RECORDS_MAX; i++) {
		if (i >= count)
			break;
		/* type 1..6, no auxiliary data, number of sources, group */
		if (at + 20 > end || bpf_skb_load_bytes(skb, at, h, 5) || h[0] < 1 || h[0] > 6 || h[1] || h[4] != 0xff)
			return 0;
		at += 20 + bpf_ntohs(LOAD16(h + 2)) * 16;
	}
	return at == end;
}

/* Is the hop-by-hop header at `at` a router alert (RFC 2711) for listener messages, and nothing else? */
INLINE int is_router_alert(struct __sk_buff *skb, __u32 at)
{
	__u64 h;

	if (bpf_skb_load_bytes(skb, at, &h, sizeof(h)))
		return 0;
	/* ICMPv6 follows, 8 bytes long: the alert 05 02 00 00, before or behind padding 01 00 or 00 00 */
	return h == bpf_cpu_to_be64(0x3a00050200000100) || h == bpf_cpu_to_be64(0x3a00050200000000) ||
	       h == bpf_cpu_to_be64(0x3a00010005020000) || h == bpf_cpu_to_be64(0x3a00000005020000);
}

/* Neighbour discovery, `length` bytes of it. 1 when it is right. */
INLINE int nd_right(struct __sk_buff *skb, struct link_message *m, __u32 at, __u32 length)
{
	__u32 fixed = 24;

	switch (m->head[0]) {
	case ICMPV6_ROUTER_SOLICITATION:
		fixed = 8;
		break;
	case ICMPV6_ROUTER_ADVERTISEMENT:
		fixed = 16;
		break;
	case ICMPV6_REDIRECT:
		fixed = 40;
		break;
	}
	if (length < fixed || (fixed >= 24 && bpf_skb_load_bytes(skb, at + 8, &m->target, 16)) ||
	    m->target.bytes[0] == 0xff || !nd_options(skb, m, at + fixed, at + length))
		return 0;
	switch (m->head[0]) {
	case ICMPV6_ROUTER_SOLICITATION:
		return m->plain && m->option != ND_OPTION_TARGET && is_link_group(&m->destination, 2) &&
		       !(m->option && is_nobody(&m->source));
	case ICMPV6_NEIGHBOUR_SOLICITATION:
		if (!m->plain || m->option == ND_OPTION_TARGET || is_nobody(&m->target))
			return 0;
		/* Who has no address yet asks everybody whether it is free, and has nobody to answer to. */
		if (is_nobody(&m->source) && (m->option || is_same(&m->destination, &m->target)))
			return 0;
		return is_same(&m->destination, &m->target) || is_solicited_group(&m->destination, &m->target);
	case ICMPV6_NEIGHBOUR_ADVERTISEMENT:
		/* 0x40: it answers somebody, who is not everybody */
		return m->plain && m->option != ND_OPTION_SOURCE && !is_nobody(&m->target) && !is_nobody(&m->source) &&
		       (m->destination.bytes[0] != 0xff || (is_link_group(&m->destination, 1) && !(m->head[4] & 0x40)));
	}
	/* Routers speak with their address of the link. */
	return is_link_local(&m->source);
}

/* Listener messages. 1 when it is right. */
INLINE int mld_right(struct __sk_buff *skb, struct link_message *m, __u32 at, __u32 length)
{
	if (!is_link_local(&m->source) && !is_nobody(&m->source))
		return 0;
	if (m->head[0] == ICMPV6_MLD2_REPORT)
		return is_link_group(&m->destination, 0x16) &&
		       mld_records(skb, at + 8, at + length, bpf_ntohs(LOAD16(m->head + 6)));
	if (length < 24 || bpf_skb_load_bytes(skb, at + 8, &m->target, 16))
		return 0;
	if (m->head[0] == ICMPV6_MLD_QUERY)
		return is_link_local(&m->source) && (length == 24 || (length >= 28 && length % 16 == 12)) &&
		       (is_nobody(&m->target) ? is_link_group(&m->destination, 1) : is_same(&m->destination, &m->target));
	if (length != 24 || m->target.bytes[0] != 0xff)
		return 0;
	return m->head[0] == ICMPV6_MLD_DONE ? is_link_group(&m->destination, 2) : is_same(&m->destination, &m->target);
}

/* Reads the message at the packet whose IPv6 header is at `l3`. 0, or a drop when it is not what its RFC says. */
NOINLINE int link_read(struct __sk_buff *skb, const struct flow *f, struct link_message *m, __u32 l3)
{
	__u8 h[8] __attribute__((aligned(8)));
	__u32 at, length;

	if (!f || !m)
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	at = f->l4_offset;
	if (bpf_skb_load_bytes(skb, l3, h, sizeof(h)) || bpf_skb_load_bytes(skb, l3 + 8, &m->source, 32) ||
	    bpf_skb_load_bytes(skb, at, m->head, sizeof(m->head)))
		return DROPPED(DROP_INVALID);
	length = l3 + 40 + bpf_ntohs(LOAD16(h + 4)) - at;
	if (length < 8 || length > LINK_BYTES_MAX || m->head[1])
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	if (m->head[0] >= ICMPV6_ROUTER_SOLICITATION && m->head[0] <= ICMPV6_REDIRECT) {
		if (h[7] != 255 || at != l3 + 40 || !nd_right(skb, m, at, length))
			return DROPPED(DROP_FORBIDDEN_ICMP6);
		return 0;
	}
	if (h[7] != 1 || at != l3 + 48 || h[6] || !is_router_alert(skb, l3 + 40) || !mld_right(skb, m, at, length))
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	return 0;
}

/* Has somebody else the address: another endpoint, the host, or (by its MAC) the host's side of the link? */
NOINLINE int link_taken(const struct address *a, const struct endpoint *own, __u32 id)
{
	const struct address_owner *owner;

	if (!a || !own)
		return 1;
	if (is_link_local(a))
		return a->halves[0] == bpf_cpu_to_be64(0xfe80ull << 48) && a->bytes[8] == (own->host_mac[0] ^ 2) &&
		       a->bytes[9] == own->host_mac[1] && a->bytes[10] == own->host_mac[2] && a->bytes[11] == 0xff &&
		       a->bytes[12] == 0xfe && a->bytes[13] == own->host_mac[3] &&
		       LOAD16(&a->bytes[14]) == LOAD16(&own->host_mac[4]);
	if (own->flags & ENDPOINT_NO_SOURCE_CHECK) {
		owner = bpf_map_lookup_elem(&weir_addresses, a);
		return owner && owner->endpoint != id;
	}
	return !is_same(a, &own->ipv6);
}

/* Turns a solicitation for the gateway into its advertisement. A verdict. */
NOINLINE int nd_answer(struct __sk_buff *skb, struct flow *f, const struct endpoint *own, const struct link_message *asked)
{
	/* pseudo header, then the message; 32 + 8 + 32 bytes */
	struct {
		struct address source;
		struct address destination;
		__u32 length;
		__u32 next;
		__u32 head; /* type, code, checksum */
		__u32 flags;
		struct address target;
		__u8 option[8];
	} m = {
		.length = bpf_htonl(32),
		.next = bpf_htonl(PROTOCOL_ICMPV6),
		.flags = bpf_htonl(0x60000000), /* solicited, override */
	};
	__u8 *p, *option = m.option;
	__s64 sum;

	if (!f || !own || !asked)
		return SHOT;
	m.source = asked->target;
	m.destination = asked->source;
	m.target = asked->target;
	m.head = bpf_htonl((__u32)ICMPV6_NEIGHBOUR_ADVERTISEMENT << 24);
	option[0] = ND_OPTION_TARGET;
	option[1] = 1;
	__builtin_memcpy(option + 2, own->host_mac, 6);
	sum = bpf_csum_diff(0, 0, (__be32 *)&m, sizeof(m), 0);
	m.head |= (__u32)fold(sum) << 16;
	/* With or without the asker's option, the answer is 32 bytes long and carries ours. */
	if (bpf_skb_change_tail(skb, ND_OPTION_LENGTH, 0) || !reach(skb, 1, ND_OPTION_LENGTH))
		return drop(skb, f, DROPPED(DROP_WRITE_ERROR));
	p = packet_start(skb);
	if (p + ND_OPTION_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_WRITE_ERROR));
	__builtin_memcpy(p, p + 6, 6);
	__builtin_memcpy(p + 6, own->host_mac, 6);
	*(__u16 *)(p + 18) = bpf_htons(32);
	p[20] = PROTOCOL_ICMPV6;
	p[21] = 255;
	__builtin_memcpy(p + 22, &m.source, 32);
	__builtin_memcpy(p + ND_OFFSET, &m.head, 32);
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}

/* May an endpoint say this to its link? 0 or a drop. */
NOINLINE int link_from_endpoint(const struct link_message *m, const struct config *config, const struct endpoint *own, __u32 id)
{
	const struct address_owner *owner;
	__u8 type;

	if (!m || !config || !own)
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	type = m->head[0];
	/* Only routers say these, or ask who listens. */
	if (type == ICMPV6_ROUTER_ADVERTISEMENT || type == ICMPV6_REDIRECT || type == ICMPV6_MLD_QUERY)
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	if (!is_nobody(&m->source) && link_taken(&m->source, own, id))
		return DROPPED(DROP_INVALID_SIP);
	/* Nor does it say that its addresses are at another MAC than its own. */
	if (m->option && !(own->flags & ENDPOINT_NO_SOURCE_CHECK) &&
	    (LOAD32(&m->mac[0]) != LOAD32(&own->mac[0]) || LOAD16(&m->mac[4]) != LOAD16(&own->mac[4])))
		return DROPPED(DROP_INVALID_SIP);
	if (type == ICMPV6_NEIGHBOUR_SOLICITATION) {
		/* Is this address free? Only of those that it may have. */
		if (is_nobody(&m->source) && link_taken(&m->target, own, id))
			return DROPPED(DROP_INVALID_SIP);
		/* Whoever is asked alone is at the other end of the link. */
		if (m->destination.bytes[0] != 0xff && !is_link_local(&m->destination) &&
		    !is_same(&m->destination, &config->gateway_ipv6))
			return DROPPED(DROP_FORBIDDEN_ICMP6);
	}
	if (type == ICMPV6_NEIGHBOUR_ADVERTISEMENT) {
		if (link_taken(&m->target, own, id))
			return DROPPED(DROP_INVALID_SIP);
		if (m->destination.bytes[0] != 0xff && !is_link_local(&m->destination)) {
			owner = bpf_map_lookup_elem(&weir_addresses, &m->destination);
			if (!owner || !(owner->flags & ADDRESS_HOST))
				return DROPPED(DROP_FORBIDDEN_ICMP6);
		}
	}
	return 0;
}

/* An endpoint's message of the link. `f->policy_port` is the ICMPv6 type. A verdict. */
NOINLINE int nd_from_endpoint(struct __sk_buff *skb, struct flow *f, const struct config *config,
			      const struct endpoint *own)
{
	struct link_message m = {};
	int code;

	if (!f || !config || !own)
		return SHOT;
	code = link_read(skb, f, &m, ETHERNET_LENGTH);
	if (!code)
		code = link_from_endpoint(&m, config, own, f->hook_endpoint);
	if (code)
		return drop(skb, f, code);
	count(f->flags, 0, DIRECTION_EGRESS, skb->len);
	if (m.head[0] != ICMPV6_NEIGHBOUR_SOLICITATION || is_nobody(&m.source) || is_nobody(&m.target) ||
	    !is_same(&m.target, &config->gateway_ipv6))
		return PASS;
	return nd_answer(skb, f, own, &m);
}

/* What the host says to an endpoint over their link: no router has passed it on. A verdict. */
NOINLINE int nd_to_endpoint(struct __sk_buff *skb, struct flow *f)
{
	const struct address_owner *owner;
	struct link_message m = {};
	int code;

	if (!f)
		return SHOT;
	code = link_read(skb, f, &m, ETHERNET_LENGTH);
	if (!code && !is_nobody(&m.source) && !is_link_local(&m.source)) {
		owner = bpf_map_lookup_elem(&weir_addresses, &m.source);
		if (!owner || !(owner->flags & ADDRESS_HOST))
			code = DROPPED(DROP_INVALID_SIP);
	}
	if (code)
		return drop(skb, f, code);
	count(f->flags, 0, DIRECTION_INGRESS, skb->len);
	return PASS;
}

/* A raw socket of a cgroup speaks to a link of the node, or hears from one. 0 or a drop. */
NOINLINE int nd_of_socket(struct __sk_buff *skb, struct flow *f)
{
	struct link_message m = {};
	int code;

	if (!f)
		return DROPPED(DROP_FORBIDDEN_ICMP6);
	code = link_read(skb, f, &m, 0);
	/* What arrives with such a hop limit has come from the link; what leaves must be for it. */
	if (!code && !(f->flags & FLOW_INGRESS) && m.destination.bytes[0] != 0xff && !is_link_local(&m.destination))
		code = DROPPED(DROP_FORBIDDEN_ICMP6);
	return code;
}
#undef FILE_ID
