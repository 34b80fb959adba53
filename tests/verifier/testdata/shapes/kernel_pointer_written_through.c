// WV0087: a kernel pointer in a map value is written through.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define __kptr_untrusted __attribute__((btf_type_tag("kptr_untrusted")))
struct task_struct { int pid; } __attribute__((preserve_access_index));
struct entry { __u64 seen; struct task_struct __kptr_untrusted *task; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, struct entry); } entries SEC(".maps");
SEC("tc") int pid_of(struct __sk_buff *skb) {
  __u32 key = skb->ifindex;
  struct entry *entry = bpf_map_lookup_elem(&entries, &key);
  if (!entry) return 0;
  entry->seen++;
  struct task_struct *task = entry->task;
  if (task) task->pid = 1;
  return 0;
}
char _license[] SEC("license") = "GPL";
