// accepted: a timer that sets itself again from its own function.
#include <linux/bpf.h>
#define CLOCK_MONOTONIC 1
#include <bpf/bpf_helpers.h>
struct entry { struct bpf_timer timer; __u64 seen; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, struct entry); } entries SEC(".maps");
static int expire(void *map, __u32 *key, struct entry *entry) {
  if (entry->seen + 1000000000 < bpf_ktime_get_ns()) bpf_map_delete_elem(map, key);
  else {
    bpf_timer_set_callback(&entry->timer, expire);
    bpf_timer_start(&entry->timer, 1000000000, 0);
  }
  return 0;
}
SEC("tc") int see(struct __sk_buff *skb) {
  __u32 key = skb->ifindex;
  struct entry fresh = {}, *entry = bpf_map_lookup_elem(&entries, &key);
  if (!entry) {
    bpf_map_update_elem(&entries, &key, &fresh, BPF_NOEXIST);
    entry = bpf_map_lookup_elem(&entries, &key);
    if (!entry) return 0;
    bpf_timer_init(&entry->timer, &entries, CLOCK_MONOTONIC);
    bpf_timer_set_callback(&entry->timer, expire);
    bpf_timer_start(&entry->timer, 1000000000, 0);
  }
  entry->seen = bpf_ktime_get_ns();
  return 0;
}
char _license[] SEC("license") = "GPL";
