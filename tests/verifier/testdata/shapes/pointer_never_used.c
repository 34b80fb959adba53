// accepted: a pointer is moved by a number without a bound, and used only where the number has one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, char[256]); } texts SEC(".maps");
SEC("tc") int at(struct __sk_buff *skb) {
  __u32 zero = 0;
  char *text = bpf_map_lookup_elem(&texts, &zero);
  if (!text) return 0;
  __u32 n = skb->mark;
  char *p = text + n;
  asm volatile("" : "+r"(p));
  __u32 m = skb->priority;
  return m < 256 ? text[m] : 0;
}
char _license[] SEC("license") = "GPL";
