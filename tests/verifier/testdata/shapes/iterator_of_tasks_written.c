// WV0087: a task that an iterator gives is written.
#include "kernel_iterators.h"
SEC("tc") int count(struct __sk_buff *skb) {
  struct bpf_iter_task it;
  struct task_struct *task;
  int found = 0;
  bpf_iter_task_new(&it, (void *)0, 0);
  while ((task = bpf_iter_task_next(&it))) task->pid = 1;
  bpf_iter_task_destroy(&it);
  return found;
}
