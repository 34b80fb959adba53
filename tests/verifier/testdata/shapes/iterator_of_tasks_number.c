// WV0103: a number where an iterator over tasks wants a task.
#include "kernel_iterators.h"
SEC("tc") int count(struct __sk_buff *skb) {
  struct bpf_iter_task it;
  struct task_struct *task;
  int found = 0;
  bpf_iter_task_new(&it, (void *)(long)skb->mark, 0);
  while ((task = bpf_iter_task_next(&it))) if (task->pid == skb->mark) found++;
  bpf_iter_task_destroy(&it);
  return found;
}
