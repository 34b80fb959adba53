/* WV0101: bpf_setsockopt() */
#include "words.h"
SEC("xdp")
int allowed(struct xdp_md *ctx)
{
	return bpf_setsockopt(ctx, 1, 1, ctx, 4); /* here */
}
LICENSE_GPL;
