/* WV0082: `end` */
#include "words.h"
SEC("xdp")
int last(struct xdp_md *ctx)
{
	__u8 *end = (void *)(long)ctx->data_end;
	return *(end - 1); /* here */
}
LICENSE_GPL;
