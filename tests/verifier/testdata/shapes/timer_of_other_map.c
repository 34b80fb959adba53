// WV0145: a timer is initialised with another map than the one it lies in.
#include <linux/bpf.h>
#define CLOCK_MONOTONIC 1
#include <bpf/bpf_helpers.h>
struct entry { struct bpf_timer timer; __u64 seen; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, struct entry); } entries SEC(".maps"), others SEC(".maps");
SEC("tc") int see(struct __sk_buff *skb) {
  __u32 key = skb->ifindex;
  struct entry *entry = bpf_map_lookup_elem(&entries, &key);
  if (entry) bpf_timer_init(&entry->timer, &others, CLOCK_MONOTONIC);
  return 0;
}
char _license[] SEC("license") = "GPL";
