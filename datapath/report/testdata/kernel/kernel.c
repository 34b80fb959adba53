/* What programs attach to in the kernel of types.h. */
#include "types.h"

typedef void (*btf_trace_sched_switch)(void *data, _Bool preempt, struct task_struct *prev,
				       struct task_struct *next, unsigned int prev_state);
btf_trace_sched_switch sched_switch;
struct bpf_iter__task iter_context;
struct dentry dentry;
struct seq_file seq_file;

int bpf_iter_task(struct bpf_iter_meta *meta, struct task_struct *task)
{
	return task->pid + (int)meta->seq_num;
}

long vfs_read(struct file *file, char *buf, unsigned long count, __s64 *pos)
{
	return file->f_flags + (long)count + *pos + (long)buf;
}
