/* Rewriting at XDP: there are no helpers for checksums here, and none is needed, because they are complete. */
#pragma once

#include "conntrack.h"
#include "dsr.h"
#include "xdp_packet.h"

/* Source, destination and ports of the upper layer, whose checksum is at `check` (6: UDP). The sum of the pseudo header
 * alone stands where a device was to finish it: then nothing is done, and 0. `length` (be): of the upper layer. */
INLINE int xdp_rewrite_l4(const struct nat_scratch *s, __u8 *h, const void *end, __u32 check, __u64 addresses, __u16 length)
{
	const struct nat_entry *e = &s->entry;
	__u16 value;

	if (h + check + 2 > (__u8 *)end)
		return 0;
	value = LOAD16(h + check);
	if (value == sum_fold16(sum_address(&s->key.source) + sum_address(&s->key.destination) +
				bpf_htons(s->key.protocol) + length))
		return 0;
	if (check == 6 && !value) {
		/* Without one, which IPv6 does not know. */
		if (s->flow.flags & FLOW_IPV6)
			return 0;
	} else {
		value = checksum_change(value, addresses + sum_change16(s->key.port_source, e->port_source) +
						       sum_change16(s->key.port_destination, e->port_destination));
		if (check == 6 && !value)
			value = 0xffff;
		*(__u16 *)(h + check) = value;
	}
	*(__u16 *)h = e->port_source;
	*(__u16 *)(h + 2) = e->port_destination;
	return 1;
}

/* Scratch's packet becomes what scratch's entry says, one hop older. 0: nothing was changed. */
INLINE int xdp_rewrite(const struct xdp_md *ctx, const struct nat_scratch *s)
{
	__u8 *h = (__u8 *)xdp_start(ctx) + ETHERNET_LENGTH;
	const struct nat_entry *e = &s->entry;
	void *end = xdp_end(ctx);
	__u64 addresses;
	__u16 old;

	addresses = sum_change_address(&s->key.source, &e->source) + sum_change_address(&s->key.destination, &e->destination);
	if (s->flow.flags & FLOW_IPV6) {
		if (h + 40 > (__u8 *)end)
			return 0;
		if (s->key.protocol == PROTOCOL_TCP ? !xdp_rewrite_l4(s, h + 40, end, 16, addresses, LOAD16(h + 4)) :
						      !xdp_rewrite_l4(s, h + 40, end, 6, addresses, LOAD16(h + 4)))
			return 0;
		h[7]--;
		*(__u64 *)(h + 8) = e->source.halves[0];
		*(__u64 *)(h + 16) = e->source.halves[1];
		*(__u64 *)(h + 24) = e->destination.halves[0];
		*(__u64 *)(h + 32) = e->destination.halves[1];
		return 1;
	}
	if (h + 20 > (__u8 *)end)
		return 0;
	old = bpf_htons(bpf_ntohs(LOAD16(h + 2)) - 20);
	if (s->key.protocol == PROTOCOL_TCP ? !xdp_rewrite_l4(s, h + 20, end, 16, addresses, old) :
					      !xdp_rewrite_l4(s, h + 20, end, 6, addresses, old))
		return 0;
	old = LOAD16(h + 8);
	h[8]--;
	*(__u16 *)(h + 10) = checksum_change(LOAD16(h + 10), addresses + sum_change16(old, LOAD16(h + 8)));
	*(__u32 *)(h + 12) = e->source.words[3];
	*(__u32 *)(h + 16) = e->destination.words[3];
	return 1;
}

/* The option of dsr.h, between header and upper layer; the Ethernet header is the caller's. */
NOINLINE int xdp_dsr_ipv4(struct xdp_md *ctx)
{
	struct nat_scratch *s = nat_scratch();
	__u8 *p = xdp_start(ctx);
	__u32 h[7], i;
	__u64 sum = 0;

	if (!s || p + ETHERNET_LENGTH + 20 > (__u8 *)xdp_end(ctx))
		return 0;
	for (i = 0; i < 5; i++)
		h[i] = LOAD32(p + ETHERNET_LENGTH + i * 4);
	if (bpf_xdp_adjust_head(ctx, -DSR_IPV4_LENGTH))
		return 0;
	/* Version, length, service, total length; then the checksum; then the option. */
	h[0] = bpf_htonl(bpf_ntohl(h[0]) + ((DSR_IPV4_LENGTH / 4) << 24) + DSR_IPV4_LENGTH);
	h[2] &= bpf_htonl(0xffff0000);
	h[5] = bpf_htonl(DSR_IPV4_OPTION << 24 | DSR_IPV4_LENGTH << 16 | bpf_ntohs(s->key.port_destination));
	h[6] = s->key.destination.words[3];
	for (i = 0; i < 7; i++)
		sum += h[i];
	h[2] |= (__u32)(__u16)~sum_fold16(sum) << 16;
	p = xdp_start(ctx);
	if (p + ETHERNET_LENGTH + sizeof(h) > (__u8 *)xdp_end(ctx))
		return 0;
	for (i = 0; i < 7; i++)
		*(__u32 *)(p + ETHERNET_LENGTH + i * 4) = h[i];
	return 1;
}

NOINLINE int xdp_dsr_ipv6(struct xdp_md *ctx)
{
	struct nat_scratch *s = nat_scratch();
	__u8 *p = xdp_start(ctx);
	__u32 h[10], i;

	if (!s || p + ETHERNET_LENGTH + 40 > (__u8 *)xdp_end(ctx))
		return 0;
	for (i = 0; i < 10; i++)
		h[i] = LOAD32(p + ETHERNET_LENGTH + i * 4);
	if (bpf_xdp_adjust_head(ctx, -DSR_IPV6_LENGTH))
		return 0;
	p = xdp_start(ctx);
	if (p + ETHERNET_LENGTH + 40 + DSR_IPV6_LENGTH > (__u8 *)xdp_end(ctx))
		return 0;
	p += ETHERNET_LENGTH;
	for (i = 0; i < 10; i++)
		*(__u32 *)(p + i * 4) = h[i];
	*(__u16 *)(p + 4) = bpf_htons(bpf_ntohs(LOAD16(p + 4)) + DSR_IPV6_LENGTH);
	p[40] = p[6];
	p[6] = DSR_IPV6_NEXT;
	p[41] = DSR_IPV6_LENGTH / 8 - 1;
	p[42] = DSR_IPV6_OPTION;
	p[43] = DSR_IPV6_LENGTH - 4;
	for (i = 0; i < 4; i++)
		*(__u32 *)(p + 44 + i * 4) = s->key.destination.words[i];
	*(__u32 *)(p + 60) = s->key.port_destination;
	return 1;
}
