// WV0150: the program writes over the iterator's state.
#include "iterator.h"
SEC("tc") int spoil(struct __sk_buff *skb) {
  struct bpf_iter_num it;
  bpf_iter_num_new(&it, 0, 9);
  *(volatile __u64 *)&it = skb->mark;
  bpf_iter_num_destroy(&it);
  return 0;
}
char _license[] SEC("license") = "GPL";
