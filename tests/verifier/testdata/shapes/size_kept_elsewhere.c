// accepted: the compiler compares n - 1 and hands over n.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("socket") int copy(struct __sk_buff *skb) {
  char head[48] = {};
  __u32 n = skb->len;
  if (n > 48) n = 48;
  asm volatile("" : "+r"(n));
  if (n >= 1 && n <= 48) bpf_skb_load_bytes(skb, 0, head, n);
  return head[1];
}
SEC("tc") int rest(struct __sk_buff *skb) {
  char body[64];
  __u32 n = skb->len - 20;
  if (n - 2 > 60) return 0;
  return bpf_skb_load_bytes(skb, 20, body, n);
}
struct row { __u32 cell[16]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, struct row); } rows SEC(".maps");
SEC("tc") int cell(struct __sk_buff *skb) {
  __u32 key = 1;
  struct row *row = bpf_map_lookup_elem(&rows, &key);
  if (!row) return 0;
  __u32 i = skb->mark;
  if (i >= 3 && i < 16) return row->cell[i];
  return 0;
}
char _license[] SEC("license") = "GPL";
