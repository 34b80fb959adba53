/* A connect hook allows (1) or denies (0); 2 means nothing. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("cgroup/connect4")
int decide(struct bpf_sock_addr *ctx)
{
	if (ctx->user_port == bpf_htons(25))
		return 2;
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
