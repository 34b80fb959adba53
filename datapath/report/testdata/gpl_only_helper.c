/* Printing is for programs under the GPL. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
int hello(struct __sk_buff *skb)
{
	static const char text[] = "hello";

	bpf_trace_printk(text, sizeof(text));
	return 0;
}

char LICENSE[] SEC("license") = "Proprietary";
