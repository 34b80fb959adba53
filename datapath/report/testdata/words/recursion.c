/* WV0013: down() */
#include "words.h"
static __attribute__((noinline)) int down(int count)
{
	volatile int rest = count - 1;
	return rest > 0 ? down(rest) + 1 : 0;
}
SEC("tc")
int fall(struct __sk_buff *skb)
{
	return down(skb->len);
}
LICENSE_GPL;
