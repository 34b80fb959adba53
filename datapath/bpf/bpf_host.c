/* The outer devices: endpoints that are reached by plain routing, services that are used from outside, and what leaves
 * the node under another address. */
#include "lib/arrival.h"
#include "lib/masquerade.h"
#include "lib/node_port.h"
#include "lib/vlan.h"

#define FILE_ID FILE_BPF_HOST

/* Ingress. Traffic of the host itself is not ours to judge: it passes unless weir_nat or a frontend knows its port. */
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
	if (is_tagged(skb, p)) {
		id = vlan_judge(skb, FLOW_INGRESS | FLOW_NETWORK);
		p = packet_start(skb);
		if (id != VLAN_UNTAGGED || p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
			return id == VLAN_UNTAGGED ? PASS : id;
	}
	if (LOAD16(p + 12) != ETHERTYPE_IPV4 && LOAD16(p + 12) != ETHERTYPE_IPV6)
		return PASS;
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if (!reach(skb, 1, ETHERNET_LENGTH + 20) || (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) ||
	    !packet_destination(skb, ipv6, &address))
		return PASS;
	id = destination_of(&address);
	if (id > 0)
		return arrive(skb, id, ipv6);
	id = node_port_all(skb, &address, (ipv6 ? FLOW_IPV6 : NODE_PORT_IPV4) | (id == 0 ? NODE_PORT_OWN : 0), 0);
	if (id & NODE_PORT_ENDPOINT)
		return arrive(skb, id & 0xffff, ipv6 | ARRIVAL);
	return id;
}

/* Egress. */
SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct address_owner *owner;
	struct address address;
	int verdict;
	__u32 ipv6;
	__u8 *p;

	/* Translated here, or made here for who is refused. */
	if (skb->mark == MARK_TRANSLATED || skb->mark == MARK_DELIVERED) {
		skb->mark = 0;
		return PASS;
	}
	if (!config || !config->hz)
		return PASS;
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return PASS;
	if (is_tagged(skb, p)) {
		verdict = vlan_judge(skb, 0);
		p = packet_start(skb);
		if (verdict != VLAN_UNTAGGED || p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
			return verdict == VLAN_UNTAGGED ? PASS : verdict;
	}
	if (LOAD16(p + 12) != ETHERTYPE_IPV4 && LOAD16(p + 12) != ETHERTYPE_IPV6)
		return PASS;
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if (!reach(skb, 1, ETHERNET_LENGTH + 20) || (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) ||
	    !packet_source(skb, ipv6, &address))
		return PASS;
	if (!ipv6 && address.words[3] == config->ipv4)
		return is_tunnel(skb, ipv6, config) ? PASS : masquerade_host(skb, ipv6);
	owner = bpf_map_lookup_elem(&weir_addresses, &address);
	if (!owner)
		return PASS;
	if (!(owner->flags & ADDRESS_HOST))
		return masquerade_endpoint(skb, owner->endpoint, ipv6);
	return is_tunnel(skb, ipv6, config) ? PASS : masquerade_host(skb, ipv6);
}
#undef FILE_ID
