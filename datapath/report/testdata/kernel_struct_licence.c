/* Kernel structs are for programs under the GPL. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("tp_btf/sched_switch")
int BPF_PROG(closed_source, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return next->pid;
}

char LICENSE[] SEC("license") = "Proprietary";
