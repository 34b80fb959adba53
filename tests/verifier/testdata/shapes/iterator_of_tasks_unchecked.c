// WV0060: the first task is read whether there is one or not.
#include "kernel_iterators.h"
SEC("tc") int count(struct __sk_buff *skb) {
  struct bpf_iter_task it;
  struct task_struct *task;
  int found = 0;
  bpf_iter_task_new(&it, (void *)0, 0);
  task = bpf_iter_task_next(&it);
  found = task->pid;
  bpf_iter_task_destroy(&it);
  return found;
}
