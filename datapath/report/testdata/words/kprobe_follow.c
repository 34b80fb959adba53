/* WV0060: `sk` */
// fix: BPF_CORE_READ(sk, drops)
#include "words.h"
struct sock_part { __u32 family; __u32 state; };
struct sock_like { struct sock_part part; __u32 drops; };
struct pt_regs_like { unsigned long r[15]; };
SEC("kprobe/tcp_connect")
int connecting(struct pt_regs_like *ctx)
{
	struct sock_like *sk = (struct sock_like *)ctx->r[14];

	if (!sk)
		return 0;
	return sk->drops; /* here */
}
LICENSE_GPL;
