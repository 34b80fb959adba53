// WV0066: as iterator_sum.c, but a number that grows from round to round is an index.
#include "iterator.h"
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u8[64]); } cells SEC(".maps");
SEC("tc") int sum(struct __sk_buff *skb) {
  __u32 zero = 0, at = 0;
  __u8 *cell = bpf_map_lookup_elem(&cells, &zero);
  if (!cell) return 0;
  int *i;
  FOR(i, 0, skb->len) {
    cell[at] = 1;
    at++;
  }
  return 0;
}
char _license[] SEC("license") = "GPL";
