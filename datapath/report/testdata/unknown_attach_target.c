/* The loader puts in the real function later. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fentry/dummy_function")
int BPF_PROG(decided_later, struct file *file)
{
	return file->f_flags == 1;
}

char LICENSE[] SEC("license") = "GPL";
