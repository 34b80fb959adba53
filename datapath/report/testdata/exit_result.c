/* A program at a function's exit watches; what it returns is not asked for. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fexit/vfs_read")
int BPF_PROG(returns_result, struct file *file, char *buf, unsigned long count, __s64 *pos, long ret)
{
	return ret;
}

char LICENSE[] SEC("license") = "GPL";
