/* WV0071: `data` */
#include "words.h"
SEC("cgroup_skb/ingress")
int mark(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data;
	if (data + 1 > (__u8 *)(long)skb->data_end)
		return 1;
	*data = 7; /* here */
	return 1;
}
LICENSE_GPL;
