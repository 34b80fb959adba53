/* Endpoints without a device: the sockets of a cgroup. Their address is the host's; their policy is their own. */
#include "lib/decide.h"
#include "lib/ipv4.h"
#include "lib/ipv6.h"
#include "lib/nd.h"
#include "lib/redirect_socket.h"
#include "lib/refuse.h"

#define FILE_ID FILE_BPF_CGROUP

#define CGROUP_DENY 0
#define CGROUP_ALLOW 1

/* Is it a RST that reaches the other end all the same? (refuse() makes it anew; here it must carry nothing.) */
NOINLINE int cgroup_reset(struct __sk_buff *skb, struct flow *f, __u32 code)
{
	__u8 length;

	if (!f || !(f->tcp_flags & TCP_RST) || (f->tcp_flags & TCP_SYN) || f->protocol != PROTOCOL_TCP ||
	    bpf_skb_load_bytes(skb, f->l4_offset + 12, &length, 1))
		return 0;
	return skb->len == f->l4_offset + (__u32)(length >> 4) * 4 && reset_goes_on(f, code);
}

INLINE int cgroup_handle(struct __sk_buff *skb, __u32 flags)
{
	const struct config *config = config_get();
	__u32 id = endpoint_by_cgroup(skb);
	struct endpoint *own, *other;
	struct flow f = {};
	int code;
	__u8 *p;

	/* A socket that moved out of its endpoint while its packet was on the way. */
	if (!id)
		return CGROUP_ALLOW;
	f.flags = FLOW_L3 | flags;
	f.hook_endpoint = id;
	if (flags & FLOW_INGRESS) {
		f.point = TRACE_TO_HOST;
		f.destination_endpoint = id;
		/* By a network, which is no endpoint of this node, nor the tunnel, whose senders from_overlay has checked. */
		if (config && brought_by(skb) && is_network_device(skb->ingress_ifindex, config))
			f.flags |= FLOW_NETWORK;
	} else {
		f.point = TRACE_TO_STACK;
		f.source_endpoint = id;
	}
	own = endpoint_get(id);
	if (!own) {
		drop(skb, &f, DROPPED(DROP_EP_NOT_READY));
		return CGROUP_DENY;
	}
	if (!config || !config->hz) {
		drop(skb, &f, DROPPED(DROP_NO_CONFIG));
		return CGROUP_DENY;
	}
	p = packet_start(skb);
	if (p + 1 > (__u8 *)packet_end(skb)) {
		drop(skb, &f, DROPPED(DROP_INVALID));
		return CGROUP_DENY;
	}
	if ((p[0] >> 4) == 4)
		code = ipv4_parse(skb, &f, config, 0, 0);
	else
		code = ipv6_parse(skb, &f, config, 0, 0);
	/* Raw sockets speak to neighbours and routers, and hear of them. */
	if (code == PARSED_LINK) {
		code = nd_of_socket(skb, &f);
	} else if (!code) {
		if ((f.flags & (FLOW_NETWORK | FLOW_RELATED)) == (FLOW_NETWORK | FLOW_RELATED))
			code = sender_check_packet(skb, &f);
		if (!code && unlikely(is_handle(&f.key.lo, config) || is_handle(&f.key.hi, config)))
			code = redirect_of_socket(skb, &f);
		if (!code)
			code = admit(skb, &f, config, own, &other, FLOW_L3 | flags | (flags & FLOW_INGRESS ? FLOW_NETWORK : 0));
	}
	if (code) {
		drop(skb, &f, code);
		code = cgroup_reset(skb, &f, code);
		/* (Clang knows what that returns, and a verifier does not.) */
		asm volatile("" : "+r"(code));
		return code ? CGROUP_ALLOW : CGROUP_DENY;
	}
	count(FLOW_L3, 0, flags & FLOW_INGRESS ? DIRECTION_INGRESS : DIRECTION_EGRESS, skb->len);
	if (flags & FLOW_INGRESS)
		count_received(FLOW_L3, id, skb->len);
	else
		count_sent(FLOW_L3, id, skb->len);
	return CGROUP_ALLOW;
}

SEC("cgroup_skb/ingress")
int cgroup_ingress(struct __sk_buff *skb)
{
	return cgroup_handle(skb, FLOW_INGRESS);
}

SEC("cgroup_skb/egress")
int cgroup_egress(struct __sk_buff *skb)
{
	return cgroup_handle(skb, 0);
}
#undef FILE_ID
