/* The tunnel between nodes: VXLAN, the sender's identity as the network identifier. */
#include "lib/enter.h"

#define FILE_ID FILE_BPF_OVERLAY

/* Who sent it and from which node, as the tunnel header says. 0 or a drop. */
INLINE int tunnel_source(struct __sk_buff *skb, struct flow *f, const struct config *config)
{
	struct bpf_tunnel_key key = {};

	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0)) {
		f->node.halves[1] = mapped(bpf_htonl(key.remote_ipv4));
	} else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6)) {
		f->node.words[0] = key.remote_ipv6[0];
		f->node.words[1] = key.remote_ipv6[1];
		f->node.words[2] = key.remote_ipv6[2];
		f->node.words[3] = key.remote_ipv6[3];
	} else {
		return DROPPED(DROP_NO_TUNNEL_KEY);
	}
	/* "Host" means ourselves, and 0 nobody: no node sends these. */
	if (key.tunnel_id == IDENTITY_HOST || key.tunnel_id == 0)
		return DROPPED(DROP_INVALID_IDENTITY);
	f->source_identity = key.tunnel_id == IDENTITY_WORLD ? world_identity(f, config) : key.tunnel_id;
	return 0;
}

/* tcx ingress of the VXLAN device. */
SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct endpoint *own, *other;
	struct address address;
	struct flow f = {};
	int code, id;
	__u8 *p;

	f.flags = FLOW_INGRESS | FLOW_NETWORK;
	f.point = TRACE_TO_LXC;
	if (!config || !config->hz)
		return drop(skb, &f, DROPPED(DROP_NO_CONFIG));
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, &f, DROPPED(DROP_INVALID));
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		code = ipv4_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		break;
	case ETHERTYPE_IPV6:
		code = ipv6_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		if (code == PARSED_LINK)
			code = DROPPED(DROP_FORBIDDEN_ICMP6);
		break;
	default:
		code = DROPPED(DROP_UNKNOWN_L3);
	}
	if (!code)
		code = tunnel_source(skb, &f, config);
	if (code)
		return drop(skb, &f, code);
	f.flags |= FLOW_TUNNEL;
	if (!packet_destination(skb, f.flags & FLOW_IPV6, &address))
		return drop(skb, &f, DROPPED(DROP_INVALID));
	id = destination_of(&address);
	if (id < 0)
		return drop(skb, &f, DROPPED(DROP_UNROUTABLE));
	if (id == 0) {
		/* The host's. The sender's frame was addressed to its own gateway. */
		if (skb->pkt_type != PACKET_TYPE_HOST)
			bpf_skb_change_type(skb, PACKET_TYPE_HOST);
		count(&f, 0, DIRECTION_INGRESS, skb->len);
		return PASS;
	}
	f.hook_endpoint = id;
	f.destination_endpoint = id;
	own = endpoint_get(id);
	if (!own || !own->ifindex)
		return drop(skb, &f, DROPPED(DROP_UNROUTABLE));
	code = admit(skb, &f, config, own, &other);
	if (code)
		return drop(skb, &f, code);
	return deliver_local(skb, &f, own);
}

/* Egress of the VXLAN device: what from_endpoint sent has its key; the host's own packets get theirs here. */
SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	const struct config *config = config_get();
	struct peer source = {}, destination = {};
	struct address from, to, unused = {};
	struct flow f = {};
	int code;
	__u8 *p;

	if (skb->mark == MARK_OVERLAY) {
		skb->mark = 0;
		return PASS;
	}
	if (!config || !config->hz)
		return drop(skb, &f, DROPPED(DROP_NO_CONFIG));
	p = packet_start(skb);
	if (p + ETHERNET_LENGTH > (__u8 *)packet_end(skb))
		return drop(skb, &f, DROPPED(DROP_INVALID));
	switch (LOAD16(p + 12)) {
	case ETHERTYPE_IPV4:
		code = ipv4_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		break;
	case ETHERTYPE_IPV6:
		code = ipv6_parse(skb, &f, config, ETHERNET_LENGTH, 0);
		/* The device has no neighbours: what the kernel says to its link (its own reports) ends here. */
		if (code == PARSED_LINK) {
			count(&f, 0, DIRECTION_EGRESS, skb->len);
			return SHOT;
		}
		break;
	default:
		code = DROPPED(DROP_UNKNOWN_L3);
	}
	if (code)
		return drop(skb, &f, code);
	if (f.source_hi) {
		from = f.key.hi;
		to = f.key.lo;
	} else {
		from = f.key.lo;
		to = f.key.hi;
	}
	peer_resolve(&from, &source, &unused, world_identity(&f, config));
	peer_resolve(&to, &destination, &f.node, world_identity(&f, config));
	f.source_identity = source.identity;
	f.destination_identity = destination.identity;
	if (!(f.node.halves[0] | f.node.halves[1]))
		return drop(skb, &f, DROPPED(DROP_NO_TUNNEL_ENDPOINT));
	code = tunnel_key(skb, &f);
	if (code)
		return drop(skb, &f, code);
	count(&f, 0, DIRECTION_EGRESS, skb->len);
	return PASS;
}
#undef FILE_ID
