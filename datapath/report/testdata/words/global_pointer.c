/* WV0140: sum_of() */
#include "words.h"
__attribute__((noinline)) int sum_of(struct session *session)
{
	return session ? session->packets : 0;
}
SEC("tc")
int sum(struct __sk_buff *skb)
{
	return sum_of((struct session *)(long)skb->len); /* here */
}
LICENSE_GPL;
