// accepted: LD_ABS in a static function; what is not in the packet makes the function return 0.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
unsigned long long load_byte(void *skb, unsigned long long off) asm("llvm.bpf.load.byte");
static __attribute__((noinline)) int protocol(struct __sk_buff *skb) { return load_byte(skb, 23); }
SEC("socket") int filter(struct __sk_buff *skb) { return protocol(skb) == 6 ? 128 : 0; }
char _license[] SEC("license") = "GPL";
