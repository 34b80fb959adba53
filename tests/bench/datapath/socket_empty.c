/* What a hook at connect() costs when its program does nothing. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("cgroup/connect4")
int empty_connect4(struct bpf_sock_addr *ctx __attribute__((unused)))
{
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
