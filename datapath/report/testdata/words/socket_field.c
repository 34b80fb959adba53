/* WV0077: socket */
#include "words.h"
SEC("tc")
int field(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return 0;
	return *(volatile __u8 *)((char *)sk + 1); /* here */
}
LICENSE_GPL;
