/* Addresses of handles: a prefix and the handle's number. Nobody but the proxy and this node's stack has to do with them, and none of them is
 * ever on a wire: whoever else sends from or to one is dropped (252). */
#pragma once

#include "flow.h"

INLINE int is_handle_ipv4(__u32 a, const struct config *config)
{
	return config->handle_mask_ipv4 && !((a ^ config->handle_ipv4) & bpf_htonl(~config->handle_mask_ipv4));
}

/* Is it in a prefix of handles? */
INLINE int is_handle(const struct address *a, const struct config *config)
{
	if (!a->halves[0] && a->words[2] == 0xffff0000u)
		return is_handle_ipv4(a->words[3], config);
	return config->handle_ipv6 && a->halves[0] == config->handle_ipv6;
}

/* The number that an address which is_handle() says. */
INLINE __u32 handle_number(const struct address *a, const struct config *config)
{
	__u32 number = bpf_ntohl(a->words[3]);

	if (!a->halves[0] && a->words[2] == 0xffff0000u)
		return number & config->handle_mask_ipv4;
	return a->words[2] ? 0 : number;
}

INLINE void handle_address(__u32 number, __u32 ipv6, const struct config *config, struct address *a)
{
	if (ipv6) {
		a->halves[0] = config->handle_ipv6;
		a->words[2] = 0;
		a->words[3] = bpf_htonl(number);
	} else {
		a->halves[0] = 0;
		a->halves[1] = mapped(config->handle_ipv4 | bpf_htonl(number));
	}
}

#define PROXY_SOCKETS_MAX 64

/* Port (host order) of the proxy's socket that has both legs of a flow of datagrams: its processes have one each, and share flows by their numbers. */
INLINE __u16 proxy_datagram_port(__u32 number, const struct config *config)
{
	__u32 sockets = config->proxy_sockets;

	return config->proxy_port + (sockets > 1 ? number % sockets : 0);
}

/* May it be a port (host order) of the proxy's? */
INLINE int is_near_proxy(__u16 port, const struct config *config)
{
	return unlikely((__u16)(port - config->proxy_port) < PROXY_SOCKETS_MAX) && config->proxy_port;
}

/* Is it a port (host order) at which the proxy takes connections, or datagrams? */
INLINE int is_proxy_port(__u16 port, __u32 protocol, const struct config *config)
{
	__u16 at = port - config->proxy_port;

	if (!is_near_proxy(port, config))
		return 0;
	return (!at && protocol == PROTOCOL_TCP) || ((!at || at < config->proxy_sockets) && protocol == PROTOCOL_UDP);
}

/* For a port of the proxy's on an address of this node: to no handle, so nobody's connection. */
INLINE int is_for_proxy(const struct flow *f, const struct config *config)
{
	return is_proxy_port(bpf_ntohs(f->port_destination), f->key.protocol, config) && !(f->flags & FLOW_RELATED);
}
