/* WV0060: `task` */
// fix: bpf_probe_read_kernel(&copy, sizeof(copy), &task->pid)
#include "words.h"
struct task_like { long state; int pid; };
SEC("tracepoint/sched/sched_switch")
int switching(void *ctx)
{
	struct task_like *task = (struct task_like *)bpf_get_current_task();

	return task->pid; /* here */
}
LICENSE_GPL;
