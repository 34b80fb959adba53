// WV0174: as weak_function_absent.c, but nothing is checked.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern int weir_no_kernel_has_this(struct __sk_buff *skb) __attribute__((weak)) __ksym;
SEC("tc") int maybe(struct __sk_buff *skb) { return weir_no_kernel_has_this(skb); }
char _license[] SEC("license") = "GPL";
