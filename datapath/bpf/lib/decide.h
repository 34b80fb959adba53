/* May this packet pass, and where does it go? An established flow costs one conntrack lookup and one array lookup per
 * end on this node; everything else, and everything that changed since, is decided anew by decide(). */
#pragma once

#include "arrival_record.h"
#include "conntrack.h"
#include "denial.h"
#include "events.h"
#include "handle.h"
#include "ipcache.h"
#include "local.h"
#include "policy.h"
#include "redirect_judge.h"
#include "reset.h"
#include "sender.h"
#include "revision.h"
#include "trouble.h"

#define FILE_ID FILE_DECIDE

/* May one more "too big" pass, of those that this endpoint sends and gets? */
INLINE int error_budget(__u32 endpoint, const struct flow *f, const struct config *config)
{
	struct error_budget *budget = bpf_map_lookup_elem(&weir_error_budgets, &endpoint);

	if (!budget)
		return 0;
	if (f->now - READ_ONCE(budget->since) >= config->hz) {
		WRITE_ONCE(budget->since, f->now);
		WRITE_ONCE(budget->count, 0);
	}
	return __sync_fetch_and_add(&budget->count, 1) < ERRORS_PER_SECOND;
}

/* Is an ICMP error about entry `e` (null: there is none) one that its receiver has to hear, from who says it? 0 or a drop.
 *
 * The flow's key is that of the quoted packet turned round: its destination has sent that packet, and gets the error. */
INLINE int error_judge(const struct flow *f, const struct ct_entry *e, const struct config *config)
{
	const struct ct_end *sender, *receiver;
	__u32 reply, endpoint;
	__u16 sent;

	if (!e || !(f->flags & FLOW_RELATED))
		return DROPPED(DROP_ICMP_ERROR_FLOW);
	reply = f->source_hi != (e->flags & CT_ORIGIN_HI);
	sender = reply ? &e->ends[1] : &e->ends[0];
	receiver = reply ? &e->ends[0] : &e->ends[1];
	sent = reply ? e->sent[0] : e->sent[1];
	/* An endpoint speaks about its own flows only, and hears of its own only. */
	endpoint = f->flags & FLOW_INGRESS ? receiver->endpoint : sender->endpoint;
	if (f->hook_endpoint && endpoint != f->hook_endpoint)
		return DROPPED(DROP_ICMP_ERROR_FLOW);
	/* Who never answered has sent nothing that could be quoted; who is elsewhere has sent what we may not have seen. */
	if (!reply && !(e->flags & CT_SEEN_REPLY))
		return DROPPED(DROP_ICMP_ERROR_FLOW);
	/* (Of a redirected flow's two connections only one's numbers are known; their sockets look themselves.) */
	if (f->key.protocol == PROTOCOL_TCP && receiver->endpoint && !(e->flags & CT_REDIRECT) &&
	    (receiver->endpoint != ENDPOINT_HOST || f->hook_endpoint == ENDPOINT_HOST) && !sequence_near(sent, f))
		return DROPPED(DROP_ICMP_ERROR_FLOW);
	if ((f->flags & FLOW_TOO_BIG) && f->hook_endpoint && !error_budget(f->hook_endpoint, f, config))
		return DROPPED(DROP_RATE_LIMITED);
	return 0;
}

/* Where an event says that the packet goes. At hooks on the way to an endpoint the hook has set it. */
INLINE void set_point(struct flow *f, int local)
{
	if (unlikely((f->redirect & (REDIRECT_FLOW | REDIRECT_PASSED)) == REDIRECT_FLOW))
		f->point = TRACE_TO_PROXY;
	else if (f->flags & (FLOW_INGRESS | FLOW_L3))
		return;
	else if (local && !(f->flags & FLOW_STACK) && f->destination_endpoint != ENDPOINT_HOST)
		f->point = TRACE_TO_LXC;
	else if (f->flags & FLOW_TUNNEL)
		f->point = TRACE_TO_OVERLAY;
	else if (f->destination_identity == IDENTITY_HOST || local)
		f->point = TRACE_TO_HOST;
	else
		f->point = TRACE_TO_STACK;
}

/* A host address that a cgroup endpoint's socket uses, or somebody for whom the host passes it on: the flow knows who. */
INLINE void peer_from_entry(struct peer *peer, const struct ct_end *end)
{
	if (!peer->host)
		return;
	if (end->endpoint && end->endpoint != ENDPOINT_HOST)
		peer_from_endpoint(peer, end->endpoint);
	else if (end->identity == IDENTITY_REMOTE_NODE || identity_outside(end->identity))
		peer->identity = end->identity;
}

/* A socket of this host sends: is it a cgroup endpoint's? */
INLINE void peer_from_socket(struct peer *peer, const struct ct_end *end)
{
	const struct endpoint *endpoint = peer->host && end->endpoint ? endpoint_get(end->endpoint) : 0;

	if (endpoint && (endpoint->flags & ENDPOINT_CGROUP))
		peer_from_endpoint(peer, end->endpoint);
}

/* Is it the proxy's socket, for one of a cgroup endpoint? Then the flow is that endpoint's to who is asked. Its own policy is asked where it speaks
 * to the proxy. */
NOINLINE int peer_from_upstream(const struct flow *f, struct peer *peer)
{
	const struct handle *h;
	const __u32 *number;

	NEVER_NULL(f);
	NEVER_NULL(peer);
	number = peer->host ? bpf_map_lookup_elem(&weir_upstreams, &f->key) : 0;
	h = number ? handle_get(*number) : 0;
	if (h && (h->redirect & REDIRECT_SOCKET)) {
		peer_from_endpoint(peer, h->client.endpoint);
		peer->policy = 0;
	}
	return 0;
}

INLINE void fill_end(struct ct_end *end, const struct peer *peer, __u32 cookie, __u8 match)
{
	end->identity = peer->identity;
	end->endpoint = peer->endpoint;
	end->cookie = cookie;
	end->match = match;
	/* last: who sees the new revision sees the rest too */
	WRITE_ONCE(end->revision, peer->revision);
}

/* The forward direction's verdict, at whichever ends are this node's. Fills cookies and matches of the flow.
 *
 * A cgroup endpoint has the host's address, so to others it is the host: its sender cannot know better when it asks its
 * own policy. Only another cgroup endpoint on this node is told who it is. */
INLINE int decide_policy(struct flow *f, const struct peer *origin, const struct peer *target, __u32 reply)
{
	__u32 way = POLICY_EGRESS | ((f->source_hi != 0) == (reply != 0) ? POLICY_TARGET_HI : 0);
	__u32 sender = origin->identity, receiver = target->identity;
	int code = 0;

	if (target->endpoint_flags & ENDPOINT_CGROUP)
		receiver = IDENTITY_HOST;
	else if (origin->endpoint_flags & ENDPOINT_CGROUP)
		sender = IDENTITY_HOST;
	/* (Without a slot there is no policy. What the host says to its own sockets is nobody's business.) */
	if (origin->endpoint && origin->policy && (origin->endpoint != ENDPOINT_HOST || receiver != IDENTITY_HOST))
		code = policy_check(f, origin->policy, receiver, way);
	if (unlikely(f->redirect & REDIRECT_AUDIT))
		policy_audit(f, origin->policy, receiver, way);
	/* The host always reaches its own endpoints (allow-localhost): it could enter their namespaces anyway. */
	if (!code && target->endpoint && target->policy && sender != IDENTITY_HOST)
		code = policy_check(f, target->policy, sender, POLICY_INGRESS);
	if (unlikely(f->redirect & REDIRECT_AUDIT))
		policy_audit(f, target->policy, sender, POLICY_INGRESS);
	return code;
}

/* `seen`: of the ipcache, when the ends were resolved. */
INLINE void ct_fill(struct __sk_buff *skb, struct ct_entry *e, const struct flow *f, const struct peer *origin,
		    const struct peer *target, const struct config *config, const struct revision *seen, __u32 handle)
{
	fill_end(&e->ends[0], origin, f->egress_cookie, f->egress_match);
	fill_end(&e->ends[1], target, f->ingress_cookie, f->ingress_match);
	e->node = f->node;
	e->backend = 0;
	e->service = 0;
	ct_init(e, f, config);
	if (f->flags & FLOW_TUNNEL)
		e->flags |= CT_TUNNEL;
	if (f->flags & FLOW_STACK)
		e->flags |= CT_STACK;
	if (f->flags & FLOW_LOOPBACK)
		e->flags |= CT_LOOPBACK;
	e->handle = handle;
	if (unlikely(handle))
		e->flags |= CT_REDIRECT;
	if (!(f->flags & FLOW_INGRESS) || !origin->endpoint)
		ct_count(skb, f, e, 0, f->flags & FLOW_L3 ? 0 : ETHERNET_LENGTH);
	revision_note(e, seen);
}

/* A new flow's entry, and that of the frontend through which it goes. Returns 0 or a drop. */
NOINLINE int ct_create(struct __sk_buff *skb, struct flow *f, const struct peer *origin, const struct peer *target,
		       const struct revision *seen)
{
	const struct config *config = config_get();
	const struct arrival *a = 0;
	struct ct_claim *claim;
	struct ct_entry *e;
	__u32 share, handle = 0;
	long failed;

	if (!f || !origin || !target || !config || !seen)
		return DROPPED(DROP_CT_CREATE_FAILED);
	share = share_of(f);
	if (unlikely(f->flags & FLOW_L3)) {
		claim = ct_claim();
		if (!claim)
			return DROPPED(DROP_CT_CREATE_FAILED);
		failed = !ct_share_take(share, f, 1);
		if (failed) {
			ct_release(claim);
			return DROPPED(DROP_CT_SHARE);
		}
		if (unlikely(f->redirect & REDIRECT_SOCKET))
			handle = handle_number(flow_address(f, TRANSLATE_SOURCE), config);
		ct_fill(skb, &claim->entry, f, origin, target, config, seen, handle);
		ct_share_set(&claim->entry, share);
		failed = bpf_map_update_elem(&weir_ct, &f->key, &claim->entry, BPF_NOEXIST);
		ct_release(claim);
	} else {
		e = ct_new();
		if (!e)
			return DROPPED(DROP_CT_CREATE_FAILED);
		if (f->flags & FLOW_SERVICE || unlikely(f->redirect)) {
			a = arrival_get();
			if (!a)
				return DROPPED(DROP_CT_CREATE_FAILED);
			if (f->redirect)
				handle = a->handle;
			if (!(f->flags & FLOW_SERVICE))
				a = 0;
		}
		if (!ct_share_take(share, f, f->flags & FLOW_SERVICE_NEW ? 2 : 1))
			return DROPPED(DROP_CT_SHARE);
		ct_fill(skb, e, f, origin, target, config, seen, handle);
		ct_share_set(e, share);
		if (a)
			arrival_note(e, a);
		failed = bpf_map_update_elem(&weir_ct, &f->key, e, BPF_NOEXIST);
	}
	if (unlikely(failed)) {
		/* One that exists has expired or was closing (then it becomes ours), or another CPU was faster, with the same
		 * verdict. None: the table is full. */
		e = bpf_map_lookup_elem(&weir_ct, &f->key);
		if (!e) {
			ct_share_add(share, flow_source(f), f->flags & FLOW_SERVICE_NEW ? -2 : -1);
			return DROPPED(DROP_CT_CREATE_FAILED);
		}
		ct_share_move(e, &f->key, share);
		ct_fill(skb, e, f, origin, target, config, seen, handle);
		if (a)
			arrival_note(e, a);
	}
	if ((f->flags & FLOW_SERVICE_NEW) && (!a || !arrival_insert(f, a, config, share)))
		return DROPPED(DROP_CT_CREATE_FAILED);
	return 0;
}

/* The world is whatever is nobody's: is this the host's after all? A socket's packet that stays here goes by the loopback device;
 * of an endpoint's the routing tables know. `socket`: a constant, for programs of a cgroup may not ask them. (What goes to the proxy goes by that device,
 * wherever the server is.) What goes to many goes to the host's sockets too. */
INLINE void local_resolve(struct __sk_buff *skb, const struct flow *f, const struct address *from, const struct address *to,
			  struct peer *destination, const int socket)
{
	if (!socket && !(f->flags & FLOW_INGRESS) &&
	    (destination->identity == IDENTITY_MULTICAST || destination->identity == IDENTITY_BROADCAST))
		peer_has_host(destination);
	if (!identity_outside(destination->identity) || (f->flags & (FLOW_INGRESS | FLOW_RELATED)))
		return;
	if (socket ? skb->ifindex == LOOPBACK_IFINDEX && !(f->redirect & REDIRECT_SOCKET) : local_delivery(skb, from, to, f->flags & FLOW_IPV6)) {
		peer_is_host(destination);
	}
}

/* Is it a packet of a connection whose SYN was not seen, so that nobody knows who opened it? `e`: its entry, or null: a new flow. */
INLINE int is_of_unknown_origin(const struct flow *f, const struct ct_entry *e)
{
	if (f->key.protocol != PROTOCOL_TCP || (f->flags & FLOW_RELATED))
		return 0;
	return e ? !((e->tcp_flags[0] & TCP_SYN) || (e->flags & CT_REDIRECT)) : !is_bare_syn(f);
}

/* A bare SYN against a flow opens one of its own direction, if anything (RFC 9293, 3.5: both may open at once; then the other's SYN and the
 * answers to it do). And who is first heard in mid-stream may be the one that was asked: where asking is the proxy's, the connection is not to
 * go on beside it. 0 or a drop. */
NOINLINE int decide_turned(struct flow *f, const struct peer *source, const struct peer *destination, __u32 reply)
{
	const struct config *config;
	struct ct_entry *e;
	__u16 policy_port;
	int code;

	if (!f || !source || !destination || (f->flags & FLOW_LOOPBACK))
		return 0;
	policy_port = f->policy_port;
	f->policy_port = bpf_ntohs(reply ? f->port_destination : f->port_source);
	code = decide_policy(f, reply ? source : destination, reply ? destination : source, !reply);
	if (!is_bare_syn(f))
		code = f->redirect & (REDIRECT_EGRESS | REDIRECT_INGRESS) ? DROPPED(DROP_DIRECT_CONNECTION) : 0;
	if (DROP_REASON(code) == DROP_DIRECT_CONNECTION) {
		e = bpf_map_lookup_elem(&weir_ct, &f->key);
		/* (Asked for here: the stack has no room for it.) */
		config = config_get();
		if (e && config)
			redirect_ended(e, f, config);
	}
	if (code)
		return code;
	f->policy_port = policy_port;
	f->redirect &= ~(REDIRECT_EGRESS | REDIRECT_INGRESS);
	f->verdicts = 0;
	f->egress_cookie = 0;
	f->egress_match = 0;
	f->ingress_cookie = 0;
	f->ingress_match = 0;
	return 0;
}

/* Slow path: resolves both ends, asks policy, makes or renews the entry. `e`: what the table has under the flow's key,
 * or null. Returns 0 or a drop. */
INLINE int decide_flow(struct __sk_buff *skb, struct flow *f, struct ct_entry *e, const int socket)
{
	struct revision seen;
	const struct config *config = config_get();
	struct peer source = {}, destination = {};
	struct address node = {};
	const struct address *from, *to;
	struct ct_end *mine = 0;
	__u32 reply = 0, icmp_type;
	int alive, code;

	if (!config || !f)
		return DROPPED(DROP_NO_CONFIG);
	icmp_type = f->policy_port;
	/* Nobody sends from a virtual address: what is sent to one has been taken by service_ask(). */
	if (e && (e->flags & CT_SERVICE))
		return DROPPED(DROP_INVALID_SIP);
	alive = e && ct_alive(e, f) &&
		!(is_bare_syn(f) && (e->flags & (CT_CLOSING_FORWARD | CT_CLOSING_REVERSE)));
	if (alive) {
		reply = f->source_hi != (e->flags & CT_ORIGIN_HI);
		mine = reply ? &e->ends[1] : &e->ends[0];
	}
	if (f->flags & FLOW_ERROR) {
		code = error_judge(f, alive ? e : 0, config);
		if (code)
			return code;
	}
	from = f->source_hi ? &f->key.hi : &f->key.lo;
	to = f->source_hi ? &f->key.lo : &f->key.hi;
	/* Revisions first: what is decided may be newer than they say, never older. */
	seen = revision_of(f->flags & FLOW_INGRESS ? from : to);
	/* The client speaks to this backend from this port already, through a service: answers would come from that. */
	if (alive && (e->flags & CT_REPLY_NAT) && !reply && is_bare_syn(f) && !f->service && !(f->flags & FLOW_INGRESS))
		return DROPPED(DROP_NAT_NO_MAPPING);
	if (alive) {
		f->service = e->service;
		/* What an endpoint says to itself comes from nowhere else. */
		if ((e->flags & CT_LOOPBACK) && (f->flags & FLOW_INGRESS) && (f->flags & (FLOW_NETWORK | FLOW_RELATED)) != FLOW_RELATED)
			return DROPPED(DROP_INVALID_SIP);
		if (e->flags & CT_LOOPBACK)
			f->flags |= FLOW_LOOPBACK;
		if (reply && (e->flags & CT_REPLY_NAT))
			f->flags |= FLOW_REPLY_NAT;
	}
	/* One of the two has an address that is nobody's. */
	if (f->flags & FLOW_LOOPBACK)
		f->destination_endpoint = f->source_endpoint;

	if (f->source_endpoint) {
		peer_from_endpoint(&source, f->source_endpoint);
		/* May use other addresses, but nobody else's. */
		if (!(f->flags & (FLOW_L3 | FLOW_RELATED)) && (source.endpoint_flags & ENDPOINT_NO_SOURCE_CHECK)) {
			struct address_owner *owner = bpf_map_lookup_elem(&weir_addresses, from);

			/* Nor may it take over a flow that somebody else, here or far away, has with that address. */
			if ((owner && owner->endpoint != f->source_endpoint) ||
			    (alive && mine->endpoint != f->source_endpoint) ||
			    (!(f->flags & FLOW_LOOPBACK) && is_own_loopback(from, config)))
				return DROPPED(DROP_INVALID_SIP);
			/* Nor keep it when it becomes somebody's: two addresses that may change hands. */
			seen.element = 0;
		}
		if ((f->flags & (FLOW_L3 | FLOW_RELATED)) == FLOW_L3 && !sender_is_host(from))
			return DROPPED(DROP_INVALID_SIP);
	} else {
		peer_resolve(from, &source, &node, world_identity(f, config));
		/* An error's `from` is quoted, not claimed: its own source was checked before. */
		if (f->flags & FLOW_NETWORK && !(f->flags & FLOW_RELATED)) {
			code = sender_check(f, config, from, &source, &node);
			if (code)
				return code;
		} else if (is_own_loopback(from, config) && !(f->flags & FLOW_RELATED)) {
			return DROPPED(DROP_INVALID_SIP);
		}
		f->node = node;
	}
	if (f->destination_endpoint)
		peer_from_endpoint(&destination, f->destination_endpoint);
	else
		peer_resolve(to, &destination, &f->node, world_identity(f, config));
	local_resolve(skb, f, from, to, &destination, socket);
	if (destination.host && !reply && is_for_proxy(f, config))
		return DROPPED(DROP_HANDLE_ADDRESS);
	if ((f->flags & (FLOW_INGRESS | FLOW_RELATED)) == FLOW_INGRESS && source.host && !reply)
		sender_relayed(skb, &source, world_identity(f, config));
	if (alive) {
		/* (Who sends forward is known by where that came from.) */
		if (reply || (f->flags & FLOW_RELATED))
			peer_from_entry(&source, reply ? &e->ends[1] : &e->ends[0]);
		else if (!brought_by(skb))
			peer_from_socket(&source, &e->ends[0]);
		peer_from_entry(&destination, reply ? &e->ends[0] : &e->ends[1]);
		f->policy_port = e->policy_port;
	}
	if (socket)
		peer_from_upstream(f, reply ? &destination : &source);
	if (!(f->flags & (FLOW_INGRESS | FLOW_L3)) && (config->flags & CONFIG_TUNNEL) &&
	    !(destination.flags & IPCACHE_SKIP_TUNNEL) && (f->node.halves[0] | f->node.halves[1]))
		f->flags |= FLOW_TUNNEL;
	f->source_identity = source.identity;
	f->destination_identity = destination.identity;
	f->source_endpoint = source.endpoint;
	f->destination_endpoint = destination.endpoint;
	if (alive)
		f->reason = f->flags & FLOW_RELATED ? REASON_RELATED : reply ? REASON_REPLY : REASON_ESTABLISHED;
	else
		f->reason = REASON_NEW;

	/* Who could speak to the tunnel port could forge identities; so could who asks from it, for then answers go there. */
	if (f->protocol == PROTOCOL_UDP && !(f->flags & FLOW_RELATED) &&
	    ((f->port_destination == bpf_htons(config->tunnel_port) && !(f->flags & FLOW_INGRESS)) ||
	     (f->port_source == bpf_htons(config->tunnel_port) && !reply && (config->flags & CONFIG_TUNNEL))))
		return DROPPED(DROP_ENCAP_PROHIBITED);
	if ((reply && is_bare_syn(f)) || is_of_unknown_origin(f, alive ? e : 0) ||
	    unlikely(datagram_turned(f, alive ? e : 0, reply ? &source : &destination))) {
		code = decide_turned(f, &source, &destination, reply);
		if (code)
			return code;
	}
	/* What an endpoint says to itself passes no policy anywhere else. */
	code = f->flags & FLOW_LOOPBACK ? 0 :
	       reply			? decide_policy(f, &destination, &source, 1) :
					  decide_policy(f, &source, &destination, 0);
	if (code && !e && !socket)
		denial_keep(f, &source, &destination, &seen, code);
	if (!code && unlikely(f->redirect || (alive && (e->flags & CT_REDIRECT))))
		code = f->key.protocol == PROTOCOL_UDP ? datagram_judge(skb, f, alive ? e : 0, &source, &destination) :
							 redirect_judge(f, alive ? e : 0, &source, &destination);
	if (code)
		return code;
	alive = e && f->reason != REASON_NEW;

	/* What an error says about a flow changes nothing in it. */
	if (alive && (f->flags & FLOW_RELATED)) {
		f->verdicts = 0;
		set_point(f, destination.endpoint && !(destination.endpoint_flags & ENDPOINT_CGROUP));
		trace(skb, f, f->point);
		trouble_error(skb, f, e, icmp_type);
		return 0;
	}
	if (alive) {
		fill_end(&e->ends[0], reply ? &destination : &source, f->egress_cookie, f->egress_match);
		fill_end(&e->ends[1], reply ? &source : &destination, f->ingress_cookie, f->ingress_match);
		e->node = f->node;
		if (f->flags & FLOW_TUNNEL)
			e->flags |= CT_TUNNEL;
		else if (!(f->flags & FLOW_INGRESS))
			e->flags &= ~CT_TUNNEL;
		if (e->flags & CT_STACK)
			f->flags |= FLOW_STACK;
		revision_note(e, &seen);
		f->verdicts = 0;
		/* (Who asked does it: the stack has no room for more calls.) */
		if (!socket && unlikely(f->redirect & REDIRECT_FLOW)) {
			datagram_noted(f, e);
			return 0;
		}
		set_point(f, destination.endpoint && !(destination.endpoint_flags & ENDPOINT_CGROUP));
		if (!(f->flags & FLOW_INGRESS) || !source.endpoint)
			ct_count(skb, f, e, reply, socket ? 0 : ETHERNET_LENGTH);
		if (ct_touch(e, f, config, reply, f->flags & FLOW_INGRESS)) {
			trace(skb, f, f->point);
			trouble_reset(skb, f, e, reply);
		}
		return 0;
	}
	code = ct_create(skb, f, &source, &destination, &seen);
	if (code)
		return code;
	set_point(f, destination.endpoint && !(destination.endpoint_flags & ENDPOINT_CGROUP));
	event_emit(skb, f, EVENT_POLICY_VERDICT | f->point << 8, 0);
	return 0;
}

NOINLINE int decide(struct __sk_buff *skb, struct flow *f, struct ct_entry *e)
{
	return decide_flow(skb, f, e, 0);
}

NOINLINE int decide_socket(struct __sk_buff *skb, struct flow *f, struct ct_entry *e)
{
	return decide_flow(skb, f, e, 1);
}

/* Has decide() found, when it was asked about this flow, that this sender may send it? */
INLINE int sender_known(struct flow *f, const struct config *config, const struct ct_entry *e, __u32 identity, __u32 reply)
{
	int outside = is_zero(&e->node);

	if (f->flags & FLOW_RELATED)
		return 1;
	/* The host itself comes by no network; what it passes on may be an answer with its address put back. */
	if (unlikely(identity == IDENTITY_HOST) && !(reply && (f->flags & FLOW_STACK)))
		return 0;
	if (!(f->flags & FLOW_TUNNEL))
		return outside || !(config->flags & CONFIG_TUNNEL) || identity == IDENTITY_REMOTE_NODE;
	if (!outside)
		return same_address(&e->node, &f->node) && f->source_identity == identity;
	/* A node passes it on for who hears from this node directly. */
	if (!identity_outside(f->source_identity) || !identity_outside(identity))
		return 0;
	f->flags &= ~FLOW_TUNNEL;
	return 1;
}

/* Did the device that brought the packet to the host bring this flow's? */
INLINE int relay_known(struct __sk_buff *skb, const struct ct_end *end)
{
	struct endpoint *unused;

	return end->endpoint ? endpoint_by_ifindex(skb->ingress_ifindex, &unused) == end->endpoint :
			       end->identity != IDENTITY_HOST;
}

/* Fast path. `own` is the record of the endpoint whose hook this is, its id is in the flow on the side it stands; `e` is
 * what the table has under the flow's key, or null, and `plain` is ct_plain() of it. `*other` becomes the record of the other end
 * if that is on this node. `hook`, a constant, is what the flow's flags are there: FLOW_INGRESS, FLOW_STACK and FLOW_L3 if set,
 * FLOW_NETWORK if it may be. Returns 0 or a drop. */
INLINE int admit_at(struct __sk_buff *skb, struct flow *f, const struct config *config, const struct endpoint *own,
		    struct ct_entry *e, int plain, struct endpoint **other, const __u32 hook)
{
	const __u32 ingress = hook & FLOW_INGRESS ? 1 : 0;
	struct endpoint *record = 0;
	struct ct_end *mine, *theirs;
	__u32 reply, flags;
	int code;

	*other = 0;
	if (unlikely(!plain)) {
		if ((f->tcp_flags & (TCP_RST | TCP_FIN)) && e && ct_alive(e, f) && !reset_counts(skb, f, e))
			f->tcp_flags = TCP_ACK;
		if (!e || !ct_alive(e, f) || is_bare_syn(f) || (f->flags & FLOW_ERROR))
			goto slow;
	}
	if (!revision_holds(e))
		goto slow;
	flags = e->flags;
	/* Ends are indexed, not chosen: answers and their opposites take turns, and no branch is to guess which is next. */
	_Static_assert(CT_ORIGIN_HI == 1, "CT_ORIGIN_HI");
	reply = (f->source_hi ^ flags) & 1;
	mine = &e->ends[reply ^ ingress];
	theirs = &e->ends[reply ^ ingress ^ 1];
	/* What the host passes on is not the word of the host's own sockets, nor of others for whom it does. */
	if ((hook & FLOW_STACK) && unlikely(brought_by(skb)) && !reply && !relay_known(skb, theirs))
		goto slow;
	if (mine->endpoint != f->hook_endpoint || mine->revision != own->revision)
		goto slow;
	if (theirs->endpoint) {
		/* From the network, with an address of this node, or what an endpoint says to itself: decide() drops it. */
		if (((hook & FLOW_NETWORK) && (f->flags & FLOW_NETWORK)) || (ingress && (flags & CT_LOOPBACK)))
			goto slow;
		record = endpoint_get(theirs->endpoint);
		if (!record || record->revision != theirs->revision)
			goto slow;
	}
	if ((hook & FLOW_NETWORK) && (f->flags & FLOW_NETWORK) && !sender_known(f, config, e, theirs->identity, reply))
		goto slow;
	if (ingress) {
		f->source_identity = theirs->identity;
		f->destination_identity = mine->identity;
		f->source_endpoint = theirs->endpoint;
		f->destination_endpoint = mine->endpoint;
	} else {
		f->source_identity = mine->identity;
		f->destination_identity = theirs->identity;
		f->source_endpoint = mine->endpoint;
		f->destination_endpoint = theirs->endpoint;
	}
	f->reason = reply ? REASON_REPLY : REASON_ESTABLISHED;
	if (flags & (CT_TUNNEL | CT_STACK | CT_REPLY_NAT | CT_REDIRECT)) {
		if (flags & CT_STACK)
			f->flags |= FLOW_STACK;
		if (flags & CT_TUNNEL)
			f->flags |= FLOW_TUNNEL;
		f->service = e->service;
		if (reply && (flags & CT_REPLY_NAT))
			f->flags |= FLOW_REPLY_NAT;
		if (!(hook & FLOW_L3) && unlikely(flags & CT_REDIRECT)) {
			*other = record;
			return redirect_admitted(skb, f, e, reply);
		}
	}
	if (!ingress && !theirs->endpoint)
		f->node = e->node;
	*other = record;
	if (!ingress || !theirs->endpoint)
		ct_count(skb, f, e, reply, hook & FLOW_L3 ? 0 : ETHERNET_LENGTH);
	if (unlikely(ct_touch(e, f, config, reply, ingress))) {
		f->policy_port = e->policy_port;
		set_point(f, record && record->ifindex);
		trace(skb, f, f->point);
		trouble_reset(skb, f, e, reply);
	}
	return 0;
slow:
	/* What comes from the proxy has the wire's addresses by now, and nobody else speaks to or from a handle. (Sockets: redirect_of_socket().) */
	if (!(hook & FLOW_L3) && unlikely(is_of_handle(f)))
		return DROPPED(DROP_HANDLE_ADDRESS);
	code = hook & FLOW_L3 ? decide_socket(skb, f, e) : decide(skb, f, e);
	if (code)
		return code;
	if (!(hook & FLOW_L3) && unlikely(f->redirect & REDIRECT_FLOW))
		redirect_decided(skb, f, e);
	record = 0;
	if (ingress) {
		if (f->source_endpoint)
			record = endpoint_get(f->source_endpoint);
	} else if (f->destination_endpoint) {
		record = endpoint_get(f->destination_endpoint);
	}
	*other = record;
	return 0;
}

INLINE int admit_entry(struct __sk_buff *skb, struct flow *f, const struct config *config, const struct endpoint *own,
		       struct ct_entry *e, struct endpoint **other, const __u32 hook)
{
	return admit_at(skb, f, config, own, e, ct_plain(e, f), other, hook);
}

INLINE int admit(struct __sk_buff *skb, struct flow *f, const struct config *config, const struct endpoint *own,
		 struct endpoint **other, const __u32 hook)
{
	f->now = jiffies();
	return admit_entry(skb, f, config, own, bpf_map_lookup_elem(&weir_ct, &f->key), other, hook);
}
#undef FILE_ID
