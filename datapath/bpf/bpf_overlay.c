/* The tunnel between nodes: VXLAN, the sender's identity as the network identifier. */
#include "lib/arrival.h"
#include "lib/host_firewall.h"
#include "lib/masquerade.h"
#include "lib/redirect.h"
#include "lib/vlan.h"

#define FILE_ID FILE_BPF_OVERLAY

/* A packet that is not for an endpoint: parsed, and its sender checked, or dropped. 0 or a verdict. `known`: it is for this
 * node. Leaves the sender's identity in scratch. */
NOINLINE int overlay_check(struct __sk_buff *skb, __u32 ipv6, __u32 known)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct flow *f;
	int code, claim, late;

	if (!config || !s)
		return SHOT;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	f->flags = FLOW_INGRESS | FLOW_NETWORK;
	f->point = TRACE_TO_LXC;
	if (ipv6) {
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
		if (code == PARSED_LINK)
			code = DROPPED(DROP_FORBIDDEN_ICMP6);
	} else {
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	}
	f->flags |= FLOW_TUNNEL;
	claim = tunnel_source(skb, f);
	late = DROP_REASON(code) == DROP_FRAG_NOT_FOUND ? code : 0;
	if (!code || late)
		code = claim ?: late;
	if (fragment_waits(skb, f, code))
		return SHOT;
	if (!code)
		code = sender_check_packet(skb, f);
	if (!code && !known)
		code = DROPPED(DROP_UNROUTABLE);
	return code ? drop(skb, f, code) : 0;
}

NOINLINE int overlay_drop(struct __sk_buff *skb, __u32 code)
{
	struct nat_scratch *s = nat_scratch();
	__u8 *p = packet_start(skb);
	struct flow *f;

	if (!s)
		return SHOT;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	f->flags = FLOW_INGRESS | FLOW_NETWORK | FLOW_TUNNEL;
	if (p + ETHERNET_LENGTH <= (__u8 *)packet_end(skb) && LOAD16(p + 12) == ETHERTYPE_IPV6)
		f->flags |= FLOW_IPV6;
	tunnel_source(skb, f);
	return drop(skb, f, code);
}

/* tcx ingress of the VXLAN device. */
SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct address address;
	__u32 ipv6;
	int id, code;
	__u8 *p;

	if (!config || !config->hz || !s)
		return overlay_drop(skb, DROPPED(DROP_NO_CONFIG));
	/* Only what from_netdev has seen to come from a node. It is no more so behind this
	 * program, for the packet may hold another tunnel packet; but a fragment that comes again is. */
	if (skb->tc_index != ORIGIN_NODE || (skb->mark != MARK_TUNNEL && skb->mark != MARK_FRAGMENT))
		return overlay_drop(skb, DROPPED(DROP_TUNNEL_DEVICE));
	if (skb->mark == MARK_TUNNEL)
		skb->mark = 0;
	skb->tc_classid = 0;
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return overlay_drop(skb, DROPPED(DROP_INVALID));
	if (is_tagged(skb, p))
		return vlan_refuse(skb, FLOW_INGRESS | FLOW_NETWORK);
	if (LOAD16(p + 12) != ETHERTYPE_IPV4 && LOAD16(p + 12) != ETHERTYPE_IPV6)
		return overlay_drop(skb, DROPPED(DROP_UNKNOWN_L3));
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if (!reach(skb, 1, ETHERNET_LENGTH + 20) || (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) ||
	    !packet_destination(skb, ipv6, &address))
		return overlay_drop(skb, DROPPED(DROP_INVALID));
	id = destination_of(&address);
	if (id > 0)
		return arrive(skb, id, ipv6 | ARRIVAL_TUNNEL);
	code = overlay_check(skb, ipv6, id == 0);
	if (code)
		return code;
	/* The host's, or a service's, or an answer to what left here under another address. */
	code = node_port_all(skb, &address, (ipv6 ? FLOW_IPV6 : 0) | FLOW_TUNNEL | NODE_PORT_OWN, s->flow.source_identity);
	if (code & NODE_PORT_ENDPOINT)
		return arrive(skb, code & 0xffff, ipv6 | ARRIVAL | ARRIVAL_TUNNEL);
	if (code == PASS && host_guarded())
		code = host_receives(skb, ipv6 | HOST_INGRESS | HOST_TUNNEL);
	if (code != PASS)
		return code;
	/* The sender's frame was addressed to its own gateway. */
	if (skb->pkt_type != PACKET_TYPE_HOST)
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
	count(0, 0, DIRECTION_INGRESS, skb->len);
	return PASS;
}

/* An endpoint of this node answers who asked a frontend of this node through the tunnel. */
NOINLINE int overlay_reply(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct ct_entry *e;
	struct flow *f;
	int code;
	__u8 *p;

	p = packet_start(skb);
	if (!config || !s || p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return SHOT;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	if (LOAD16(p + 12) == ETHERTYPE_IPV6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	if (code)
		return drop(skb, f, code);
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	return e && f->source_hi != (e->flags & CT_ORIGIN_HI) ? answer_leaves(skb, f, e) : PASS;
}

/* Did an endpoint's packet that comes through the stack come by that endpoint's device? */
INLINE int overlay_device(const struct __sk_buff *skb, __u32 id)
{
	const struct endpoint *endpoint = id ? endpoint_get(id) : 0;

	return !endpoint || !skb->ingress_ifindex || skb->ingress_ifindex == endpoint->ifindex;
}

#define OVERLAY_PROXY (-1) /* scratch's flow is what the proxy sends, as it is on the wire */

/* Sends it into the tunnel, `left` being what redirect_leaves() said of it. A verdict. */
NOINLINE int overlay_sends(struct __sk_buff *skb, __u32 left)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	struct ct_entry *e;
	struct flow *f;
	int code = left;

	if (!config || !s)
		return SHOT;
	f = &s->flow;
	if (!code && is_zero(&f->node))
		code = DROPPED(DROP_NO_TUNNEL_ENDPOINT);
	if (!code && (f->flags & FLOW_REPLY_NAT)) {
		e = bpf_map_lookup_elem(&weir_ct, &f->key);
		if (!e)
			return drop(skb, f, DROPPED(DROP_HANDLE_GONE));
		code = answer_leaves(skb, f, e);
		if (code != PASS)
			return code;
		f->source_identity = IDENTITY_HOST;
	} else if (!code) {
		wire_of(f, endpoint_get(f->source_endpoint));
	}
	if (!code)
		code = tunnel_key(skb, f, config);
	if (code)
		return drop(skb, f, code);
	origin_set(skb, ORIGIN_OVERLAY);
	count(0, 0, DIRECTION_EGRESS, skb->len);
	return PASS;
}

/* What the host itself sends into the tunnel. A verdict, or OVERLAY_PROXY. */
NOINLINE int overlay_host(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct peer source = {}, destination = {};
	struct address from, to, unused = {};
	struct nat_scratch *s = nat_scratch();
	struct flow *f;
	int code;
	__u8 *p;

	if (!s)
		return SHOT;
	f = &s->flow;
	__builtin_memset(f, 0, sizeof(*f));
	if (!config || !config->hz)
		return drop(skb, f, DROPPED(DROP_NO_CONFIG));
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, f, DROPPED(DROP_INVALID));
	if (is_tagged(skb, p))
		return vlan_refuse(skb, 0);
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
		break;
	case ETHERTYPE_IPV6:
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
		/* The device has no neighbours: what the kernel says to its link (its own reports) ends here. */
		if (code == PARSED_LINK) {
			count(0, 0, DIRECTION_EGRESS, skb->len);
			return SHOT;
		}
		break;
	default:
		code = DROPPED(DROP_UNKNOWN_L3);
	}
	if (code)
		return drop(skb, f, code);
	/* Of the packet itself: an error comes from who sends it, not from who is quoted. */
	if (!packet_source(skb, f->flags & FLOW_IPV6, &from) || !packet_destination(skb, f->flags & FLOW_IPV6, &to))
		return drop(skb, f, DROPPED(DROP_INVALID));
	if (redirect_asks(skb, &from, config)) {
		code = redirect_passes(skb, f);
		if (code)
			return code == 1 ? OVERLAY_PROXY : drop(skb, f, code);
	}
	peer_resolve(&from, &source, &unused, world_identity(f, config));
	/* Not with an address of another node's, nor, when it came by a device, with one of a pod that has another. What has the
	 * host's own is the host's, or masqueraded by it: from_netdev lets no other by. */
	if (!is_zero(&unused) || is_own_loopback(&from, config) || !overlay_device(skb, source.host ? 0 : source.endpoint))
		return drop(skb, f, DROPPED(DROP_INVALID_SIP));
	peer_resolve(&to, &destination, &f->node, world_identity(f, config));
	/* Not the host's own, but what it passes on for who is outside. */
	if (source.host && brought_by(skb) && is_network_device(skb->ingress_ifindex, config))
		source.identity = world_identity(f, config);
	f->source_identity = source.identity;
	f->destination_identity = destination.identity;
	if (!(f->node.halves[0] | f->node.halves[1]))
		return drop(skb, f, DROPPED(DROP_NO_TUNNEL_ENDPOINT));
	/* It would be a tunnel packet again when it is taken out at the other end. */
	if (f->protocol == PROTOCOL_UDP && f->port_destination == bpf_htons(config->tunnel_port))
		return drop(skb, f, DROPPED(DROP_ENCAP_PROHIBITED));
	wire_of(f, endpoint_get(source.endpoint));
	code = tunnel_key(skb, f, config);
	if (code)
		return drop(skb, f, code);
	origin_set(skb, ORIGIN_OVERLAY);
	count(0, 0, DIRECTION_EGRESS, skb->len);
	return PASS;
}

/* Egress of the VXLAN device: what from_endpoint sent has its key; the host's own packets get theirs here. Both are
 * known by to_netdev then: nothing else may be sent to the tunnel port. */
SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	int verdict;

	if (mark == MARK_OVERLAY || mark == MARK_OVERLAY_REPLY) {
		origin_set(skb, ORIGIN_OVERLAY);
		return mark == MARK_OVERLAY ? PASS : overlay_reply(skb);
	}
	if (host_guarded()) {
		verdict = host_sends(skb);
		if (verdict != PASS)
			return verdict;
	}
	verdict = overlay_host(skb);
	if (verdict != OVERLAY_PROXY)
		return verdict;
	/* As the end that is here would send it. (One step after the other, so that their stacks do not add up.) */
	verdict = redirect_leaves(skb);
	return overlay_sends(skb, verdict);
}
#undef FILE_ID
