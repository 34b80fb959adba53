// WV0162: a loop over all tasks in a program that may sleep, which holds RCU nowhere.
#include "kernel_iterators.h"
SEC("syscall") int count(struct __sk_buff *skb) {
  struct bpf_iter_task it;
  struct task_struct *task;
  int found = 0;
  bpf_iter_task_new(&it, (void *)0, 0);
  while ((task = bpf_iter_task_next(&it))) if (task->pid == 1) found++;
  bpf_iter_task_destroy(&it);
  return found;
}
