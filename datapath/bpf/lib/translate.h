/* Rewriting of a packet: one end of it (address and port) becomes another.
 *
 *     code = translate(skb, f, TRANSLATE_DESTINATION, &backend->address, backend->port);
 *
 * `f` is the parsed packet (of a device: with an Ethernet header); its key and ports are those of the new packet afterwards.
 * An ICMP error (FLOW_RELATED) has the packet rewritten that it quotes, and its own address where that is the old one: a
 * router on the way keeps its name.
 *
 * Checksums. In the packet they are complete, or, when a device is to finish them (CHECKSUM_PARTIAL), only the sum of the
 * pseudo header, not complemented. A program cannot see which; but what does not equal that sum cannot be the latter.
 * So the rest is rewritten by plain arithmetic, and what equals it, or has segments still to be cut, by the helpers that
 * know. A sum over the whole packet (CHECKSUM_COMPLETE) changes by what the header's own checksums do not make up for:
 *
 *                    with an L4 checksum            without (UDP 0, SCTP, later fragments)
 *     IPv4           - addresses                    + ports
 *     IPv6           0                              + addresses + ports
 */
#pragma once

#include "l4.h"

#define FILE_ID FILE_TRANSLATE

#define TRANSLATE_SOURCE 0
#define TRANSLATE_DESTINATION 1

/* ---- ones' complement sums, of words as they lie in memory ---------------------------------------------------- */

INLINE __u32 sum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)(sum + (sum >> 32));
}

INLINE __u16 sum_fold16(__u64 sum)
{
	sum = sum_fold32(sum);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)(sum + (sum >> 16));
}

/* What a sum changes by when `from` becomes `to`. */
INLINE __u64 sum_change_address(const struct address *from, const struct address *to)
{
	__u64 sum = (__u32)~from->words[0];

	sum += (__u32)~from->words[1];
	sum += (__u32)~from->words[2];
	sum += (__u32)~from->words[3];
	sum += to->words[0];
	sum += to->words[1];
	sum += to->words[2];
	return sum + to->words[3];
}

INLINE __u64 sum_change16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

/* A checksum after its packet changed by `change` (RFC 1624, equation 3). */
INLINE __u16 checksum_change(__u16 checksum, __u64 change)
{
	return ~sum_fold16((__u16)~checksum + change);
}

/* An address of 16 bytes; a v4 one's prefix ::ffff sums up to zero. */
INLINE __u64 sum_address(const struct address *a)
{
	return (__u64)a->words[0] + a->words[1] + a->words[2] + a->words[3];
}

/* ---- the tuple ------------------------------------------------------------------------------------------------- */

/* Address and port of one end of the packet (of the flow it belongs to, seen in the packet's direction). */
INLINE const struct address *flow_address(const struct flow *f, __u32 end)
{
	return (f->source_hi != 0) == (end == TRANSLATE_SOURCE) ? &f->key.hi : &f->key.lo;
}

INLINE __u16 flow_port(const struct flow *f, __u32 end)
{
	return end == TRANSLATE_SOURCE ? f->port_source : f->port_destination;
}

/* The flow that the packet belongs to after its `end` became another; the packet itself is not touched. */
INLINE void flow_set_end(struct flow *f, __u32 end, const struct address *to, __u16 port)
{
	struct address other = *flow_address(f, !end);

	if (end == TRANSLATE_SOURCE) {
		f->port_source = port;
		flow_set_key(f, to->halves[0], to->halves[1], other.halves[0], other.halves[1], f->key.protocol);
	} else {
		f->port_destination = port;
		flow_set_key(f, other.halves[0], other.halves[1], to->halves[0], to->halves[1], f->key.protocol);
	}
}

/* Does this end carry the id of an ICMP question or answer? */
INLINE int icmp_id_at(__u8 type, __u32 end)
{
	if (type == ICMP_ECHO || type == ICMP_TIMESTAMP || type == ICMPV6_ECHO)
		return end == TRANSLATE_SOURCE;
	if (type == ICMP_ECHO_REPLY || type == ICMP_TIMESTAMP_REPLY || type == ICMPV6_ECHO_REPLY)
		return end == TRANSLATE_DESTINATION;
	return 0;
}

/* ---- the slow ways: everything by helpers ------------------------------------------------------------------------ */

/* An ICMP error. The quoted packet travelled the other way, so its other end is the one. Errors' checksums are always
 * complete, and make up for all that is changed here. */
NOINLINE int translate_quoted(struct __sk_buff *skb, struct flow *f, __u32 end, const struct address *to, __u32 port32)
{
	__u16 port = port32, old_port, value, fresh;
	struct address own = {};
	__u32 quote, l4, at;
	__u64 change = 0, l4_change;
	__u8 h[20];

	if (!f || !to)
		return DROPPED(DROP_INVALID);
	quote = f->l4_offset + 8;
	l4 = f->quoted_offset;
	old_port = flow_port(f, end);
	l4_change = sum_change_address(flow_address(f, end), to);
	if (f->flags & FLOW_IPV6) {
		if (bpf_skb_store_bytes(skb, quote + (end == TRANSLATE_SOURCE ? 24 : 8), to, 16, 0))
			return DROPPED(DROP_WRITE_ERROR);
		change += l4_change;
		/* The error's own address. */
		at = ETHERNET_LENGTH + (end == TRANSLATE_SOURCE ? 8 : 24);
		if (bpf_skb_load_bytes(skb, at, &own, 16))
			return DROPPED(DROP_INVALID);
		if (own.halves[0] == flow_address(f, end)->halves[0] && own.halves[1] == flow_address(f, end)->halves[1]) {
			if (bpf_skb_store_bytes(skb, at, to, 16, 0))
				return DROPPED(DROP_WRITE_ERROR);
			change += l4_change;
		}
	} else {
		if (bpf_skb_load_bytes(skb, quote, h, 20))
			return DROPPED(DROP_INVALID);
		/* Header and its checksum together change nothing. */
		value = checksum_change(LOAD16(h + 10), l4_change);
		if (bpf_skb_store_bytes(skb, quote + 10, &value, 2, 0) ||
		    bpf_skb_store_bytes(skb, quote + (end == TRANSLATE_SOURCE ? 16 : 12), &to->words[3], 4, 0))
			return DROPPED(DROP_WRITE_ERROR);
		change += sum_change16(LOAD16(h + 10), value) + l4_change;
		at = ETHERNET_LENGTH + (end == TRANSLATE_SOURCE ? 12 : 16);
		if (bpf_skb_load_bytes(skb, at, &own.words[3], 4))
			return DROPPED(DROP_INVALID);
		if (own.words[3] == flow_address(f, end)->words[3]) {
			if (bpf_l3_csum_replace(skb, ETHERNET_LENGTH + 10, 0, sum_fold32(l4_change), 0) ||
			    bpf_skb_store_bytes(skb, at, &to->words[3], 4, 0))
				return DROPPED(DROP_WRITE_ERROR);
		}
	}
	/* Eight bytes of the upper layer are always quoted (quoted_ports() has read them). */
	if (bpf_skb_load_bytes(skb, l4, h, 8))
		return DROPPED(DROP_INVALID);
	at = 0;
	if (f->key.protocol == PROTOCOL_ICMP || f->key.protocol == PROTOCOL_ICMPV6) {
		if (f->key.protocol == PROTOCOL_ICMP)
			l4_change = 0;
		if (icmp_id_at(h[0], !end)) {
			if (bpf_skb_store_bytes(skb, l4 + 4, &port, 2, 0))
				return DROPPED(DROP_WRITE_ERROR);
			change += sum_change16(old_port, port);
			l4_change += sum_change16(old_port, port);
		}
		at = l4 + 2;
	} else {
		if (bpf_skb_store_bytes(skb, l4 + (end == TRANSLATE_SOURCE ? 2 : 0), &port, 2, 0))
			return DROPPED(DROP_WRITE_ERROR);
		change += sum_change16(old_port, port);
		l4_change += sum_change16(old_port, port);
		if (f->key.protocol == PROTOCOL_TCP)
			at = l4 + 16;
		else if (f->key.protocol == PROTOCOL_UDP && LOAD16(h + 6))
			at = l4 + 6;
	}
	/* The quoted checksum; TCP's is often not quoted. */
	if (at && !bpf_skb_load_bytes(skb, at, &value, 2)) {
		fresh = checksum_change(value, l4_change);
		if (!fresh && f->key.protocol == PROTOCOL_UDP)
			fresh = 0xffff;
		if (bpf_skb_store_bytes(skb, at, &fresh, 2, 0))
			return DROPPED(DROP_WRITE_ERROR);
		change += sum_change16(value, fresh);
	}
	if (bpf_skb_load_bytes(skb, f->l4_offset + 2, &value, 2))
		return DROPPED(DROP_INVALID);
	value = checksum_change(value, change);
	return bpf_skb_store_bytes(skb, f->l4_offset + 2, &value, 2, 0) ? DROPPED(DROP_WRITE_ERROR) : 0;
}

/* With IPv4 options or IPv6 extension headers. */
NOINLINE int translate_slow(struct __sk_buff *skb, struct flow *f, __u32 end, const struct address *to, __u32 port32)
{
	__u32 l4, at = 0, port_at, flags = 0, change;
	__u16 port = port32, old_port, value;
	__u8 type;

	if (!f || !to)
		return DROPPED(DROP_INVALID);
	l4 = f->l4_offset;
	old_port = flow_port(f, end);
	change = sum_fold32(sum_change_address(flow_address(f, end), to));
	/* bpf_l4_csum_replace() takes the addresses off a sum over the whole packet, which is right for IPv4 only; storing
	 * with BPF_F_RECOMPUTE_CSUM adds them again. */
	if (f->flags & FLOW_IPV6) {
		if (bpf_skb_store_bytes(skb, ETHERNET_LENGTH + (end == TRANSLATE_SOURCE ? 8 : 24), to, 16, BPF_F_RECOMPUTE_CSUM))
			return DROPPED(DROP_WRITE_ERROR);
	} else if (bpf_l3_csum_replace(skb, ETHERNET_LENGTH + 10, 0, change, 0) ||
		   bpf_skb_store_bytes(skb, ETHERNET_LENGTH + (end == TRANSLATE_SOURCE ? 12 : 16), &to->words[3], 4, 0)) {
		return DROPPED(DROP_WRITE_ERROR);
	}
	if (f->flags & FLOW_FRAGMENT)
		return 0;
	port_at = l4 + (end == TRANSLATE_SOURCE ? 0 : 2);
	switch (f->protocol) {
	case PROTOCOL_TCP:
		at = l4 + 16;
		break;
	case PROTOCOL_UDP:
		if (bpf_skb_load_bytes(skb, l4 + 6, &value, 2))
			return DROPPED(DROP_INVALID);
		if (!value)
			break;
		at = l4 + 6;
		flags = BPF_F_MARK_MANGLED_0;
		break;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		at = l4 + 2;
		port_at = 0;
		if (bpf_skb_load_bytes(skb, l4, &type, 1))
			return DROPPED(DROP_INVALID);
		if (icmp_id_at(type, end))
			port_at = l4 + 4;
		break;
	default:
		return 0;
	}
	if (at && f->protocol != PROTOCOL_ICMP && bpf_l4_csum_replace(skb, at, 0, change, flags | BPF_F_PSEUDO_HDR))
		return DROPPED(DROP_WRITE_ERROR);
	if (!port_at)
		return 0;
	if (at && bpf_l4_csum_replace(skb, at, 0, sum_fold32(sum_change16(old_port, port)), flags))
		return DROPPED(DROP_WRITE_ERROR);
	return bpf_skb_store_bytes(skb, port_at, &port, 2, at ? 0 : BPF_F_RECOMPUTE_CSUM) ? DROPPED(DROP_WRITE_ERROR) : 0;
}

/* ---- the fast way -------------------------------------------------------------------------------------------------- */

/* The upper layer at `offset`, a constant; the addresses are in place. `check`, `port_at`: where in it. `length` (be): of
 * the upper layer. */
INLINE int translate_l4(struct __sk_buff *skb, const struct flow *f, __u32 offset, __u32 check, __u32 port_at, __u64 addresses,
			__u16 old_port, __u16 port, __u16 length)
{
	__u32 flags = check == 6 ? BPF_F_MARK_MANGLED_0 : 0;
	__u64 ports = sum_change16(old_port, port);
	__u8 *h = packet_start(skb) + offset;
	__u16 value, partial;

	if (h + check + 2 > (__u8 *)packet_end(skb))
		return DROPPED(DROP_INVALID);
	*(__u16 *)(h + port_at) = port;
	value = LOAD16(h + check);
	if (check == 6 && !value) {
		bpf_csum_update(skb, sum_fold32(f->flags & FLOW_IPV6 ? addresses + ports : ports));
		return 0;
	}
	partial = sum_fold16(sum_address(&f->key.lo) + sum_address(&f->key.hi) + bpf_htons(f->protocol) + length);
	if (likely(value != partial && !skb->gso_size)) {
		value = checksum_change(value, addresses + ports);
		if (check == 6 && !value)
			value = 0xffff;
		*(__u16 *)(h + check) = value;
		if (!(f->flags & FLOW_IPV6))
			bpf_csum_update(skb, ~sum_fold32(addresses));
		return 0;
	}
	if (bpf_l4_csum_replace(skb, offset + check, 0, sum_fold32(addresses), flags | BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, offset + check, 0, sum_fold32(ports), flags))
		return DROPPED(DROP_WRITE_ERROR);
	if (f->flags & FLOW_IPV6)
		bpf_csum_update(skb, sum_fold32(addresses));
	return 0;
}

INLINE int translate_upper(struct __sk_buff *skb, const struct flow *f, __u32 offset, __u32 end, __u64 addresses, __u16 port,
			   __u16 length)
{
	__u16 old_port = flow_port(f, end);
	__u64 change;
	__u8 *h;

	if (f->flags & FLOW_FRAGMENT)
		goto addresses_only;
	switch (f->protocol) {
	case PROTOCOL_TCP:
		if (end == TRANSLATE_SOURCE)
			return translate_l4(skb, f, offset, 16, 0, addresses, old_port, port, length);
		return translate_l4(skb, f, offset, 16, 2, addresses, old_port, port, length);
	case PROTOCOL_UDP:
		if (end == TRANSLATE_SOURCE)
			return translate_l4(skb, f, offset, 6, 0, addresses, old_port, port, length);
		return translate_l4(skb, f, offset, 6, 2, addresses, old_port, port, length);
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		h = packet_start(skb) + offset;
		if (h + 8 > (__u8 *)packet_end(skb))
			return DROPPED(DROP_INVALID);
		/* The kernel never leaves these to a device. */
		change = f->flags & FLOW_IPV6 ? addresses : 0;
		if (icmp_id_at(h[0], end)) {
			*(__u16 *)(h + 4) = port;
			change += sum_change16(old_port, port);
		}
		*(__u16 *)(h + 2) = checksum_change(LOAD16(h + 2), change);
		return 0;
	}
addresses_only:
	if (f->flags & FLOW_IPV6)
		bpf_csum_update(skb, sum_fold32(addresses));
	return 0;
}

/* Rewrites one end (TRANSLATE_*) of the packet to `to` and `port` (be; ICMP: the id, where this end has it; SCTP: its own,
 * the checksum covers it). Key and ports of `f` follow. Returns 0 or a drop. */
NOINLINE int translate(struct __sk_buff *skb, struct flow *f, __u32 end, const struct address *to, __u32 port)
{
	__u64 addresses;
	__u16 length;
	int code;
	__u8 *p;

	if (!f || !to)
		return DROPPED(DROP_INVALID);
	if (f->flags & FLOW_RELATED) {
		code = translate_quoted(skb, f, end, to, port);
	} else if (f->flags & FLOW_IPV6) {
		if (f->l4_offset != ETHERNET_LENGTH + 40) {
			code = translate_slow(skb, f, end, to, port);
			goto out;
		}
		p = packet_start(skb) + ETHERNET_LENGTH;
		if (p + 40 > (__u8 *)packet_end(skb))
			return DROPPED(DROP_INVALID);
		addresses = sum_change_address(flow_address(f, end), to);
		if (end == TRANSLATE_SOURCE) {
			*(__u64 *)(p + 8) = to->halves[0];
			*(__u64 *)(p + 16) = to->halves[1];
		} else {
			*(__u64 *)(p + 24) = to->halves[0];
			*(__u64 *)(p + 32) = to->halves[1];
		}
		code = translate_upper(skb, f, ETHERNET_LENGTH + 40, end, addresses, port, LOAD16(p + 4));
	} else {
		if (f->l4_offset != ETHERNET_LENGTH + 20) {
			code = translate_slow(skb, f, end, to, port);
			goto out;
		}
		p = packet_start(skb) + ETHERNET_LENGTH;
		if (p + 20 > (__u8 *)packet_end(skb))
			return DROPPED(DROP_INVALID);
		addresses = (__u64)(__u32)~flow_address(f, end)->words[3] + to->words[3];
		*(__u16 *)(p + 10) = checksum_change(LOAD16(p + 10), addresses);
		if (end == TRANSLATE_SOURCE)
			*(__u32 *)(p + 12) = to->words[3];
		else
			*(__u32 *)(p + 16) = to->words[3];
		length = bpf_htons(bpf_ntohs(LOAD16(p + 2)) - 20);
		code = translate_upper(skb, f, ETHERNET_LENGTH + 20, end, addresses, port, length);
	}
out:
	if (code)
		return code;
	if (f->key.protocol == PROTOCOL_SCTP)
		port = flow_port(f, end);
	flow_set_end(f, end, to, port);
	return 0;
}
#undef FILE_ID
