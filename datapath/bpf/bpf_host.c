/* The outer device: endpoints that are reached by plain routing.
 *
 * Services (issue 5) come in from_netdev before destination_of(): translate, then look who has the backend. Masquerade
 * comes in to_netdev, and its way back in from_netdev, before everything else. */
#include "lib/enter.h"

#define FILE_ID FILE_BPF_HOST

/* A packet for endpoint `id`. A function of its own, so that the kernel checks it once and not once for every way in. */
NOINLINE int netdev_to_endpoint(struct __sk_buff *skb, __u32 id, __u32 ipv6)
{
	const struct config *config = config_get();
	struct endpoint *own, *other;
	struct flow f = {};
	int code;

	f.flags = FLOW_INGRESS | FLOW_NETWORK;
	f.point = TRACE_TO_LXC;
	f.hook_endpoint = id;
	f.destination_endpoint = id;
	own = endpoint_get(id);
	if (!config || !own || !own->ifindex)
		return PASS;
	if (ipv6) {
		code = ipv6_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		if (code == PARSED_LINK)
			code = DROPPED(DROP_FORBIDDEN_ICMP6);
	} else {
		code = ipv4_parse(skb, &f, config, ETHERNET_LENGTH, 0);
	}
	if (!code)
		code = admit(skb, &f, config, own, &other);
	if (code)
		return drop(skb, &f, code);
	return deliver_local(skb, &f, own);
}

/* Ingress. Traffic of the host itself is not ours to judge: it passes unread as soon as its destination says so. */
SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct address address;
	__u32 ipv6;
	__u8 *p;
	int id;

	if (!config || !config->hz)
		return PASS;
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return PASS;
	if (LOAD16(p + 12) != ETHERTYPE_IPV4 && LOAD16(p + 12) != ETHERTYPE_IPV6)
		return PASS;
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if (!reach(skb, 1, ETHERNET_LENGTH + 20) || (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) ||
	    !packet_destination(skb, ipv6, &address))
		return PASS;
	id = destination_of(&address);
	return id > 0 ? netdev_to_endpoint(skb, id, ipv6) : PASS;
}

/* Egress. Nothing is changed yet; what endpoints send by way of the stack is counted where it left them. */
SEC("tc")
int to_netdev(struct __sk_buff *skb __attribute__((unused)))
{
	return PASS;
}
#undef FILE_ID
