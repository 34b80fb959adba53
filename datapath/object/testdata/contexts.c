/* Global functions that take contexts of several program types. */
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __arg_ctx __attribute__((btf_decl_tag("arg:ctx")))

struct sk_buff {
	int any;
};

__attribute__((noinline)) int of_skb(struct __sk_buff *ctx)
{
	return ctx ? ctx->len : 0;
}

__attribute__((noinline)) int of_xdp(struct xdp_md *ctx)
{
	return ctx ? ctx->ingress_ifindex : 0;
}

__attribute__((noinline)) int of_kernel_skb(struct sk_buff *ctx)
{
	return ctx ? 1 : 0;
}

__attribute__((noinline)) int tagged_void(void *ctx __arg_ctx)
{
	return ctx ? 2 : 0;
}

__attribute__((noinline)) int tagged_xdp(struct xdp_md *ctx __arg_ctx)
{
	return ctx ? ctx->rx_queue_index : 0;
}

SEC("tc")
int program(struct __sk_buff *ctx)
{
	return of_skb(ctx) + of_xdp((void *)ctx) + of_kernel_skb((void *)ctx) + tagged_void(ctx) +
	       tagged_xdp((void *)ctx);
}
