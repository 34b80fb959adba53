// hole-WV0060: a mapping is read after its iterator was given back.
#include "kernel_iterators.h"
SEC("raw_tp/sched_switch") int count(void *ctx) {
  struct bpf_iter_task_vma it;
  struct vm_area_struct *vma;
  int found = 0;
  bpf_iter_task_vma_new(&it, bpf_get_current_task_btf(), 0);
  vma = bpf_iter_task_vma_next(&it);
  bpf_iter_task_vma_destroy(&it);
  if (vma) found = vma->vm_end > 4096;
  return found;
}
