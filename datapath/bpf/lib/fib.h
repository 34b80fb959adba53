/* Questions to the kernel's routing tables. */
#pragma once

#include "flow.h"

#ifndef BPF_FIB_LOOKUP_SKIP_NEIGH
#define BPF_FIB_LOOKUP_SKIP_NEIGH 4
#endif

#define ADDRESS_FAMILY_INET 2
#define ADDRESS_FAMILY_INET6 10

/* Where does a packet of the packet's device from `from` to `to` go? `fib` is all zeros. */
INLINE void fib_ask(struct bpf_fib_lookup *fib, const struct __sk_buff *skb, const struct address *from,
		    const struct address *to, __u32 ipv6)
{
	fib->ifindex = skb->ifindex;
	if (ipv6) {
		fib->family = ADDRESS_FAMILY_INET6;
		__builtin_memcpy(fib->ipv6_src, from, 16);
		__builtin_memcpy(fib->ipv6_dst, to, 16);
	} else {
		fib->family = ADDRESS_FAMILY_INET;
		fib->ipv4_src = from->words[3];
		fib->ipv4_dst = to->words[3];
	}
}
