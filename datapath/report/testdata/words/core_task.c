/* WV0060: `prev` BPF_CORE_READ() */
// fix: BPF_CORE_READ(prev, parent, pid)
#include "words.h"
struct task_like { long state; struct task_like *parent; int pid; };
SEC("raw_tracepoint/sched_switch")
int f(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_like *prev = (void *)ctx->args[1];
	return prev->parent->pid; /* here */
}
LICENSE_GPL;
