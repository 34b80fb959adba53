// WV0060: what an iterator pointed to is used after the iterator was given back.
#include "iterator.h"
SEC("tc") int late(struct __sk_buff *skb) {
  struct bpf_iter_num it;
  bpf_iter_num_new(&it, 0, 9);
  int *i = bpf_iter_num_next(&it);
  bpf_iter_num_destroy(&it);
  return i ? *i : 0;
}
char _license[] SEC("license") = "GPL";
