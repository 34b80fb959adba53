/* A file is no task. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fentry/vfs_read")
int BPF_PROG(stack_of_file, struct file *file)
{
	__u64 stack[8];

	bpf_get_task_stack((struct task_struct *)file, stack, sizeof(stack), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
