/* ARP of endpoints: the gateway is always at the host side of their own device. */
#pragma once

#include "deliver.h"

#define FILE_ID FILE_ARP

#define ARP_LENGTH (ETHERNET_LENGTH + 28)
#define ARP_REQUEST bpf_htons(1)
#define ARP_REPLY bpf_htons(2)

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
	/* 0: a probe whether an address is free */
	if (sender && sender != own->ipv4 && !(own->flags & ENDPOINT_NO_SOURCE_CHECK))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	count(f, 0, DIRECTION_EGRESS, skb->len);
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
