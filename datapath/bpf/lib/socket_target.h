/* Where a socket wants to, and then where it goes. */
#pragma once

#include "config.h"
#include "handle_address.h"

#define SOCKET_TRANSLATED 1
#define SOCKET_EACCES 13
#define SOCKET_ECONNREFUSED 111

#define SOCKET_BIND_CLIENT 1 /* it stays as it is where it has one */
#define SOCKET_BIND_UPSTREAM 2 /* it must, and the handle has that address and port then */

struct socket_target {
	struct address address;
	__u16 port; /* be */
	__u8 protocol;
	__u8 pad;
	__u32 bind; /* SOCKET_BIND_*: the socket's own address becomes `own` */
	struct address own;
	__u32 handle; /* connects to this handle's server, or to the proxy with this handle;  a datagram of the proxy's: number in the address that is its source, HANDLE_OTHER_LEG included; else 0 */
};

INLINE int socket_is_v4(const struct address *a)
{
	return !a->halves[0] && a->words[2] == 0xffff0000u;
}

INLINE void socket_read_v4(struct bpf_sock_addr *ctx, struct socket_target *target)
{
	target->address.words[2] = 0xffff0000u;
	target->address.words[3] = ctx->user_ip4;
	target->port = ctx->user_port;
	target->protocol = ctx->protocol;
}

INLINE void socket_write_v4(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	ctx->user_ip4 = target->address.words[3];
	ctx->user_port = target->port;
}

INLINE void socket_read_v6(struct bpf_sock_addr *ctx, struct socket_target *target)
{
	target->address.words[0] = ctx->user_ip6[0];
	target->address.words[1] = ctx->user_ip6[1];
	target->address.words[2] = ctx->user_ip6[2];
	target->address.words[3] = ctx->user_ip6[3];
	target->port = ctx->user_port;
	target->protocol = ctx->protocol;
}

INLINE void socket_write_v6(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	ctx->user_ip6[0] = target->address.words[0];
	ctx->user_ip6[1] = target->address.words[1];
	ctx->user_ip6[2] = target->address.words[2];
	ctx->user_ip6[3] = target->address.words[3];
	ctx->user_port = target->port;
}

/* Where a datagram of the proxy's comes from. For programs of sendmsg(). */
INLINE void socket_write_source_v4(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	const struct config *config = config_get();

	if (config && target->handle)
		ctx->msg_src_ip4 = config->handle_ipv4 | bpf_htonl(target->handle);
}

INLINE void socket_write_source_v6(struct bpf_sock_addr *ctx, const struct socket_target *target)
{
	const struct config *config = config_get();
	struct address from;

	if (!config || !target->handle)
		return;
	handle_address(target->handle, 1, config, &from);
	ctx->msg_src_ip6[0] = from.words[0];
	ctx->msg_src_ip6[1] = from.words[1];
	ctx->msg_src_ip6[2] = from.words[2];
	ctx->msg_src_ip6[3] = from.words[3];
}
