/* WV0105: `count` may be negative */
// fix: unsigned
#include "words.h"
SEC("tc")
int f(struct __sk_buff *skb)
{
	char buffer[64] = {};
	int count = skb->mark;
	if (count > 64)
		return 0;
	return bpf_skb_load_bytes(skb, 0, buffer, count); /* here */
}
LICENSE_GPL;
