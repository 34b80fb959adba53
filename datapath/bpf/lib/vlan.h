/* VLAN tags. The kernel takes the outermost tag off a frame before any program looks, and keeps it beside the packet
 * (skb->vlan_present); a second one (QinQ), or one that no device understood, is still in the frame. To a program that looks at
 * the packet alone a tagged frame is an untagged one, of another network.
 *
 *   endpoint's device, tunnel   no tags at all, not even a priority tag (VLAN 0)
 *   outer device                weir_vlans says which go past the programs, to and from the node's own VLAN devices: their
 *                               network is not the endpoints'. VLAN 0 is no VLAN: judged as untagged.
 *   everything else             dropped with 166
 *
 * XDP sees a tag only in the frame: what is tagged there is left to from_netdev.
 */
#pragma once

#include "events.h"

#define FILE_ID FILE_VLAN

#define VLAN_UNTAGGED (-1)
#define VLAN_ID_MASK 0xfff

INLINE int is_vlan_ethertype(__u16 type)
{
	return type == bpf_htons(0x8100) || type == bpf_htons(0x88a8) || type == bpf_htons(0x9100) ||
	       type == bpf_htons(0x9200);
}

/* `p`: the frame, its Ethernet header in bounds. */
INLINE int is_tagged(const struct __sk_buff *skb, const __u8 *p)
{
	__u16 type = LOAD16(p + 12);

	return unlikely(skb->vlan_present) ||
	       (type != ETHERTYPE_IPV4 && type != ETHERTYPE_IPV6 && is_vlan_ethertype(type));
}

/* A tagged frame at an outer device, `flags`: FLOW_INGRESS | FLOW_NETWORK, or 0. A verdict, or VLAN_UNTAGGED: it has only a
 * priority, which is taken off here so that no endpoint gets it. */
NOINLINE int vlan_judge(struct __sk_buff *skb, __u32 flags)
{
	struct flow f = { .flags = flags };
	struct vlan_key key = { .ifindex = skb->ifindex };
	__u16 h[2];

	if (skb->vlan_present) {
		key.vlan = skb->vlan_tci & VLAN_ID_MASK;
	} else {
		if (bpf_skb_load_bytes(skb, 12, h, sizeof(h)))
			return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
		key.vlan = bpf_ntohs(h[1]) & VLAN_ID_MASK;
	}
	if (key.vlan) {
		if (bpf_map_lookup_elem(&weir_vlans, &key))
			return PASS;
		return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
	}
	if (bpf_skb_vlan_pop(skb) || skb->vlan_present || bpf_skb_load_bytes(skb, 12, h, sizeof(h)) ||
	    is_vlan_ethertype(h[0]))
		return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
	return VLAN_UNTAGGED;
}

/* At the tunnel's device: no node sends tags. */
NOINLINE int vlan_refuse(struct __sk_buff *skb, __u32 flags)
{
	struct flow f = { .flags = flags };

	return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
}
#undef FILE_ID
