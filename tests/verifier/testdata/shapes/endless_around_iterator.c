// WV0017: an endless loop whose body has a loop that ends.
#include "iterator.h"
SEC("tc") int forever(struct __sk_buff *skb) {
  int *i, n = 0;
  for (;;) {
    FOR(i, 0, 1) n ^= 1;
    if (n > 5) break;
  }
  return 0;
}
char _license[] SEC("license") = "GPL";
