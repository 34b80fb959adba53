/* The function has four arguments. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fentry/vfs_read")
int fifth_argument(unsigned long long *ctx)
{
	bpf_printk("%llu", ctx[4]);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
