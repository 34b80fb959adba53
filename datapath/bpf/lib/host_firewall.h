/* The node's own traffic on its devices: what comes to an address of the node, and what its processes send. It is judged by the policy of
 * the host's endpoint (ENDPOINT_HOST), once that has one; until then a packet costs one look at its record.
 *
 *   wire ──▶ from_netdev, from_overlay ── for a service, for who was masqueraded? ──no──▶ host_judge() ──▶ stack
 *   process ──▶ to_netdev, to_overlay ── the tunnel's, translated here, the proxy's? ──no──▶ host_judge() ──▶ wire
 *
 * Flows of endpoints of this node with the host are judged where the endpoint is (decide.h), both policies in one entry. Those here have
 * entries of their own in weir_ct, told apart by CT_SCOPE_HOST in the key: a flow of a socket in a cgroup endpoint, say, has one of each.
 *
 * A device that is not an outer one is not guarded, nor are the VLANs that an outer device lets by.
 *
 * What the host only passes on under an address of its own (masquerade of iptables) is not the host's word: it gets an entry, so that
 * answers find back, and is judged by nobody here. */
#pragma once

#include "arrival.h"
#include "decide.h"
#include "failsafe.h"
#include "ipv4.h"
#include "ipv6.h"
#include "nat.h"
#include "vlan.h"

#define FILE_ID FILE_HOST_FIREWALL

/* argument of host_judge(): FLOW_IPV6, and */
#define HOST_INGRESS 2
#define HOST_TUNNEL 4 /* by the tunnel, whose senders were checked: scratch's flow knows who */

#define HOST_ALONE 8 /* of no flow, and opens none */

#define PROTOCOL_IGMP 2
#define PARSED_ALONE 2

/* Is there anything to judge by? */
INLINE int host_guarded(void)
{
	return host_endpoint() != 0;
}

INLINE int has_ports(__u8 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP || protocol == PROTOCOL_ICMP ||
	       protocol == PROTOCOL_ICMPV6;
}

/* What has no ports that we know: the protocol alone is judged, of a later fragment as of the first. Of other types of ICMP (a
 * redirect, say) each packet is, by its type. */
INLINE int host_parse_other(struct __sk_buff *skb, struct flow *f, int code)
{
	__u32 reason = DROP_REASON(code), alone = reason == DROP_UNKNOWN_ICMP4_TYPE || reason == DROP_UNKNOWN_ICMP6_TYPE;
	struct address from = {}, to = {};

	if (reason != DROP_CT_UNKNOWN_PROTO && !alone && (reason != DROP_FRAG_NOT_FOUND || has_ports(f->protocol)))
		return code;
	if (f->flags & FLOW_IPV6) {
		if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 8, &from, 16) || bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 24, &to, 16))
			return code;
	} else {
		if (bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 12, &from.words[3], 4) ||
		    bpf_skb_load_bytes(skb, ETHERNET_LENGTH + 16, &to.words[3], 4))
			return code;
		from.words[2] = 0xffff0000u;
		to.words[2] = 0xffff0000u;
	}
	flow_set_key(f, from.halves[0], from.halves[1], to.halves[0], to.halves[1], f->protocol);
	return alone ? PARSED_ALONE : 0;
}

/* Scratch's flow becomes what the packet is. 0, PARSED_LINK, PARSED_ALONE or a drop. */
NOINLINE int host_parse(struct __sk_buff *skb, __u32 what)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 identity;
	struct flow *f;
	int code;

	if (!config || !s)
		return DROPPED(DROP_NO_CONFIG);
	f = &s->flow;
	identity = f->source_identity;
	__builtin_memset(f, 0, sizeof(*f));
	if (what & HOST_TUNNEL)
		f->source_identity = identity;
	f->hook_endpoint = ENDPOINT_HOST;
	if (what & HOST_INGRESS) {
		f->flags = FLOW_INGRESS | FLOW_NETWORK;
		f->point = TRACE_TO_HOST;
	} else {
		f->point = what & HOST_TUNNEL ? TRACE_TO_OVERLAY : TRACE_TO_NETWORK;
	}
	if (what & FLOW_IPV6)
		code = ipv6_parse(skb, f, config, ETHERNET_LENGTH, 0);
	else
		code = ipv4_parse(skb, f, config, ETHERNET_LENGTH, 0);
	if (code && code != PARSED_LINK)
		code = f->protocol == PROTOCOL_IGMP && !(what & FLOW_IPV6) ? PARSED_LINK : host_parse_other(skb, f, code);
	f->key.scope = CT_SCOPE_HOST;
	f->now = jiffies();
	return code;
}

/* Policy's word about the flow as the host (`egress`) or the other end opens it; or the fail-safe list's. 0 or a drop. */
NOINLINE int host_policy(struct __sk_buff *skb, struct flow *f, const struct peer *far, __u32 egress)
{
	const struct endpoint *own = endpoint_get(ENDPOINT_HOST);
	__u32 way = egress ? POLICY_EGRESS : POLICY_INGRESS, far_hi;
	int code;

	if (!f || !far || !own)
		return DROPPED(DROP_POLICY);
	far_hi = f->flags & FLOW_INGRESS ? f->source_hi : !f->source_hi;
	if (egress && far_hi)
		way |= POLICY_TARGET_HI;
	code = policy_check(f, own->policy, far->identity, way);
	if (unlikely(f->redirect & REDIRECT_AUDIT))
		policy_audit(f, own->policy, far->identity, way);
	if (!code && unlikely(f->redirect))
		code = DROPPED(DROP_PROXY_LOOKUP_FAILED);
	if (unlikely(code))
		code = failsafe_judge(skb, f, far, egress, code);
	return code;
}

/* In mid-stream, and nobody saw who opened it: may the other way round have been? 0 or the drop `code`; `*egress` becomes who has. */
NOINLINE int host_turned(struct __sk_buff *skb, struct flow *f, const struct peer *far, __u32 *egress, int code)
{
	__u16 port;
	int turned;

	if (!f || !far || !egress)
		return code;
	/* What comes in must be of a connection that a socket here has. */
	if ((f->flags & FLOW_INGRESS) && !failsafe_established(skb, f))
		return code;
	port = f->policy_port;
	f->policy_port = bpf_ntohs(f->port_source);
	f->redirect = 0;
	turned = host_policy(skb, f, far, !*egress);
	if (turned) {
		f->policy_port = port;
		return code;
	}
	*egress = !*egress;
	return 0;
}

/* A new flow's entry, or what is left of the one before it. 0 or a drop. */
NOINLINE int host_remember(struct __sk_buff *skb, struct flow *f, const struct peer *far, __u32 egress, __u32 relayed)
{
	const struct endpoint *own = endpoint_get(ENDPOINT_HOST);
	struct peer host = {};
	struct revision seen;
	__u8 hi;
	__u32 turned;
	struct ct_entry *e;
	int code;

	if (!f || !far || !own)
		return DROPPED(DROP_CT_CREATE_FAILED);
	host.revision = own->revision;
	host.identity = IDENTITY_HOST;
	host.endpoint = ENDPOINT_HOST;
	seen = revision_of(f->flags & FLOW_INGRESS ? (f->source_hi ? &f->key.hi : &f->key.lo) :
						     (f->source_hi ? &f->key.lo : &f->key.hi));
	hi = f->source_hi;
	turned = !egress != !!(f->flags & FLOW_INGRESS);
	if (turned)
		f->source_hi = !hi;
	code = egress ? ct_create(skb, f, &host, far, &seen) : ct_create(skb, f, far, &host, &seen);
	f->source_hi = hi;
	if (!code && relayed) {
		e = bpf_map_lookup_elem(&weir_ct, &f->key);
		if (e)
			e->flags |= CT_STACK;
	}
	return code;
}

/* The entry is alive, and something has changed since it was judged. 0 or a drop. */
NOINLINE int host_again(struct __sk_buff *skb, struct flow *f, struct ct_entry *e, const struct peer *far, const struct revision *seen)
{
	const struct endpoint *own = endpoint_get(ENDPOINT_HOST);
	struct ct_end *mine, *theirs;
	__u32 reply, egress, revision;
	int code;

	if (!f || !e || !far || !own || !seen)
		return DROPPED(DROP_POLICY);
	reply = f->source_hi != (e->flags & CT_ORIGIN_HI);
	egress = e->ends[0].endpoint == ENDPOINT_HOST;
	mine = egress ? &e->ends[0] : &e->ends[1];
	theirs = egress ? &e->ends[1] : &e->ends[0];
	revision = READ_ONCE(own->revision);
	f->reason = reply ? REASON_REPLY : REASON_ESTABLISHED;
	/* A bare SYN against the flow opens one of its own direction. */
	if (reply && is_bare_syn(f)) {
		code = host_policy(skb, f, far, !egress);
		if (code)
			return code;
	}
	if (!(e->flags & CT_STACK)) {
		f->policy_port = e->policy_port;
		code = host_policy(skb, f, far, egress);
		if (code)
			return code;
	}
	theirs->identity = far->identity;
	mine->cookie = egress ? f->egress_cookie : f->ingress_cookie;
	mine->match = egress ? f->egress_match : f->ingress_match;
	WRITE_ONCE(mine->revision, revision);
	revision_note(e, seen);
	f->verdicts = 0;
	return 0;
}

/* May an ICMP error pass? Of what has an entry, of the tunnel's packets, and whatever the host itself says. 0 or a drop. */
INLINE int host_error(struct flow *f, const struct ct_entry *e, const struct config *config)
{
	if (!(f->flags & FLOW_INGRESS))
		return 0;
	if ((config->flags & CONFIG_TUNNEL) && f->key.protocol == PROTOCOL_UDP && (f->flags & FLOW_RELATED) &&
	    (f->port_source == bpf_htons(config->tunnel_port) || f->port_destination == bpf_htons(config->tunnel_port)))
		return 0;
	return error_judge(f, e, config);
}

/* Does what comes by a wire in the far end's name come from there? The slow path knows of those who have a tunnel. */
INLINE int host_sender_known(const struct ct_end *far, const struct config *config, __u32 what)
{
	return (what & (HOST_INGRESS | HOST_TUNNEL)) != HOST_INGRESS || !(config->flags & CONFIG_TUNNEL) ||
	       identity_outside(far->identity) || far->identity == IDENTITY_REMOTE_NODE ||
	       far->identity == IDENTITY_KUBE_APISERVER;
}

/* Slow path; scratch has the flow, `alive` says whether its entry `e` is. Returns 0 or a drop. */
NOINLINE int host_decide(struct __sk_buff *skb, struct ct_entry *e, __u32 what, __u32 alive)
{
	const struct config *config = config_get();
	struct nat_scratch *s = nat_scratch();
	__u32 egress = !(what & HOST_INGRESS), relayed;
	struct address node = {};
	const struct address *address;
	struct revision seen;
	struct peer far = {};
	struct flow *f;
	int code;

	if (!config || !s)
		return DROPPED(DROP_NO_CONFIG);
	f = &s->flow;
	address = (what & HOST_INGRESS) ? (f->source_hi ? &f->key.hi : &f->key.lo) : (f->source_hi ? &f->key.lo : &f->key.hi);
	seen = revision_of(address);
	peer_resolve(address, &far, &node, world_identity(f, config));
	far.endpoint = 0;
	if (what & HOST_INGRESS) {
		if (what & HOST_TUNNEL)
			far.identity = f->source_identity;
		else {
			code = sender_check_packet(skb, f);
			if (code)
				return code;
		}
		f->source_identity = far.identity;
		f->destination_identity = IDENTITY_HOST;
		f->destination_endpoint = ENDPOINT_HOST;
	} else {
		f->source_identity = IDENTITY_HOST;
		f->destination_identity = far.identity;
	}
	if (f->flags & FLOW_ERROR)
		return host_error(f, alive ? e : 0, config);
	if (alive && e)
		return host_again(skb, f, e, &far, &seen);
	f->reason = REASON_NEW;
	relayed = egress && brought_by(skb);
	code = relayed ? 0 : host_policy(skb, f, &far, egress);
	if (code && f->key.protocol == PROTOCOL_TCP && !is_bare_syn(f))
		code = host_turned(skb, f, &far, &egress, code);
	if (code || (what & HOST_ALONE))
		return code;
	code = host_remember(skb, f, &far, egress, relayed);
	if (!code)
		event_emit(skb, f, EVENT_POLICY_VERDICT | f->point << 8, 0);
	return code;
}

/* A packet that comes to the host, or that the host sends. A verdict: PASS, or it was dropped. */
NOINLINE int host_judge(struct __sk_buff *skb, __u32 what)
{
	const struct config *config = config_get();
	const struct endpoint *own = endpoint_get(ENDPOINT_HOST);
	struct nat_scratch *s = nat_scratch();
	__u32 ingress = what & HOST_INGRESS ? 1 : 0, reply, alive;
	struct ct_end *mine, *theirs;
	struct ct_entry *e;
	struct flow *f;
	int code;

	code = host_parse(skb, what);
	if (!config || !s || !own)
		return SHOT;
	if (code == PARSED_LINK)
		return PASS;
	f = &s->flow;
	if (code == PARSED_ALONE)
		what |= HOST_ALONE;
	else if (code)
		return drop(skb, f, code);
	e = what & HOST_ALONE ? 0 : bpf_map_lookup_elem(&weir_ct, &f->key);
	alive = e && ct_alive(e, f) && !(is_bare_syn(f) && (e->flags & (CT_CLOSING_FORWARD | CT_CLOSING_REVERSE)));
	reply = alive && f->source_hi != (e->flags & CT_ORIGIN_HI);
	if (alive && !(f->flags & FLOW_ERROR) && !is_bare_syn(f) && revision_holds(e)) {
		mine = e->ends[0].endpoint == ENDPOINT_HOST ? &e->ends[0] : &e->ends[1];
		theirs = mine == &e->ends[0] ? &e->ends[1] : &e->ends[0];
		if (mine->revision == own->revision && host_sender_known(theirs, config, what))
			goto known;
	}
	code = host_decide(skb, e, what, alive);
	if (code)
		return drop(skb, f, code);
	if (!alive || (f->flags & FLOW_ERROR))
		return PASS;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
known:
	if (e) {
		ct_count(skb, f, e, reply, ETHERNET_LENGTH);
		f->reason = reply ? REASON_REPLY : REASON_ESTABLISHED;
		if (ct_touch(e, f, config, reply, ingress)) {
			mine = &e->ends[0];
			f->source_identity = reply ? e->ends[1].identity : mine->identity;
			f->destination_identity = reply ? mine->identity : e->ends[1].identity;
			f->policy_port = e->policy_port;
			trace(skb, f, f->point);
		}
	}
	return PASS;
}

/* What the host sends into the tunnel. (Not what the proxy does: that is an endpoint's.) A verdict. */
NOINLINE int host_sends(struct __sk_buff *skb)
{
	struct address_owner *owner;
	struct address from = {};
	__u32 ipv6;
	__u8 *p = packet_start(skb);

	if (skb->mark == MARK_UPSTREAM || p + ETHERNET_LENGTH > (__u8 *)packet_end(skb) || is_tagged(skb, p))
		return PASS;
	ipv6 = LOAD16(p + 12) == ETHERTYPE_IPV6;
	if ((!ipv6 && LOAD16(p + 12) != ETHERTYPE_IPV4) || !reach(skb, 1, ETHERNET_LENGTH + 20) ||
	    (ipv6 && !reach(skb, 1, ETHERNET_LENGTH + 40)) || !packet_source(skb, ipv6, &from))
		return PASS;
	owner = bpf_map_lookup_elem(&weir_addresses, &from);
	return owner && (owner->flags & ADDRESS_HOST) ? host_judge(skb, ipv6 | HOST_TUNNEL) : PASS;
}

/* What an outer device, or the tunnel, has brought and nobody else has taken: is it for the host? (By now it may have another
 * destination than it came with.) A verdict. */
NOINLINE int host_receives(struct __sk_buff *skb, __u32 what)
{
	struct address_owner *owner;
	struct address from = {}, to = {};

	if (!packet_source(skb, what & FLOW_IPV6, &from) || !packet_destination(skb, what & FLOW_IPV6, &to))
		return PASS;
	owner = bpf_map_lookup_elem(&weir_addresses, &to);
	/* Many, or a link's own: the host's sockets may be among them. */
	if (owner ? !(owner->flags & (ADDRESS_HOST | ADDRESS_BROADCAST)) :
		    !identity_of_many(&to) && !is_link_local(&to) && !local_delivery(skb, &from, &to, what & FLOW_IPV6))
		return PASS;
	return host_judge(skb, what);
}
#undef FILE_ID
