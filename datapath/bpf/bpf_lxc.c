/* Endpoints with a device: what leaves them, and what the host's stack sends to them. */
#include "lib/arp.h"
#include "lib/decide.h"
#include "lib/fragment_order.h"
#include "lib/ipv4.h"
#include "lib/ipv6.h"
#include "lib/nd.h"
#include "lib/redirect_datagram.h"
#include "lib/service_flow.h"
#include "lib/vlan.h"

#define FILE_ID FILE_BPF_LXC

/* The RST that refuse() has made for the other end goes there as the packet would have. A verdict. */
NOINLINE int refused_leaves(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	const struct ct_entry *e;
	struct endpoint *other;
	int code;

	if (!f || !config)
		return SHOT;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (e && (e->flags & CT_STACK))
		return PASS;
	other = f->destination_endpoint ? endpoint_get(f->destination_endpoint) : 0;
	if (other && other->ifindex) {
		code = f->flags & FLOW_REPLY_NAT ? service_answer(skb, f) : 0;
		return code ? drop(skb, f, code) : deliver_local(skb, f, other);
	}
	if (f->flags & FLOW_TUNNEL) {
		wire_of(f, endpoint_get(f->source_endpoint));
		return deliver_tunnel(skb, f, config);
	}
	return PASS;
}

/* tcx ingress of the host-side device: a packet that its endpoint sends. */
SEC("tc")
int from_endpoint(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct endpoint *own, *other;
	struct ct_entry *e;
	struct flow f = {};
	int code, plain;
	__u8 *p;

	f.hook_endpoint = endpoint_by_ifindex(skb->ifindex, &own);
	f.source_endpoint = f.hook_endpoint;
	if (!f.hook_endpoint || !own || own->ifindex != skb->ifindex)
		return drop(skb, &f, DROPPED(DROP_EP_NOT_READY));
	f.source_identity = own->identity;
	if (!config || !config->hz)
		return drop(skb, &f, DROPPED(DROP_NO_CONFIG));
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, &f, DROPPED(DROP_INVALID));
	/* (A tag that is still in the frame is no protocol's number: see the switch's end.) */
	if (unlikely(skb->vlan_present))
		return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		code = ipv4_parse(skb, &f, config, ETHERNET_LENGTH, own);
		break;
	case ETHERTYPE_IPV6:
		code = ipv6_parse(skb, &f, config, ETHERNET_LENGTH, own);
		if (code == PARSED_LINK)
			return nd_from_endpoint(skb, &f, config, own);
		break;
	case ETHERTYPE_ARP:
		return arp_from_endpoint(skb, &f, config, own);
	default:
		return drop(skb, &f, is_tagged(skb, p) ? DROPPED(DROP_UNSUPPORTED_L2) : DROPPED(DROP_UNKNOWN_L3));
	}
	if (unlikely(code || (f.flags & (FLOW_FIRST_FRAGMENT | FLOW_FRAGMENT)))) {
		if (fragment_waits(skb, &f, code))
			return SHOT;
		if (code)
			return drop(skb, &f, code);
	}
	f.now = jiffies();
	e = bpf_map_lookup_elem(&weir_ct, &f.key);
	/* An ordinary flow is known by its tuple; what is not, or begins anew, may be for a service. */
	plain = ct_plain(e, &f) && !(e->flags & CT_SERVICE);
	if (unlikely(!plain)) {
		if (!e) {
			code = denial_known(&f, own, config->hz);
			if (code)
				return drop(skb, &f, code);
		}
		if (!e || (e->flags & CT_SERVICE) || !ct_alive(e, &f) || is_bare_syn(&f)) {
			code = service_ask(&f, e);
			if (code)
				return DROP_REASON(code) == DROP_NO_SERVICE ? reject(skb, &f, config, code) :
									      drop(skb, &f, code);
			if (f.flags & FLOW_SERVICE) {
				code = service_translate(skb, &f);
				if (code)
					return drop(skb, &f, code);
				e = f.flags & FLOW_SERVICE_FRESH ? 0 : bpf_map_lookup_elem(&weir_ct, &f.key);
				plain = ct_plain(e, &f);
			}
		}
	}
	code = admit_at(skb, &f, config, own, e, plain, &other, 0);
	if (!code && (f.flags & FLOW_SERVICE))
		code = service_sent(skb, &f);
	/* Clients elsewhere get the frontend back as the packet leaves the node. */
	else if (!code && (f.flags & FLOW_REPLY_NAT) && other && other->ifindex)
		code = service_answer(skb, &f);
	if (unlikely(code)) {
		code = refuse_any(skb, &f, code);
		return code == REFUSED_BOTH ? refused_leaves(skb, &f) : code;
	}

	count(0, 0, DIRECTION_EGRESS, skb->len);
	count_sent(0, f.hook_endpoint, skb->len);
	if (f.flags & FLOW_STACK)
		return f.redirect & REDIRECT_FLOW ? redirect_on(skb, &f) : PASS;
	if (other && other->ifindex)
		return deliver_local(skb, &f, other);
	if (f.flags & FLOW_TUNNEL) {
		wire_of(&f, own);
		return deliver_tunnel(skb, &f, config);
	}
	if ((config->flags & CONFIG_REDIRECT_NEIGH) && (f.node.halves[0] | f.node.halves[1]))
		return deliver_neighbour(skb, &f, config);
	return PASS;
}

/* tcx egress of the host-side device: a packet that comes through the host's stack, or that another hook has judged. */
SEC("tc")
int to_endpoint(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct endpoint *own, *other;
	struct ct_entry *e = 0;
	struct flow f = {};
	__u8 *p;
	int code;

	if (skb->mark == MARK_DELIVERED) {
		skb->mark = 0;
		return PASS;
	}
	f.flags = FLOW_INGRESS | FLOW_STACK;
	f.point = TRACE_TO_LXC;
	f.hook_endpoint = endpoint_by_ifindex(skb->ifindex, &own);
	f.destination_endpoint = f.hook_endpoint;
	/* The device that it came by to be passed on: a network is no endpoint of this node, nor the tunnel, whose senders
	 * from_overlay has checked. */
	if (config && brought_by(skb) && is_network_device(skb->ingress_ifindex, config))
		f.flags |= FLOW_NETWORK;
	if (!f.hook_endpoint || !own || own->ifindex != skb->ifindex)
		return drop(skb, &f, DROPPED(DROP_EP_NOT_READY));
	f.destination_identity = own->identity;
	if (!config || !config->hz)
		return drop(skb, &f, DROPPED(DROP_NO_CONFIG));
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, &f, DROPPED(DROP_INVALID));
	/* (A tag that is still in the frame is no protocol's number: see the switch's end.) */
	if (unlikely(skb->vlan_present))
		return drop(skb, &f, DROPPED(DROP_UNSUPPORTED_L2));
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		code = ipv4_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		break;
	case ETHERTYPE_IPV6:
		code = ipv6_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		if (code == PARSED_LINK)
			return nd_to_endpoint(skb, &f);
		break;
	case ETHERTYPE_ARP:
		return arp_to_endpoint(skb, &f);
	default:
		return drop(skb, &f, is_tagged(skb, p) ? DROPPED(DROP_UNSUPPORTED_L2) : DROPPED(DROP_UNKNOWN_L3));
	}
	if (!code && (f.flags & (FLOW_NETWORK | FLOW_RELATED)) == (FLOW_NETWORK | FLOW_RELATED))
		code = sender_check_packet(skb, &f);
	if (!code) {
		f.now = jiffies();
		e = bpf_map_lookup_elem(&weir_ct, &f.key);
		if (unlikely(!e)) {
			code = f.key.protocol == PROTOCOL_UDP ? datagram_passes(skb, &f) : redirect_passes(skb, &f);
			if (code == DATAGRAM_ONWARD)
				return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
			if (code == 1) {
				code = 0;
				e = bpf_map_lookup_elem(&weir_ct, &f.key);
			}
		}
	}
	if (!code)
		code = admit_entry(skb, &f, config, own, e, &other, FLOW_INGRESS | FLOW_STACK | FLOW_NETWORK);
	if (!code && (f.flags & FLOW_REPLY_NAT)) {
		if ((f.redirect & (REDIRECT_FLOW | REDIRECT_PASSED)) == REDIRECT_FLOW)
			return redirect_on(skb, &f);
		code = service_answer(skb, &f);
	}
	if (code)
		return DROP_REASON(code) == DROP_DIRECT_CONNECTION ? refuse(skb, &f, code) : drop(skb, &f, code);
	count(0, 0, DIRECTION_INGRESS, skb->len);
	count_received(0, f.hook_endpoint, skb->len);
	return PASS;
}
#undef FILE_ID
