// WV0120: an iterator that is not given back.
#include "iterator.h"
SEC("tc") int keep(struct __sk_buff *skb) {
  struct bpf_iter_num it;
  bpf_iter_num_new(&it, 0, 9);
  int *i = bpf_iter_num_next(&it);
  return i ? *i : 0;
}
char _license[] SEC("license") = "GPL";
