// WV0044: a loop over the control groups below one that may be NULL.
#include "kernel_iterators.h"
struct bpf_iter_meta { __u64 session_id; } __attribute__((preserve_access_index));
struct bpf_iter__cgroup { struct bpf_iter_meta *meta; struct cgroup *cgroup; };
SEC("iter/cgroup") int count(struct bpf_iter__cgroup *ctx) {
  struct cgroup *cgroup = ctx->cgroup;
  struct bpf_iter_css it;
  struct cgroup_subsys_state *css;
  int found = 0;
  bpf_iter_css_new(&it, &cgroup->self, 1);
  while ((css = bpf_iter_css_next(&it))) if (css->id == 1) found = 1;
  bpf_iter_css_destroy(&it);
  return found;
}
