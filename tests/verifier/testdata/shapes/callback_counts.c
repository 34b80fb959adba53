// accepted: a callback with many branches; what it counts does not multiply its paths, and its rounds are counted.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct tally { __u32 n, odd, big, used; __u8 slot[32]; };
static long each(__u32 i, struct tally *t) {
  __u32 r = bpf_get_prandom_u32();
  if (r & 1) t->odd++;
  if (r & 2) t->n += 3;
  if (r > 1000) t->big++;
  if (r & 4) t->n ^= i;
  if (t->used < 32) t->slot[t->used++] = r;
  return r == 7;
}
SEC("tc") int count(struct __sk_buff *skb) {
  struct tally t = {};
  bpf_loop(skb->len, each, &t, 0);
  return t.odd + t.big;
}
char _license[] SEC("license") = "GPL";
