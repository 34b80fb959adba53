/* WV0109: `format` */
#include "words.h"
SEC("tc")
int print(struct __sk_buff *skb)
{
	char out[8], format[8] = "12";
	long found;
	__builtin_memset(out, skb->len, sizeof(out));
	bpf_strncmp(out, sizeof(out), format); /* here */
	return 0;
}
LICENSE_GPL;
