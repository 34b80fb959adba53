/* WV0133: 2 */
#include "words.h"
static long each(__u32 index, void *data)
{
	return 2; /* here */
}
SEC("tc")
int loop(struct __sk_buff *skb)
{
	bpf_loop(8, each, 0, 0);
	return 0;
}
LICENSE_GPL;
