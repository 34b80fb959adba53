/* What no policy for the host can cut off. Asked only when policy has said no, so it costs nobody else anything. The list is user space's
 * (datapath/service/node/failsafe.ts); who is let by has the entry's kind as the cookie of his verdict, and is counted in the entry. */
#pragma once

#include "ipcache.h"
#include "reset.h"

#define FILE_ID FILE_FAILSAFE

/* Has a socket of this node the packet's connection, past its handshake? (Not one that listens, nor one that ended.) */
NOINLINE int failsafe_established(struct __sk_buff *skb, const struct flow *f)
{
	const struct address *from, *to;
	struct bpf_sock_tuple tuple = {};
	__u16 port_from, port_to;
	struct bpf_sock *sk;
	__u32 state;

	if (!f)
		return 0;
	from = f->source_hi ? &f->key.hi : &f->key.lo;
	to = f->source_hi ? &f->key.lo : &f->key.hi;
	port_from = f->port_source;
	port_to = f->port_destination;
	/* The lookup is for a packet that comes. */
	if (!(f->flags & FLOW_INGRESS)) {
		from = to;
		to = f->source_hi ? &f->key.hi : &f->key.lo;
		port_from = f->port_destination;
		port_to = f->port_source;
	}
	if (!(f->flags & FLOW_IPV6)) {
		tuple.ipv4.saddr = from->words[3];
		tuple.ipv4.daddr = to->words[3];
		tuple.ipv4.sport = port_from;
		tuple.ipv4.dport = port_to;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, from, 16);
		__builtin_memcpy(tuple.ipv6.daddr, to, 16);
		tuple.ipv6.sport = port_from;
		tuple.ipv6.dport = port_to;
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state == BPF_TCP_ESTABLISHED || (state >= BPF_TCP_FIN_WAIT1 && state <= BPF_TCP_FIN_WAIT2) ||
	       state == BPF_TCP_CLOSE_WAIT || state == BPF_TCP_LAST_ACK || state == BPF_TCP_CLOSING;
}

INLINE int failsafe_fits(struct __sk_buff *skb, const struct flow *f, const struct peer *far, const struct failsafe *entry, __u32 turned)
{
	__u16 port = bpf_ntohs(turned ? f->port_destination : f->port_source);

	if ((entry->flags & FAILSAFE_NODES) && far->identity != IDENTITY_REMOTE_NODE && far->identity != IDENTITY_KUBE_APISERVER)
		return 0;
	if (entry->port_source && entry->port_source != port)
		return 0;
	return !(entry->flags & FAILSAFE_ESTABLISHED) || (!is_bare_syn(f) && failsafe_established(skb, f));
}

/* Policy says `code` about the flow as `egress` has it: 0 if the list lets it pass all the same, which the flow then says; else `code`. */
NOINLINE int failsafe_judge(struct __sk_buff *skb, struct flow *f, const struct peer *far, __u32 egress, int code)
{
	struct failsafe_key key = {};
	struct failsafe *entry;
	__u32 turned, ingress;
	int i;

	if (!f || !far)
		return code;
	key.protocol = f->key.protocol;
	key.egress = egress ? 1 : 0;
	key.port = f->policy_port;
	ingress = f->flags & FLOW_INGRESS ? 1 : 0;
	/* The packet goes against the flow. */
	turned = ingress == key.egress;
	key.address = *((f->source_hi != 0) == ingress ? &f->key.hi : &f->key.lo);
	for (i = 0; i < 2; i++) {
		entry = bpf_map_lookup_elem(&weir_failsafe, &key);
		if (entry && failsafe_fits(skb, f, far, entry, turned)) {
			__sync_fetch_and_add(&entry->passed, 1);
			if (egress) {
				f->egress_cookie = entry->kind;
				f->egress_match = MATCH_L4_ONLY;
			} else {
				f->ingress_cookie = entry->kind;
				f->ingress_match = MATCH_L4_ONLY;
			}
			return 0;
		}
		key.address.halves[0] = 0;
		key.address.halves[1] = 0;
	}
	return code;
}
#undef FILE_ID
