/* The struct ends before what is read. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("tp_btf/sched_switch")
int BPF_PROG(read_past_end, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 *words = (__u64 *)next;

	bpf_printk("%d", words[8]);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
