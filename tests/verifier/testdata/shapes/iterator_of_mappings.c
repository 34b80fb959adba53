// accepted: a loop over the mappings of the current task.
#include "kernel_iterators.h"
SEC("raw_tp/sched_switch") int count(void *ctx) {
  struct bpf_iter_task_vma it;
  struct vm_area_struct *vma;
  int found = 0;
  bpf_iter_task_vma_new(&it, bpf_get_current_task_btf(), 0);
  while ((vma = bpf_iter_task_vma_next(&it))) if (vma->vm_end - vma->vm_start > 4096) found++;
  bpf_iter_task_vma_destroy(&it);
  return found;
}
