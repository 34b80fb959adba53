/* Direct server return: the frontend travels beside the client's packet, so that the backend's node can answer in its
 * name.
 *
 *   IPv4 option, 8 bytes behind the fixed header:     0x9a  8  port(be)  address
 *   IPv6 destination option, 24 bytes, as the first:  next  2  0x1b  20  address ........  port(be)  0 0
 *
 * Both say "skip me if you do not know me" to everybody else. The option stays in the packet: sockets do not look at it,
 * and it is in the first packets of a flow only (TCP: SYN).
 */
#pragma once

#include "sender.h"
#include "service.h"
#include "translate.h"

#define FILE_ID FILE_NODE_PORT

#define DSR_IPV4_OPTION 0x9a
#define DSR_IPV4_LENGTH 8
#define DSR_IPV6_OPTION 0x1b
#define DSR_IPV6_LENGTH 24
#define DSR_IPV6_NEXT 60 /* destination options */

INLINE int has_options(const struct flow *f)
{
	return f->l4_offset != ETHERNET_LENGTH + (f->flags & FLOW_IPV6 ? 40 : 20);
}

/* Whether the packet can carry the option. */
INLINE int dsr_fits(const struct __sk_buff *skb, const struct flow *f, const struct config *config)
{
	__u32 room = f->flags & FLOW_IPV6 ? DSR_IPV6_LENGTH : DSR_IPV4_LENGTH;
	/* VXLAN costs 50 bytes, 70 over IPv6. */
	__u32 around = config->flags & CONFIG_TUNNEL ? 70 : 0;

	if (has_options(f) || (f->flags & (FLOW_FRAGMENT | FLOW_FIRST_FRAGMENT | FLOW_RELATED)) || skb->gso_segs > 1)
		return 0;
	return skb->len - ETHERNET_LENGTH + room + around <= config->mtu || is_bare_syn(f);
}

NOINLINE int dsr_write_ipv4(struct __sk_buff *skb, const struct address *frontend, __u32 port)
{
	__u32 h[7];
	__u8 *p = (__u8 *)h;
	__u64 sum;

	NEVER_NULL(frontend);
	if (bpf_skb_adjust_room(skb, DSR_IPV4_LENGTH, BPF_ADJ_ROOM_NET, 0) ||
	    bpf_skb_load_bytes(skb, ETHERNET_LENGTH, h, 20))
		return DROPPED(DROP_WRITE_ERROR);
	p[0] += DSR_IPV4_LENGTH / 4;
	*(__u16 *)(p + 2) = bpf_htons(bpf_ntohs(LOAD16(p + 2)) + DSR_IPV4_LENGTH);
	*(__u16 *)(p + 10) = 0;
	p[20] = DSR_IPV4_OPTION;
	p[21] = DSR_IPV4_LENGTH;
	*(__u16 *)(p + 22) = port;
	h[6] = frontend->words[3];
	sum = (__u64)h[0] + h[1] + h[2] + h[3] + h[4] + h[5] + h[6];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(__u16 *)(p + 10) = ~sum;
	return bpf_skb_store_bytes(skb, ETHERNET_LENGTH, h, sizeof(h), 0) ? DROPPED(DROP_WRITE_ERROR) : 0;
}

NOINLINE int dsr_write_ipv6(struct __sk_buff *skb, const struct address *frontend, __u32 port)
{
	__u32 h[DSR_IPV6_LENGTH / 4] = {};
	__u8 *p = (__u8 *)h;
	__u8 head[4]; /* length, next header, hop limit */

	NEVER_NULL(frontend);
	if (bpf_skb_adjust_room(skb, DSR_IPV6_LENGTH, BPF_ADJ_ROOM_NET, 0) ||
	    bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 4, head, sizeof(head)))
		return DROPPED(DROP_WRITE_ERROR);
	p[0] = head[2];
	p[1] = DSR_IPV6_LENGTH / 8 - 1;
	p[2] = DSR_IPV6_OPTION;
	p[3] = DSR_IPV6_LENGTH - 4;
	__builtin_memcpy(h + 1, frontend, 16);
	*(__u16 *)(p + 20) = port;
	*(__u16 *)head = bpf_htons(bpf_ntohs(LOAD16(head)) + DSR_IPV6_LENGTH);
	head[2] = DSR_IPV6_NEXT;
	return bpf_skb_store_bytes(skb, ETHERNET_LENGTH + 4, head, sizeof(head), 0) ||
			       bpf_skb_store_bytes(skb, ETHERNET_LENGTH + 40, h, sizeof(h), 0) ?
		       DROPPED(DROP_WRITE_ERROR) :
		       0;
}

/* What the option of a packet that opens a flow says: the service's id, or 0. Without a tunnel anybody could have written it, so
 * it gets nobody more than to ask the frontend itself would: it must be a DSR frontend of this cluster that lets the sender in,
 * and the sender from outside (the cluster's own are translated where they are). */
NOINLINE int dsr_read(struct __sk_buff *skb, const struct flow *f, struct address *frontend, __u16 *port)
{
	__u8 h[DSR_IPV6_LENGTH];
	struct ipcache_entry *entry;
	struct frontend *found;

	NEVER_NULL(f);
	NEVER_NULL(frontend);
	NEVER_NULL(port);
	if (f->flags & FLOW_IPV6) {
		if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 6, h, 1) || h[0] != DSR_IPV6_NEXT ||
		    bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 40, h, sizeof(h)) || h[1] != DSR_IPV6_LENGTH / 8 - 1 ||
		    h[2] != DSR_IPV6_OPTION || h[3] != DSR_IPV6_LENGTH - 4)
			return 0;
		frontend->words[0] = LOAD32(h + 4);
		frontend->words[1] = LOAD32(h + 8);
		frontend->words[2] = LOAD32(h + 12);
		frontend->words[3] = LOAD32(h + 16);
		*port = LOAD16(h + 20);
	} else {
		if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 20, h, DSR_IPV4_LENGTH) || h[0] != DSR_IPV4_OPTION ||
		    h[1] != DSR_IPV4_LENGTH)
			return 0;
		frontend->halves[0] = 0;
		frontend->halves[1] = mapped(LOAD32(h + 4));
		*port = LOAD16(h + 2);
	}
	found = frontend_get(frontend, *port, f->protocol);
	if (!found)
		found = frontend_of_node(frontend, *port, f->protocol);
	if (!found || (found->flags & (FRONTEND_DSR | FRONTEND_EXTERNAL)) != (FRONTEND_DSR | FRONTEND_EXTERNAL) ||
	    (f->flags & (FLOW_RELATED | FLOW_FRAGMENT)) || !frontend_admits(found, flow_address(f, TRANSLATE_SOURCE)))
		return 0;
	entry = ipcache_lookup(flow_address(f, TRANSLATE_SOURCE));
	return !entry || identity_outside(entry->identity) ? found->service : 0;
}
#undef FILE_ID
