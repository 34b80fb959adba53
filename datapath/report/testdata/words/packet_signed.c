/* WV0072: `data` `index` may be negative */
#include "words.h"
SEC("tc")
int f(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data;
	int index = skb->mark;
	if (data + 64 > (__u8 *)(long)skb->data_end)
		return 0;
	if (index < 16 && index > -5)
		return data[index]; /* here */
	return 0;
}
LICENSE_GPL;
