/* The outer devices: endpoints that are reached by plain routing, services that are used from outside, and what leaves
 * the node under another address. */
#include "lib/arrival.h"
#include "lib/host_firewall.h"
#include "lib/masquerade.h"
#include "lib/node_port.h"
#include "lib/redirect.h"
#include "lib/vlan.h"

#define FILE_ID FILE_BPF_HOST

#define TUNNEL_FRAGMENT (-1)

/* A tunnel packet for this node: from a node that is known, or dropped. What it says is from_overlay's to check. */
NOINLINE int netdev_tunnel(struct __sk_buff *skb, __u32 ipv6)
{
	const struct config *config = config_get();
	struct address from = {}, unused = {};
	struct peer peer = {};
	struct flow f = {};
	__u8 *p;

	if (!config || !packet_source(skb, ipv6, &from))
		return SHOT;
	if (likely(is_node(&from))) {
		p = packet_start(skb) + ETHERNET_LENGTH;
		origin_set(skb, ORIGIN_NODE);
		if (p + 8 > (__u8 *)packet_end(skb))
			return PASS;
		return ipv6 ? (p[6] == IPV6_FRAGMENT ? TUNNEL_FRAGMENT : PASS) :
			      (LOAD16(p + 6) & bpf_htons(0x3fff) ? TUNNEL_FRAGMENT : PASS);
	}
	f.flags = FLOW_INGRESS | FLOW_NETWORK | (ipv6 ? FLOW_IPV6 : 0);
	f.protocol = PROTOCOL_UDP;
	peer_resolve(&from, &peer, &unused, world_identity(&f, config));
	f.source_identity = peer.identity;
	f.destination_identity = IDENTITY_HOST;
	return drop(skb, &f, DROPPED(DROP_TUNNEL_SENDER));
}

/* For nobody's address: a virtual one's, or to be passed on by the host's stack, whose next hop may take the packet's word for
 * who sent it. So nobody may use an address of this node, nor one of a pod that is behind the tunnel. */
NOINLINE int netdev_transit(struct __sk_buff *skb, const struct address *to, __u32 ipv6)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	int code;

	if (!s || !to || !config)
		return PASS;
	if (unlikely(is_handle(to, config))) {
		__builtin_memset(&s->flow, 0, sizeof(s->flow));
		s->flow.flags = FLOW_INGRESS | FLOW_NETWORK | (ipv6 ? FLOW_IPV6 : 0);
		return drop(skb, &s->flow, DROPPED(DROP_HANDLE_ADDRESS));
	}
	code = node_port_all(skb, to, ipv6 ? FLOW_IPV6 : NODE_PORT_IPV4, 0);
	if (code & NODE_PORT_ENDPOINT)
		return arrive(skb, code & 0xffff, ipv6 | ARRIVAL);
	/* Groups and the link's own are not passed on. */
	if (code != PASS || identity_of_many(to) || is_link_local(to))
		return code;
	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	s->flow.flags = FLOW_INGRESS | FLOW_NETWORK | (ipv6 ? FLOW_IPV6 : 0);
	code = sender_check_packet(skb, &s->flow);
	return code ? drop(skb, &s->flow, code) : PASS;
}

/* For the host, and from a handle: IPv6's stack would take it. */
INLINE int netdev_from_handle(struct __sk_buff *skb, __u32 ipv6, const struct config *config)
{
	struct address from;

	return packet_source(skb, ipv6, &from) && is_handle(&from, config);
}

NOINLINE int netdev_handle_drop(struct __sk_buff *skb, __u32 ipv6)
{
	struct nat_scratch *s = nat_scratch();

	if (!s)
		return SHOT;
	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	s->flow.flags = FLOW_INGRESS | FLOW_NETWORK | (ipv6 ? FLOW_IPV6 : 0);
	return drop(skb, &s->flow, DROPPED(DROP_HANDLE_ADDRESS));
}

/* Ingress. Traffic of the host itself passes unless weir_nat or a frontend knows its port, or a policy for the host denies it. */
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
	if (id < 0) {
		id = netdev_transit(skb, &address, ipv6);
		return id == PASS && host_guarded() ? host_receives(skb, ipv6 | HOST_INGRESS) : id;
	}
	if (is_tunnel(skb, ipv6, config)) {
		id = netdev_tunnel(skb, ipv6);
		/* The first fragment of one goes on, for those behind it are found by it. */
		if (id != TUNNEL_FRAGMENT)
			return id;
	}
	if (unlikely(config->proxy_port) && netdev_from_handle(skb, ipv6, config))
		return netdev_handle_drop(skb, ipv6);
	id = node_port_all(skb, &address, (ipv6 ? FLOW_IPV6 : NODE_PORT_IPV4) | NODE_PORT_OWN, 0);
	if (id & NODE_PORT_ENDPOINT)
		return arrive(skb, id & 0xffff, ipv6 | ARRIVAL);
	return id == PASS && host_guarded() ? host_receives(skb, ipv6 | HOST_INGRESS) : id;
}

/* For a tunnel port, and not from the kernel's tunnel: what a process sends, or somebody whom the host passes on. */
NOINLINE int netdev_forged(struct __sk_buff *skb, __u32 ipv6)
{
	const struct config *config = config_get();
	struct address from = {}, to = {}, unused = {};
	struct peer source = {}, destination = {};
	struct flow f = {};

	if (!config || !packet_source(skb, ipv6, &from) || !packet_destination(skb, ipv6, &to))
		return SHOT;
	f.flags = ipv6 ? FLOW_IPV6 : 0;
	f.protocol = PROTOCOL_UDP;
	peer_resolve(&from, &source, &unused, world_identity(&f, config));
	peer_resolve(&to, &destination, &unused, world_identity(&f, config));
	f.source_identity = source.identity;
	f.source_endpoint = source.endpoint;
	f.destination_identity = destination.identity;
	return drop(skb, &f, DROPPED(DROP_ENCAP_PROHIBITED));
}

/* Is it what the proxy sends? 1: scratch's flow is it as it is on the wire; 0: no; or a verdict, negative. */
NOINLINE int netdev_passes(struct __sk_buff *skb, __u32 ipv6)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct flow *f;
	int code;

	if (!config || !s)
		return -SHOT;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	if (ipv6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	if (code == PARSED_LINK)
		return 0;
	if (!code)
		code = redirect_passes(skb, f);
	return code > 1 ? -drop(skb, f, code) : code;
}

/* Sends it on, `code` being what redirect_leaves() said of it. A verdict; or NETDEV_MASQUERADE: as what an endpoint sends. */
#define NETDEV_MASQUERADE (-1)
NOINLINE int netdev_sends(struct __sk_buff *skb, __u32 code)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct flow *f;

	if (!config || !s)
		return SHOT;
	f = &s->flow;
	if (code)
		return drop(skb, f, code);
	/* To another node's own address: the host has a way there, the end that is here has the tunnel. */
	if (f->flags & FLOW_TUNNEL) {
		wire_of(f, endpoint_get(f->source_endpoint));
		return deliver_tunnel(skb, f, config);
	}
	return NETDEV_MASQUERADE;
}

/* What the proxy sends out of the node, as the end that is here would. A verdict. (One step after the other, so that their stacks do not
 * add up.) */
INLINE int netdev_redirected(struct __sk_buff *skb, __u32 ipv6)
{
	struct nat_scratch *s = nat_scratch();
	int code = netdev_passes(skb, ipv6);

	if (code != 1 || !s)
		return -code;
	code = redirect_leaves(skb);
	code = netdev_sends(skb, code);
	return code == NETDEV_MASQUERADE ? masquerade_endpoint(skb, s->flow.hook_endpoint, ipv6) : code;
}

/* What the host sends, or passes on under its own address, as its policy has it. A verdict. (The tunnel's later fragments say no port.) */
INLINE int netdev_judged(struct __sk_buff *skb, __u32 ipv6)
{
	return host_guarded() && !origin_is(skb, ORIGIN_OVERLAY) ? host_judge(skb, ipv6) : PASS;
}

INLINE int netdev_own(struct __sk_buff *skb, __u32 ipv6)
{
	int verdict = netdev_judged(skb, ipv6);

	return verdict == PASS ? masquerade_host(skb, ipv6) : verdict;
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

	if (!config || !config->hz)
		goto pass;
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		goto pass;
	if (is_tagged(skb, p)) {
		verdict = vlan_judge(skb, 0);
		p = packet_start(skb);
		if (verdict != VLAN_UNTAGGED || p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
			return verdict == VLAN_UNTAGGED ? PASS : verdict;
	}
	if (LOAD16(p + 12) != ETHERTYPE_IPV4 && LOAD16(p + 12) != ETHERTYPE_IPV6)
		goto pass;
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if (!reach(skb, 1, ETHERNET_LENGTH + 20) || (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) ||
	    !packet_source(skb, ipv6, &address))
		goto pass;
	/* Before any mark is looked at: a raw socket may set one. */
	if (is_tunnel(skb, ipv6, config))
		return origin_is(skb, ORIGIN_OVERLAY) ? PASS : netdev_forged(skb, ipv6);
	/* Translated here, or made here for who is refused: of what a device brought. */
	if ((skb->mark == MARK_TRANSLATED || skb->mark == MARK_DELIVERED) && brought_by(skb))
		goto pass;
	if (unlikely(skb->mark == MARK_UPSTREAM) && config->proxy_port)
		return netdev_redirected(skb, ipv6);
	if (!ipv6 && address.words[3] == config->ipv4)
		return netdev_own(skb, ipv6);
	owner = bpf_map_lookup_elem(&weir_addresses, &address);
	if (!owner) {
		if (is_handle(&address, config))
			return netdev_redirected(skb, ipv6);
		/* (Who has no address yet asks for one: DHCP, duplicate address detection.) */
		return brought_by(skb) || is_zero_ipv4(&address) || is_zero(&address) ? PASS : netdev_judged(skb, ipv6);
	}
	if (!(owner->flags & ADDRESS_HOST))
		return masquerade_endpoint(skb, owner->endpoint, ipv6);
	return netdev_own(skb, ipv6);
pass:
	if (skb->mark == MARK_TRANSLATED || skb->mark == MARK_DELIVERED)
		skb->mark = 0;
	return PASS;
}
#undef FILE_ID
