// accepted: a kernel function that no kernel has stands behind a check that it is there.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern int weir_no_kernel_has_this(struct __sk_buff *skb) __attribute__((weak)) __ksym;
SEC("tc") int maybe(struct __sk_buff *skb) {
  if (weir_no_kernel_has_this) return weir_no_kernel_has_this(skb);
  return 1;
}
char _license[] SEC("license") = "GPL";
