/* Open-coded iterators as newer headers of libbpf declare them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_iter_num { __u64 __opaque[1]; } __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
#define FOR(i, from, to) \
  for (struct bpf_iter_num it __attribute__((aligned(8), cleanup(end_iter))), *p = (bpf_iter_num_new(&it, from, to), &it); \
       (i = bpf_iter_num_next(&it));)
static inline __attribute__((always_inline)) void end_iter(struct bpf_iter_num *it) { bpf_iter_num_destroy(it); }
