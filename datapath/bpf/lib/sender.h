/* Who may say who they are. What the node itself knows about a packet (its device, its cgroup, the known node whose tunnel
 * carried it) is compared with what the packet claims (source address, VNI). A claim can make a packet be dropped, never be
 * let through, and never says where answers go: that is what the ipcache knows.
 *
 *   came by              source address                              identity
 *   an outer device      outside, a node's; in direct mode a pod's   ipcache
 *   a node's tunnel      on that node (ipcache), the VNI fits        ipcache
 *                        the same, the VNI is the identity before    ipcache: identities change on one node after the other
 *                        outside, VNI world: the node passes it on   ipcache
 *                        the node's own, VNI world: with its SNAT    world
 *   the host's stack     as by an outer device, if it came by one; else the host's own business
 *   the same, but under an address of the host: what the host passes on (masquerade, kube-proxy) is not the host's word:
 *                        of an endpoint's device that endpoint's, of the tunnel remote-node's, of any other the world's
 */
#pragma once

#include "config.h"
#include "events.h"
#include "handle_address.h"
#include "ipcache.h"

#define FILE_ID FILE_SENDER

/* What the other nodes are told: host and world are relative, identities of single nodes stay there. */
INLINE __u32 wire_identity(__u32 identity)
{
	if (identity == IDENTITY_HOST)
		return IDENTITY_REMOTE_NODE;
	if (identity == IDENTITY_WORLD_V4 || identity == IDENTITY_WORLD_V6 || identity >= 1 << 24)
		return IDENTITY_WORLD;
	return identity;
}

INLINE __u32 world_identity(const struct flow *f, const struct config *config)
{
	return f->flags & FLOW_IPV6 ? config->world_v6 : config->world_v4;
}

/* What passes this program. (The kernel copies tc_classid to tc_index when a program of tcx, or of cls_bpf, lets a packet
 * pass: include/net/tcx.h, tcx_action_code().) */
INLINE void origin_set(struct __sk_buff *skb, __u32 origin)
{
	skb->mark = MARK_TUNNEL;
	skb->tc_index = origin;
	skb->tc_classid = origin;
}

/* And stays so behind this program: outer devices may lie on one another. */
INLINE int origin_is(struct __sk_buff *skb, __u32 origin)
{
	if (skb->tc_index != origin || skb->mark != MARK_TUNNEL)
		return 0;
	skb->tc_classid = origin;
	return 1;
}

/* Underlay address of another node, which is where its tunnel packets come from. */
INLINE int is_node(const struct address *a)
{
	struct ipcache_entry *entry = bpf_map_lookup_elem(&weir_ipcache_exact, a);

	return entry && same_address(&entry->node, a);
}

/* Who an endpoint is to itself behind a service: nobody else's word. */
INLINE int is_own_loopback(const struct address *a, const struct config *config)
{
	return (config->loopback_ipv4 && !a->halves[0] && a->halves[1] == mapped(config->loopback_ipv4)) ||
	       (!is_zero(&config->loopback_ipv6) && same_address(a, &config->loopback_ipv6));
}

/* Had the address this identity before? Its node goes on naming that until all others know (struct endpoint, wire): who knows early
 * must not drop. */
NOINLINE int sender_moved(const struct address *from, __u32 claim)
{
	const struct ipcache_entry *entry;

	NEVER_NULL(from);
	entry = bpf_map_lookup_elem(&weir_ipcache_exact, from);
	return entry && entry->moved_from && claim == ((entry->identity & 0xffff0000) | entry->moved_from);
}

/* May what came over a network (FLOW_NETWORK) have this source? `peer` and `node` are what peer_resolve() says of it; with
 * FLOW_TUNNEL `f->node` and `f->source_identity` are what the tunnel's header says. 0 or a drop. Of a packet that a node passes
 * on for the outside FLOW_TUNNEL and the node are taken off: it hears from this node directly. */
INLINE int sender_check(struct flow *f, const struct config *config, const struct address *from, struct peer *peer,
			const struct address *node)
{
	__u32 claim = f->source_identity;

	/* Nobody else has our addresses. Behind the stack it may be the host's, by a masquerade of the host's own: sender_relayed(). */
	if ((peer->known || peer->identity == IDENTITY_HOST) && !(peer->known && peer->host && (f->flags & (FLOW_STACK | FLOW_L3))))
		return DROPPED(DROP_INVALID_SIP);
	if (is_own_loopback(from, config))
		return DROPPED(DROP_INVALID_SIP);
	if (!(f->flags & FLOW_TUNNEL)) {
		/* Pods of other nodes come through the tunnel. */
		if ((config->flags & CONFIG_TUNNEL) && !is_zero(node) && peer->identity != IDENTITY_REMOTE_NODE &&
		    !(peer->flags & IPCACHE_SKIP_TUNNEL))
			return DROPPED(DROP_INVALID_IDENTITY);
		return 0;
	}
	if (is_zero(node) && identity_outside(peer->identity) && identity_outside(claim)) {
		f->flags &= ~FLOW_TUNNEL;
		f->node.halves[0] = 0;
		f->node.halves[1] = 0;
		return 0;
	}
	if (is_zero(node) || !same_address(node, &f->node))
		return DROPPED(DROP_TUNNEL_SOURCE);
	if (peer->identity == IDENTITY_REMOTE_NODE && identity_outside(claim))
		peer->identity = claim;
	else if (claim != wire_identity(peer->identity) && !sender_moved(from, claim))
		return DROPPED(DROP_INVALID_IDENTITY);
	return 0;
}

/* Did a device bring the packet to the host? */
INLINE __u32 brought_by(const struct __sk_buff *skb)
{
	return skb->ingress_ifindex == LOOPBACK_IFINDEX ? 0 : skb->ingress_ifindex;
}

/* Is the device one that no endpoint has, nor the tunnel (whose senders from_overlay has checked)? */
INLINE int is_network_device(__u32 device, const struct config *config)
{
	struct endpoint *unused;

	return device != config->tunnel_ifindex && !endpoint_by_ifindex(device, &unused);
}

/* `peer` has an address of this host, but a device brought the packet: the host passes it on for whom? */
NOINLINE int sender_relayed(struct __sk_buff *skb, struct peer *peer, __u32 world)
{
	const struct config *config = config_get();
	__u32 device = brought_by(skb), id;
	struct endpoint *unused;

	if (!config || !peer || !device)
		return 0;
	peer->endpoint = 0;
	peer->policy = 0;
	id = endpoint_by_ifindex(device, &unused);
	if (id)
		peer_from_endpoint(peer, id);
	else
		peer->identity = device == config->tunnel_ifindex ? IDENTITY_REMOTE_NODE : world;
	return 0;
}

/* May a socket of this node send from it? Raw sockets may write any address; not one that is an endpoint's. */
NOINLINE int sender_is_host(const struct address *from)
{
	struct address_owner *owner;
	struct ipcache_entry *entry;

	NEVER_NULL(from);
	owner = bpf_map_lookup_elem(&weir_addresses, from);
	if (owner)
		return (owner->flags & ADDRESS_HOST) != 0;
	entry = ipcache_lookup(from);
	return !entry || is_zero(&entry->node);
}

/* sender_check() of the packet's own source, whatever it quotes. The flow learns the identity. 0 or a drop. */
NOINLINE int sender_check_packet(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct address from = {}, node = {};
	struct peer peer = {};
	__u32 l3;
	int code;

	if (!f || !config)
		return DROPPED(DROP_NO_CONFIG);
	l3 = f->flags & FLOW_L3 ? 0 : ETHERNET_LENGTH;
	if (f->flags & FLOW_IPV6) {
		if (bpf_skb_load_bytes(skb, l3 + 8, &from, 16))
			return DROPPED(DROP_INVALID);
	} else {
		if (bpf_skb_load_bytes(skb, l3 + 12, &from.words[3], 4))
			return DROPPED(DROP_INVALID);
		from.words[2] = 0xffff0000u;
	}
	if (unlikely(is_handle(&from, config)))
		return DROPPED(DROP_HANDLE_ADDRESS);
	peer_resolve(&from, &peer, &node, world_identity(f, config));
	code = sender_check(f, config, &from, &peer, &node);
	f->source_identity = peer.identity;
	return code;
}
#undef FILE_ID
