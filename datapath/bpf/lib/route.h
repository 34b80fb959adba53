/* Sends a translated packet on, out of this node: into the tunnel, or where the routing table leads. */
#pragma once

#include "deliver.h"
#include "ipcache.h"

#define FILE_ID FILE_NODE_PORT

/* Whoever passes the packet on drops it. */
INLINE int hop_is_last(struct __sk_buff *skb, const struct flow *f)
{
	__u8 *p = packet_start(skb) + ETHERNET_LENGTH;

	if (p + 20 > (__u8 *)packet_end(skb))
		return 1;
	return (f->flags & FLOW_IPV6 ? p[7] : p[8]) <= 1;
}

/* The device towards `to`, 0 when there is no way. The next hop is redirect_neigh's business. */
NOINLINE int route_device(struct __sk_buff *skb, const struct address *from, const struct address *to, __u32 ipv6)
{
	struct bpf_fib_lookup fib = {};
	long code;

	NEVER_NULL(from);
	NEVER_NULL(to);
	fib_ask(&fib, skb, from, to, ipv6);
	code = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH);
	/* A packet that the device does not take whole is the sender's problem, as it is after the stack's routing. */
	if (code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH && code != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return 0;
	return fib.ifindex;
}

/* `f->source_identity` goes into the tunnel's header. `tunnel`: the other end may be behind it. A verdict. */
NOINLINE int send_out(struct __sk_buff *skb, struct flow *f, const struct address *from, const struct address *to,
		      __u32 tunnel)
{
	const struct config *config = config_get();
	struct ipcache_entry *entry;
	int device, code;

	if (!config || !f || !from || !to)
		return SHOT;
	entry = tunnel && (config->flags & CONFIG_TUNNEL) ? ipcache_lookup(to) : 0;
	if (entry && !(entry->flags & IPCACHE_SKIP_TUNNEL)) {
		f->node = entry->node;
		if (f->node.halves[0] | f->node.halves[1])
			return deliver_tunnel(skb, f, config);
		/* A pod whose node is not known yet; what is outside the cluster has no node. */
		if (!identity_outside(entry->identity))
			return drop(skb, f, DROPPED(DROP_NO_TUNNEL_ENDPOINT));
	}
	code = hop(skb, f);
	if (code)
		return drop_or_exceed(skb, f, code);
	device = route_device(skb, from, to, f->flags & FLOW_IPV6);
	if (!device)
		return drop(skb, f, DROPPED(DROP_NO_FIB));
	skb->mark = MARK_TRANSLATED;
	return bpf_redirect_neigh(device, 0, 0, 0);
}
#undef FILE_ID
