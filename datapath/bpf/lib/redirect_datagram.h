/* UDP that the proxy judges. It has one socket for all of it, so a handle's address stands for the other end, and the port for which end that
 * is (DATAGRAM_CLIENT_PORT, DATAGRAM_SERVER_PORT):
 *
 *     client ──▶ (hook)  HANDLE:1 ─▶ HANDLE:15001 ──▶ lo: the proxy's socket            sendto(HANDLE:1) ──▶ (sendmsg hook) ─┐
 *     client ◀── to_endpoint: source becomes the server's           ◀── stack ◀── HANDLE:15001 ─▶ client ◀──────────────────┘
 *     server ──▶ (hook)  HANDLE:2 ─▶ HANDLE':15001 ──▶ lo: the proxy's socket           sendto(HANDLE:2) ──▶ (sendmsg hook) ─┐
 *     server ◀── from_endpoint ◀── to_endpoint: becomes client ─▶ server ◀── stack ◀── HANDLE':15001 ─▶ client ◀────────────┘
 *
 * HANDLE' is the handle's address with HANDLE_OTHER_LEG: so fragments of the two legs are no one datagram's, and what goes to the server is told
 * from what goes to the client. What the proxy asks the server goes by the client's own device, as if the client asked (MARK_ONWARD): so it
 * reaches whatever the client would reach, the way that would take, under the client's address.
 *
 * Onto lo the kernel sends it as its own (bpf_redirect_neigh() has found the way there), so no setting of the host, rp_filter and the
 * like, has to allow that a packet with an address of the host comes in. */
#pragma once

#include "redirect.h"
#include "refuse_datagram.h"

#define FILE_ID FILE_REDIRECT_DATAGRAM

/* datagram_passes(): goes on to the server by its client's device. */
#define DATAGRAM_ONWARD 2

/* Has the proxy its socket? Whoever sends to lo would not hear that it has none. */
INLINE int datagram_heard(struct __sk_buff *skb, const struct address *to, __u32 ipv6, __u16 port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;

	if (ipv6) {
		__builtin_memcpy(tuple.ipv6.saddr, to, 16);
		__builtin_memcpy(tuple.ipv6.daddr, to, 16);
		tuple.ipv6.sport = bpf_htons(DATAGRAM_CLIENT_PORT);
		tuple.ipv6.dport = port;
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv4.saddr = to->words[3];
		tuple.ipv4.daddr = to->words[3];
		tuple.ipv4.sport = bpf_htons(DATAGRAM_CLIENT_PORT);
		tuple.ipv4.dport = port;
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/* A datagram of a redirected flow that policy allows goes to the proxy. A verdict. */
NOINLINE int datagram_to_proxy(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct address to = {};
	struct ct_entry *e;
	struct handle *h;
	__u32 asks;
	__u16 port;
	int code;

	if (!f || !config)
		return SHOT;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	h = e && (e->flags & CT_REDIRECT) ? handle_get(e->handle) : 0;
	if (!h || !config->proxy_port)
		return refuse_datagram(skb, f, DROPPED(DROP_HANDLE_GONE));
	asks = f->source_hi == (e->flags & CT_ORIGIN_HI);
	handle_address(h->number, f->flags & FLOW_IPV6, config, &to);
	port = bpf_htons(proxy_datagram_port(h->number, config));
	if (!(f->flags & FLOW_FRAGMENT) && !datagram_heard(skb, &to, f->flags & FLOW_IPV6, port))
		return refuse_datagram(skb, f, DROPPED(DROP_PROXY_AWAY));
	code = translate(skb, f, TRANSLATE_SOURCE, &to,
			 asks ? bpf_htons(DATAGRAM_CLIENT_PORT) : bpf_htons(DATAGRAM_SERVER_PORT));
	if (!code) {
		if (!asks)
			to.words[3] |= bpf_htonl(HANDLE_OTHER_LEG);
		code = translate(skb, f, TRANSLATE_DESTINATION, &to, port);
	}
	if (code)
		return drop(skb, f, code);
	/* From the tunnel: addressed to the pod. */
	if (skb->pkt_type != PACKET_TYPE_HOST)
		bpf_skb_change_type(skb, PACKET_TYPE_HOST);
	return bpf_redirect_neigh(LOOPBACK_IFINDEX, 0, 0, 0);
}

/* A packet of a redirected flow that is the proxy's. A verdict. */
INLINE int redirect_on(struct __sk_buff *skb, struct flow *f)
{
	return f->key.protocol == PROTOCOL_UDP && !(f->flags & FLOW_RELATED) ? datagram_to_proxy(skb, f) : redirect_to_proxy(skb, f);
}

/* redirect_passes() of UDP, at the device of the client; nowhere else has it to do with handles. 0, 1, DATAGRAM_ONWARD (and the packet is as
 * its client would send it), or a drop. */
NOINLINE int datagram_passes(struct __sk_buff *skb, struct flow *f)
{
	const struct config *config = config_get();
	struct address to = {};
	struct ct_entry *e;
	struct handle *h;
	__u32 number, onward;
	__u16 port;
	int code;

	if (!f || !config || !config->proxy_port || !is_handle(flow_address(f, TRANSLATE_SOURCE), config))
		return 0;
	number = handle_number(flow_address(f, TRANSLATE_SOURCE), config);
	onward = number & HANDLE_OTHER_LEG;
	number &= ~HANDLE_OTHER_LEG;
	if (brought_by(skb) || (f->flags & FLOW_RELATED) || f->port_source != bpf_htons(proxy_datagram_port(number, config)))
		return DROPPED(DROP_HANDLE_ADDRESS);
	h = handle_get(number);
	if (!h || h->key.protocol != PROTOCOL_UDP || f->port_destination != handle_client_port(h) ||
	    !same_address(flow_address(f, TRANSLATE_DESTINATION), handle_client(h)))
		return DROPPED(DROP_HANDLE_GONE);
	/* The sendmsg hook has let it by: raw sockets, and those of others, it has not. */
	if (!h->cookie || bpf_get_socket_cookie(skb) != h->cookie)
		return DROPPED(DROP_HANDLE_ADDRESS);
	if (onward) {
		to = *handle_server(h);
		port = handle_server_port(h);
		code = translate(skb, f, TRANSLATE_SOURCE, handle_client(h), handle_client_port(h));
		if (!code)
			code = translate(skb, f, TRANSLATE_DESTINATION, &to, port);
		if (code)
			return code;
		if (reject_frame(skb))
			return DROPPED(DROP_WRITE_ERROR);
		skb->mark = MARK_ONWARD;
		return DATAGRAM_ONWARD;
	}
	to = *handle_server(h);
	code = translate(skb, f, TRANSLATE_SOURCE, &to, handle_server_port(h));
	if (code)
		return code;
	e = bpf_map_lookup_elem(&weir_ct, &f->key);
	if (!e || !(e->flags & CT_REDIRECT) || e->handle != number)
		return DROPPED(DROP_HANDLE_GONE);
	f->redirect |= REDIRECT_PASSED;
	return 1;
}
#undef FILE_ID
