/* What the kernel would take for its own, as its routing tables say it now.
 *
 * weir_addresses has the node's addresses as soon as netlink has told of them; between the two, and for whole prefixes that are
 * local (`ip route add local ...`), an address may lie in what ipcache calls the world. A packet to it would then reach the host's
 * sockets through a rule for the world. So before a new flow from an endpoint to the world is judged as one, the tables are asked.
 */
#pragma once

#include "fib.h"

/* 1 when the kernel would deliver it here. "Not forwarded" is what bpf_fib_lookup() says of local addresses and of those that no
 * route leads to: where a packet to nobody (255.255.255.254, 100::1; no handle has these) finds a route, it is a local one. Where it
 * does not, there is no default route, and what weir_addresses says has to do. */
NOINLINE int local_delivery(struct __sk_buff *skb, const struct address *from, const struct address *to, __u32 ipv6)
{
	struct bpf_fib_lookup fib = {};

	NEVER_NULL(from);
	NEVER_NULL(to);
	fib_ask(&fib, skb, from, to, ipv6);
	if (likely(bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH) != BPF_FIB_LKUP_RET_NOT_FWDED))
		return 0;
	fib.ifindex = skb->ifindex;
	if (ipv6) {
		fib.ipv6_dst[0] = bpf_htonl(0x01000000);
		fib.ipv6_dst[1] = 0;
		fib.ipv6_dst[2] = 0;
		fib.ipv6_dst[3] = bpf_htonl(1);
	} else {
		fib.ipv4_dst = bpf_htonl(0xfffffffe);
	}
	return bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_SKIP_NEIGH) != BPF_FIB_LKUP_RET_NOT_FWDED;
}
