/* Packets of XDP have no socket buffer, so its helpers do not work there. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

static long (*store_bytes)(void *ctx, __u32 offset, const void *from, __u32 len, __u64 flags) = (void *)BPF_FUNC_skb_store_bytes;

SEC("xdp")
int rewrite(struct xdp_md *ctx)
{
	__u8 zero = 0;

	store_bytes(ctx, 0, &zero, 1, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
