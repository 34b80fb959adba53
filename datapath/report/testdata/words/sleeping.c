/* WV0112: bpf_copy_from_user() */
#include "words.h"
SEC("tp_btf/sched_switch")
int copy(__u64 *ctx)
{
	char out[8];
	return bpf_copy_from_user(out, sizeof(out), (void *)0x1000); /* here */
}
LICENSE_GPL;
