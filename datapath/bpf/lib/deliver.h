/* Sends a packet on: into an endpoint, through the tunnel, out of the node. */
#pragma once

#include "events.h"
#include "fib.h"
#include "sender.h"

#define FILE_ID FILE_DELIVER

/* One hop: TTL or hop limit minus one. 0 or a drop. */
INLINE int hop(struct __sk_buff *skb, const struct flow *f)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;
	void *end = packet_end(skb);
	__u32 sum;
	__u8 left;

	if (f->flags & FLOW_IPV6) {
		if (p + 40 > (__u8 *)end)
			return DROPPED(DROP_INVALID);
		left = p[7];
		if (left <= 1)
			return DROPPED(DROP_TTL_EXCEEDED);
		left--;
		/* A device may have summed up the whole packet (CHECKSUM_COMPLETE); IPv4's header sums up to zero with
		 * its checksum, IPv6's has none: there the sum must follow. */
		if (f->flags & FLOW_NETWORK)
			return bpf_skb_store_bytes(skb, ETHERNET_LENGTH + 7, &left, 1, BPF_F_RECOMPUTE_CSUM) ?
				       DROPPED(DROP_WRITE_ERROR) :
				       0;
		p[7] = left;
		return 0;
	}
	if (p + 20 > (__u8 *)end)
		return DROPPED(DROP_INVALID);
	if (p[8] <= 1)
		return DROPPED(DROP_TTL_EXCEEDED);
	p[8]--;
	/* RFC 1624: the high byte of a word fell by one, so the sum grows by one there. */
	sum = LOAD16(p + 10) + bpf_htons(0x0100);
	*(__u16 *)(p + 10) = sum + (sum >= 0xffff);
	return 0;
}

/* A packet that has no hop left is reported as dropped, and left to the host's stack: that drops it in our place and
 * tells the sender so (time exceeded), which is what traceroute lives on. Anything else is dropped here. */
INLINE int drop_or_exceed(struct __sk_buff *skb, struct flow *f, int code)
{
	int verdict = drop(skb, f, code);

	if (DROP_REASON(code) != DROP_TTL_EXCEEDED)
		return verdict;
	/* From the tunnel, addressed to the pod: the stack would not look at it. */
	if ((f->flags & FLOW_NETWORK) && skb->pkt_type != PACKET_TYPE_HOST)
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
	return PASS;
}

/* Into an endpoint of this node. */
INLINE int deliver_local(struct __sk_buff *skb, struct flow *f, const struct endpoint *to)
{
	__u32 l2[3];
	__u8 *p;
	int code;

	/* Four bytes at a time: mac and host_mac lie together in the record as they do in the frame. */
	l2[0] = LOAD32(&to->mac[0]);
	l2[1] = LOAD32(&to->mac[4]);
	l2[2] = LOAD32(&to->host_mac[2]);
	code = hop(skb, f);
	if (code)
		return drop_or_exceed(skb, f, code);
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_INVALID));
	*(__u32 *)p = l2[0];
	*(__u32 *)(p + 4) = l2[1];
	*(__u32 *)(p + 8) = l2[2];
	if ((f->flags & FLOW_NETWORK) && skb->pkt_type != PACKET_TYPE_HOST)
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
	count(0, 0, DIRECTION_INGRESS, skb->len);
	count_received(0, f->destination_endpoint, skb->len);
	if (to->flags & ENDPOINT_PEER)
		return bpf_redirect_peer(to->ifindex, 0);
	/* Through the device's own egress hook, which is not to ask again. */
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(to->ifindex, 0);
}

/* Who an endpoint of this node (record 0: none) is in the tunnel's header. */
INLINE void wire_of(struct flow *f, const struct endpoint *own)
{
	if (own && unlikely(own->wire))
		f->source_identity = own->wire;
}

/* From this node's own address, by which the others know it, whatever the routing table would take. */
INLINE int tunnel_key(struct __sk_buff *skb, const struct flow *f, const struct config *config)
{
	struct bpf_tunnel_key key = { .tunnel_id = wire_identity(f->source_identity), .tunnel_ttl = 64 };
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (f->node.words[0] || f->node.words[1] || f->node.words[2] != 0xffff0000u) {
		key.remote_ipv6[0] = f->node.words[0];
		key.remote_ipv6[1] = f->node.words[1];
		key.remote_ipv6[2] = f->node.words[2];
		key.remote_ipv6[3] = f->node.words[3];
		key.local_ipv6[0] = config->ipv6.words[0];
		key.local_ipv6[1] = config->ipv6.words[1];
		key.local_ipv6[2] = config->ipv6.words[2];
		key.local_ipv6[3] = config->ipv6.words[3];
		/* IPv6 takes no UDP without a checksum (RFC 6935 is for devices that are told so). */
		flags = BPF_F_TUNINFO_IPV6;
	} else {
		key.remote_ipv4 = bpf_ntohl(f->node.words[3]);
		key.local_ipv4 = bpf_ntohl(config->ipv4);
	}
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) ? DROPPED(DROP_WRITE_ERROR) : 0;
}

INLINE int deliver_tunnel(struct __sk_buff *skb, struct flow *f, const struct config *config)
{
	int code = hop(skb, f);

	/* An answer takes the frontend's address in to_overlay, which is this node's. */
	if (f->flags & FLOW_REPLY_NAT)
		f->source_identity = IDENTITY_HOST;
	if (!code)
		code = tunnel_key(skb, f, config);
	if (code)
		return drop_or_exceed(skb, f, code);
	skb->mark = f->flags & FLOW_REPLY_NAT ? MARK_OVERLAY_REPLY : MARK_OVERLAY;
	return bpf_redirect(config->tunnel_ifindex, 0);
}

/* Direct routing without the host's stack: the kernel finds the next hop and its address. */
INLINE int deliver_neighbour(struct __sk_buff *skb, struct flow *f, const struct config *config)
{
	int code = hop(skb, f);

	if (code)
		return drop_or_exceed(skb, f, code);
	/* To another node: no business of to_netdev, unless it is an answer that is to come from a frontend. */
	if (!(f->flags & FLOW_REPLY_NAT))
		skb->mark = MARK_TRANSLATED;
	return bpf_redirect_neigh(config->outer_ifindex, 0, 0, 0);
}
#undef FILE_ID
