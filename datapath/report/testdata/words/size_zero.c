/* WV0106: `count` */
#include "words.h"
SEC("tc")
int copy(struct __sk_buff *skb)
{
	char buffer[64] = {};
	__u32 count = skb->mark;
	if (count > sizeof(buffer))
		return 0;
	return bpf_skb_load_bytes(skb, 0, buffer, count); /* here */
}
LICENSE_GPL;
