/* Packets at XDP: what they are, as far as they are plain. Key and flow go into scratch, as those of tc do. */
#pragma once

#include "l4.h"
#include "nat.h"
#include "translate.h"

/* As packet_start() and packet_end(). */
INLINE void *xdp_start(const struct xdp_md *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(offsetof(struct xdp_md, data)));
	return p;
}

INLINE void *xdp_end(const struct xdp_md *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(offsetof(struct xdp_md, data_end)));
	return p;
}

INLINE __u32 xdp_length(const struct xdp_md *ctx)
{
	return (__u32)(xdp_end(ctx) - xdp_start(ctx));
}

/* The upper layer at `h`: ports and flags. 0: not plain. */
INLINE int xdp_parse_l4(struct nat_scratch *s, const __u8 *h, const void *end, __u32 left)
{
	struct flow *f = &s->flow;

	if (f->protocol == PROTOCOL_TCP) {
		if (left < 20 || h + 20 > (__u8 *)end || l4_tcp(f, h, left))
			return 0;
	} else {
		if (f->protocol != PROTOCOL_UDP || left < 8 || h + 8 > (__u8 *)end || l4_udp(f, h, left))
			return 0;
	}
	s->key.port_source = f->port_source;
	s->key.port_destination = f->port_destination;
	s->key.protocol = f->protocol;
	return 1;
}

INLINE int xdp_parse_ipv4(struct nat_scratch *s, const __u8 *h, const void *end, __u32 length)
{
	__u32 total, source, destination;

	if (h + 20 > (__u8 *)end)
		return 0;
	total = bpf_ntohs(LOAD16(h + 2));
	source = LOAD32(h + 12);
	destination = LOAD32(h + 16);
	if (h[0] != 0x45 || (LOAD16(h + 6) & bpf_htons(0x3fff)) || h[8] <= 1 || total < 20 || total > length || !source ||
	    (source & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000) ||
	    sum_fold16((__u64)LOAD32(h) + LOAD32(h + 4) + LOAD32(h + 8) + source + destination) != 0xffff)
		return 0;
	s->key.source.halves[0] = 0;
	s->key.source.halves[1] = mapped(source);
	s->key.destination.halves[0] = 0;
	s->key.destination.halves[1] = mapped(destination);
	s->flow.protocol = h[9];
	return xdp_parse_l4(s, h + 20, end, total - 20);
}

INLINE int xdp_parse_ipv6(struct nat_scratch *s, const __u8 *h, const void *end, __u32 length)
{
	__u32 left;

	if (h + 40 > (__u8 *)end)
		return 0;
	left = bpf_ntohs(LOAD16(h + 4));
	s->key.source.halves[0] = LOAD64(h + 8);
	s->key.source.halves[1] = LOAD64(h + 16);
	s->key.destination.halves[0] = LOAD64(h + 24);
	s->key.destination.halves[1] = LOAD64(h + 32);
	/* Nobody's, everybody's, a link's own; an IPv4 one, which would be taken for IPv4's flow. */
	if ((h[0] >> 4) != 6 || h[7] <= 1 || !left || left + 40 > length || h[8] == 0xff || h[8] == 0xfe || h[24] == 0xff ||
	    h[24] == 0xfe || is_mapped(&s->key.source) || is_mapped(&s->key.destination) || !(s->key.source.halves[0] | s->key.source.halves[1]))
		return 0;
	s->flow.protocol = h[6];
	return xdp_parse_l4(s, h + 40, end, left);
}

/* Key and flow of scratch. 1: TCP or UDP as plain as most is; 0: the rest. */
INLINE int xdp_parse(const struct xdp_md *ctx, struct nat_scratch *s)
{
	const __u8 *p = xdp_start(ctx);
	const void *end = xdp_end(ctx);
	struct flow *f = &s->flow;

	if (p + ETHERNET_LENGTH > (__u8 *)end)
		return 0;
	f->tcp_flags = 0;
	s->key.pad[0] = 0;
	s->key.pad[1] = 0;
	s->key.pad[2] = 0;
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		f->flags = FLOW_INGRESS | FLOW_NETWORK;
		return xdp_parse_ipv4(s, p + ETHERNET_LENGTH, end, xdp_length(ctx) - ETHERNET_LENGTH);
	case ETHERTYPE_IPV6:
		f->flags = FLOW_INGRESS | FLOW_NETWORK | FLOW_IPV6;
		return xdp_parse_ipv6(s, p + ETHERNET_LENGTH, end, xdp_length(ctx) - ETHERNET_LENGTH);
	}
	return 0;
}
