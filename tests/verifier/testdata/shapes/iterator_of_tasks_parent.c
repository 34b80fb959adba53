// WV0116: the threads of a task that was only read out of another one.
#include "kernel_iterators.h"
SEC("tc") int count(struct __sk_buff *skb) {
  struct bpf_iter_task it;
  struct task_struct *task;
  int found = 0;
  bpf_iter_task_new(&it, (void *)0, 0);
  while ((task = bpf_iter_task_next(&it))) {
    struct bpf_iter_task threads;
    bpf_iter_task_new(&threads, task->real_parent, 1);
    if (bpf_iter_task_next(&threads)) found++;
    bpf_iter_task_destroy(&threads);
  }
  bpf_iter_task_destroy(&it);
  return found;
}
