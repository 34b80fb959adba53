/* What was reached through a struct may be gone while the program sleeps. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("iter.s/task")
int parents_stack(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u64 stack[8];
	long size;

	if (!task)
		return 0;
	size = bpf_get_task_stack(task->real_parent, stack, sizeof(stack), 0);
	if (size > 0)
		bpf_seq_write(ctx->meta->seq, stack, sizeof(stack));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
