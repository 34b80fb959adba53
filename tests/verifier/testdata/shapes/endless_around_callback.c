// hole-WV0017: an endless loop around a helper that calls back; the kernel (6.18) takes it for a round of the helper.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
static long each(__u32 i, void *context) { return 0; }
SEC("tc") int forever(struct __sk_buff *skb) {
  for (;;) {
    bpf_loop(1, each, 0, 0);
    asm volatile("" ::: "memory");
  }
  return 0;
}
char _license[] SEC("license") = "GPL";
