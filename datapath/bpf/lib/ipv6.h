/* IPv6: header checks, extension headers, fragments, and what is behind. */
#pragma once

#include "fragment.h"
#include "icmp_error.h"

#define FILE_ID FILE_IPV6

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_NONE 59
#define NEXT_DESTINATION 60
#define EXTENSIONS_MAX 8

/* Where the upper layer begins, and which fragment of it this is. */
struct extensions {
	__u32 offset; /* in: of the first extension; out: of the upper layer */
	__u32 id;
	__u32 start; /* out: of what is fragmented */
	__u16 fragment; /* as in the header: offset << 3 | more */
	__u8 protocol; /* in: next header; out: upper layer */
	__u8 fragmented;
};

/* `end`: first byte behind the packet. */
NOINLINE int ipv6_extensions(struct __sk_buff *skb, struct extensions *x, __u32 end)
{
	__u32 offset;
	__u8 next;
	__u8 h[8];
	int i;

	NEVER_NULL(x);
	offset = x->offset;
	next = x->protocol;
	for (i = 0; i < EXTENSIONS_MAX; i++) {
		if (next != NEXT_HOP_BY_HOP && next != NEXT_ROUTING && next != NEXT_FRAGMENT &&
		    next != NEXT_AUTHENTICATION && next != NEXT_DESTINATION)
			break;
		/* Every extension is at least 8 bytes long. Hop-by-hop comes first or not at all (RFC 8200 4.1). */
		if (offset + 8 > end || (next == NEXT_HOP_BY_HOP && i > 0) || bpf_skb_load_bytes(skb, offset, h, 8))
			return DROPPED(DROP_INVALID_EXTHDR);
		/* Type 0 lets the sender choose the path (deprecated by RFC 5095). */
		if (next == NEXT_ROUTING && h[2] == 0 && h[3] != 0)
			return DROPPED(DROP_INVALID_EXTHDR);
		if (next == NEXT_FRAGMENT) {
			if (x->fragmented)
				return DROPPED(DROP_INVALID_EXTHDR);
			x->fragment = bpf_ntohs(LOAD16(h + 2));
			x->id = LOAD32(h + 4);
			x->fragmented = 1;
			offset += 8;
			x->start = offset;
			next = h[0];
			/* What follows in a later fragment is not a header. */
			if (x->fragment >> 3)
				goto out;
			continue;
		}
		offset += next == NEXT_AUTHENTICATION ? (h[1] + 2) * 4 : (h[1] + 1) * 8;
		next = h[0];
	}
	if (i == EXTENSIONS_MAX)
		return DROPPED(DROP_INVALID_EXTHDR);
out:
	if (offset > end)
		return DROPPED(DROP_INVALID_EXTHDR);
	x->offset = offset;
	x->protocol = next;
	return 0;
}

#define SENDER_OWN (1u << 31)

/* With extension headers. `left`: bytes behind the IPv6 header. 0, PARSED_LINK or a drop. `flags`: of the
 * configuration, and SENDER_OWN when the source address is the sender's. */
NOINLINE int ipv6_parse_slow(struct __sk_buff *skb, struct flow *f, __u32 l3, __u32 left, __u32 flags)
{
	struct extensions x = {};
	struct frag_key key = {};
	__u32 position, end = l3 + 40 + left;
	int code;

	NEVER_NULL(f);
	x.offset = l3 + 40;
	x.protocol = f->protocol;
	code = ipv6_extensions(skb, &x, end);
	if (code)
		return code;
	f->protocol = x.protocol;
	f->l4_offset = x.offset;
	left = end - x.offset;
	position = x.fragment & 0xfff8;
	if (x.fragmented) {
		if (flags & CONFIG_NO_FRAGMENTS)
			return DROPPED(DROP_FRAG_NOSUPPORT);
		if (bpf_skb_load_bytes(skb, l3 + 8, &key, 32))
			return DROPPED(DROP_INVALID);
		key.id = x.id;
		/* RFC 8200, 4.5: what is not the end is a multiple of 8 bytes long, and no packet is longer than 65535. */
		if (((x.fragment & 1) && ((end - x.start) & 7)) || position + left > 65535)
			return DROPPED(DROP_INVALID);
	}
	if (position) {
		if (!(flags & SENDER_OWN))
			return DROPPED(DROP_INVALID_SIP);
		if (position < fragment_header_bytes(x.protocol))
			return DROPPED(DROP_INVALID);
		return fragment_find(f, &key, position);
	}
	if (x.fragment & 1)
		f->flags |= FLOW_FIRST_FRAGMENT;
	code = l4_parse_copied(skb, f, x.offset, left, x.protocol);
	/* RFC 6980: neighbour discovery is never fragmented. */
	if (code == PARSED_LINK)
		return x.fragmented ? DROPPED(DROP_FORBIDDEN_ICMP6) : code;
	if (!(flags & SENDER_OWN))
		return DROPPED(DROP_INVALID_SIP);
	if (!code && (x.fragment & 1))
		code = fragment_remember(f, &key, x.offset - x.start);
	return code;
}

/* As ipv4_parse(). PARSED_LINK: a message of the link itself (neighbour discovery), with `protocol` and `policy_port`
 * (the type) set, and nothing decided about its source address. */
INLINE int ipv6_parse(struct __sk_buff *skb, struct flow *f, const struct config *config, __u32 l3,
		      const struct endpoint *endpoint)
{
	struct address source, destination;
	__u32 left, length;
	const __u8 *h;
	int code, own;

	f->flags |= FLOW_IPV6;
	h = reach_at(skb, l3 != 0, l3, 40);
	if (!h)
		return DROPPED(DROP_INVALID);
	left = skb->len - l3 - 40;
	length = bpf_ntohs(LOAD16(h + 4));
	/* BIG TCP: longer than the field can say */
	if (length == 0 && left > 65535)
		length = left;
	if ((h[0] >> 4) != 6 || length > left)
		return DROPPED(DROP_INVALID);
	source.halves[0] = LOAD64(h + 8);
	source.halves[1] = LOAD64(h + 16);
	destination.halves[0] = LOAD64(h + 24);
	destination.halves[1] = LOAD64(h + 32);
	/* These would be taken for IPv4 flows; multicast sends nothing; nobody receives nothing. */
	if (is_mapped(&source) || is_mapped(&destination) || source.bytes[0] == 0xff ||
	    (!destination.halves[0] && !destination.halves[1]))
		return DROPPED(DROP_INVALID);
	own = !endpoint || (endpoint->flags & ENDPOINT_NO_SOURCE_CHECK) ||
	      (source.halves[0] == endpoint->ipv6.halves[0] && source.halves[1] == endpoint->ipv6.halves[1] &&
	       source.halves[1] != 0);
	f->protocol = h[6];
	if (likely(f->protocol == PROTOCOL_TCP || f->protocol == PROTOCOL_UDP || f->protocol == PROTOCOL_ICMPV6)) {
		f->l4_offset = l3 + 40;
		code = l4_parse(skb, f, l3 != 0, l3 + 40, length, f->protocol);
	} else {
		code = ipv6_parse_slow(skb, f, l3, length, config->flags | (own ? SENDER_OWN : 0));
		/* As in ipv4_parse(). */
		if (DROP_REASON(code) == DROP_FRAG_NOT_FOUND)
			flow_set_key(f, source.halves[0], source.halves[1], destination.halves[0], destination.halves[1], 0);
	}
	if (code == PARSED_LINK)
		return code;
	if (!own)
		return DROPPED(DROP_INVALID_SIP);
	if (code)
		return code;
	if (unlikely(f->flags & FLOW_ERROR)) {
		code = icmp_error_ipv6(skb, f, f->l4_offset + 8, &destination, length + 40);
		if (code)
			return code == 1 ? 0 : code;
	}
	flow_set_key(f, source.halves[0], source.halves[1], destination.halves[0], destination.halves[1], f->protocol);
	return 0;
}
#undef FILE_ID
