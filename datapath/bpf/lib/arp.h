/* ARP of endpoints: the gateway is always at the host side of their own device. An endpoint speaks of its own address at
 * its own MAC only (one without source check: of no address that is somebody else's), in the frame and in the message. */
#pragma once

#include "deliver.h"

#define FILE_ID FILE_ARP

#define ARP_LENGTH (ETHERNET_LENGTH + 28)
#define ARP_REQUEST bpf_htons(1)
#define ARP_REPLY bpf_htons(2)

/* Has somebody else the address? */
INLINE int arp_taken(__u32 ipv4, const struct endpoint *own, __u32 id)
{
	struct address a = { .halves = { 0, mapped(ipv4) } };
	const struct address_owner *owner;

	if (ipv4 == own->ipv4)
		return 0;
	if (!(own->flags & ENDPOINT_NO_SOURCE_CHECK))
		return 1;
	owner = bpf_map_lookup_elem(&weir_addresses, &a);
	return owner && owner->endpoint != id;
}

/* To an endpoint, from the host: in nobody's name who is another endpoint. A verdict. */
NOINLINE int arp_to_endpoint(struct __sk_buff *skb, struct flow *f)
{
	const struct address_owner *owner;
	struct address sender = {};
	__u32 ipv4;

	if (!f)
		return SHOT;
	if (bpf_skb_load_bytes(skb, 28, &ipv4, 4))
		return drop(skb, f, DROPPED(DROP_INVALID));
	sender.halves[1] = mapped(ipv4);
	owner = bpf_map_lookup_elem(&weir_addresses, &sender);
	if (owner && owner->endpoint && owner->endpoint != f->hook_endpoint)
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	count(0, 0, DIRECTION_INGRESS, skb->len);
	return PASS;
}

/* Offsets in the frame: operation 20, sender MAC 22, sender address 28, target MAC 32, target address 38. */
INLINE int arp_from_endpoint(struct __sk_buff *skb, struct flow *f, const struct config *config,
			     const struct endpoint *own)
{
	__u32 sender, target;
	__u16 operation;
	__u8 *p;

	if (!reach(skb, 1, ARP_LENGTH))
		return drop(skb, f, DROPPED(DROP_INVALID));
	p = packet_start(skb);
	if (p + ARP_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_INVALID));
	operation = LOAD16(p + 20);
	/* Ethernet, IPv4, their address lengths */
	if (LOAD16(p + 14) != bpf_htons(1) || LOAD16(p + 16) != ETHERTYPE_IPV4 || LOAD16(p + 18) != bpf_htons(0x0604) ||
	    (operation != ARP_REQUEST && operation != ARP_REPLY))
		return drop(skb, f, DROPPED(DROP_INVALID));
	sender = LOAD32(p + 28);
	target = LOAD32(p + 38);
	/* 0: a probe whether an address is free (RFC 5227); the one that it may have, or the gateway's as everybody may. */
	if (!sender && (operation != ARP_REQUEST ||
			(target != config->gateway_ipv4 && arp_taken(target, own, f->hook_endpoint))))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	if (sender && arp_taken(sender, own, f->hook_endpoint))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	p = packet_start(skb);
	if (p + ARP_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_INVALID));
	if (!(own->flags & ENDPOINT_NO_SOURCE_CHECK) &&
	    (LOAD32(p + 6) != LOAD32(&own->mac[0]) || LOAD16(p + 10) != LOAD16(&own->mac[4])))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	if (LOAD32(p + 22) != LOAD32(p + 6) || LOAD16(p + 26) != LOAD16(p + 10))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	count(0, 0, DIRECTION_EGRESS, skb->len);
	if (operation != ARP_REQUEST || target != config->gateway_ipv4 || !sender)
		return PASS;
	*(__u16 *)(p + 20) = ARP_REPLY;
	/* back to the sender: target is who asked, sender is us */
	*(__u32 *)(p + 32) = LOAD32(p + 22);
	*(__u16 *)(p + 36) = LOAD16(p + 26);
	*(__u32 *)(p + 38) = sender;
	*(__u32 *)(p + 22) = LOAD32(&own->host_mac[0]);
	*(__u16 *)(p + 26) = LOAD16(&own->host_mac[4]);
	*(__u32 *)(p + 28) = target;
	*(__u32 *)p = LOAD32(p + 32);
	*(__u16 *)(p + 4) = LOAD16(p + 36);
	*(__u32 *)(p + 6) = LOAD32(&own->host_mac[0]);
	*(__u16 *)(p + 10) = LOAD16(&own->host_mac[4]);
	skb->mark = MARK_DELIVERED;
	return bpf_redirect(skb->ifindex, 0);
}
#undef FILE_ID
