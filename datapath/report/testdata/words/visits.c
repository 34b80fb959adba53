/* WV0032: visits.c:8 without a bound */
// fix: bpf_loop()
#include "words.h"
SEC("tc")
int f(struct __sk_buff *skb)
{
	__u64 total = 0;
	for (__u32 i = 0; i < skb->mark; i++) /* here */
		total += bpf_get_prandom_u32();
	return total & 1;
}
LICENSE_GPL;
