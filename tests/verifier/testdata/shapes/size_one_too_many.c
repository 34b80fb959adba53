// WV0062: as size_kept_elsewhere.c, but 65 bytes are possible.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int rest(struct __sk_buff *skb) {
  char body[64];
  __u32 n = skb->len - 20;
  if (n - 2 > 63) return 0;
  return bpf_skb_load_bytes(skb, 20, body, n);
}
char _license[] SEC("license") = "GPL";
