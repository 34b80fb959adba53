/* IPv4: header checks, fragments, and what is behind. */
#pragma once

#include "fragment.h"
#include "handle_address.h"
#include "icmp_error.h"

#define FILE_ID FILE_IPV4

/* With options, or a fragment. `left`: bytes behind the header as it says. 0 or a drop. */
NOINLINE int ipv4_parse_slow(struct __sk_buff *skb, struct flow *f, __u32 l3, __u32 left, __u32 config_flags)
{
	struct frag_key key = {};
	__u32 fragment, position;
	__u8 h[20];
	int code;

	NEVER_NULL(f);
	if (bpf_skb_load_bytes(skb, l3, h, sizeof(h)))
		return DROPPED(DROP_INVALID);
	fragment = bpf_ntohs(LOAD16(h + 6));
	position = (fragment & 0x1fff) * 8;
	f->l4_offset = l3 + (h[0] & 15) * 4;
	if (!(fragment & 0x3fff))
		return l4_parse_copied(skb, f, f->l4_offset, left, f->protocol);
	if (config_flags & CONFIG_NO_FRAGMENTS)
		return DROPPED(DROP_FRAG_NOSUPPORT);
	key.source.halves[1] = mapped(LOAD32(h + 12));
	key.destination.halves[1] = mapped(LOAD32(h + 16));
	key.id = LOAD16(h + 4);
	key.protocol = f->protocol;
	/* RFC 791: what is not the end is a multiple of 8 bytes long, and no datagram is longer than 65535. */
	if (((fragment & 0x2000) && (left & 7)) || position + left > 65535)
		return DROPPED(DROP_INVALID);
	if (position) {
		/* Also before its first one has come. */
		if (position < fragment_header_bytes(f->protocol))
			return DROPPED(DROP_INVALID);
		return fragment_find(f, &key, position);
	}
	f->flags |= FLOW_FIRST_FRAGMENT;
	code = l4_parse_copied(skb, f, f->l4_offset, left, f->protocol);
	return code ?: fragment_remember(f, &key, 0);
}

/* Fills key, ports, protocol and flags from the packet at `l3` (a constant). `endpoint` is who sent it, if one of
 * ours did: it may only use its own address. Returns 0 or a drop. */
INLINE int ipv4_parse(struct __sk_buff *skb, struct flow *f, const struct config *config, __u32 l3,
		      const struct endpoint *endpoint)
{
	__u32 total, header, left, source, destination, fragment;
	const __u8 *h;
	__u64 sum;
	int code;

	h = reach_at(skb, l3 != 0, l3, 20);
	if (!h)
		return DROPPED(DROP_INVALID);
	total = bpf_ntohs(LOAD16(h + 2));
	header = (h[0] & 15) * 4;
	left = skb->len - l3;
	/* BIG TCP: longer than the field can say */
	if (total == 0 && left > 65535)
		total = left;
	if ((h[0] >> 4) != 4 || header < 20 || total < header || total > left)
		return DROPPED(DROP_INVALID);
	f->protocol = h[9];
	source = LOAD32(h + 12);
	destination = LOAD32(h + 16);
	fragment = bpf_ntohs(LOAD16(h + 6));
	if (endpoint && source != endpoint->ipv4 && !(endpoint->flags & ENDPOINT_NO_SOURCE_CHECK))
		return DROPPED(DROP_INVALID_SIP);
	/* Nobody, or everybody, sends nothing; nobody receives nothing. */
	if (unlikely(!source || !destination || (source & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000)) &&
	    (!source || !destination || !is_handle_ipv4(source, config)))
		return DROPPED(DROP_INVALID);
	left = total - header;

	if (likely(header == 20 && !(fragment & 0x3fff))) {
		/* Ones' complement over the whole header is all ones; five words, carries folded in at the end: the first
		 * fold leaves at most 2^32 + 3, the second 2^17 - 2. */
		sum = (__u64)LOAD32(h) + LOAD32(h + 4) + LOAD32(h + 8) + source + destination;
		sum = (__u64)(__u32)sum + (sum >> 32);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		if (sum != 0xffff)
			return DROPPED(DROP_INVALID);
		f->l4_offset = l3 + 20;
		code = l4_parse(skb, f, l3 != 0, l3 + 20, left, f->protocol);
	} else {
		code = ipv4_parse_slow(skb, f, l3, left, config->flags);
		/* It may be held until its first one is here: who sent it is known. */
		if (DROP_REASON(code) == DROP_FRAG_NOT_FOUND)
			flow_set_key(f, 0, mapped(source), 0, mapped(destination), f->protocol);
	}
	if (code)
		return code;
	if (unlikely(f->flags & FLOW_ERROR)) {
		code = icmp_error_ipv4(skb, f, f->l4_offset + 8, destination, total);
		if (code)
			return code == 1 ? 0 : code;
	}
	flow_set_key(f, 0, mapped(source), 0, mapped(destination), f->protocol);
	return 0;
}
#undef FILE_ID
