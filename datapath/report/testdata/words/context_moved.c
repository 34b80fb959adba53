/* WV0111: `next` */
#include "words.h"
SEC("tc")
int moved(struct __sk_buff *skb)
{
	void *next = (char *)skb + 8;
	asm volatile("" : "+r"(next));
	return bpf_skb_pull_data(next, 4); /* here */
}
LICENSE_GPL;
