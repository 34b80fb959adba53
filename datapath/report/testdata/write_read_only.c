/* A const variable lies in .rodata, which programs cannot write. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

const volatile __u32 limit = 5;

SEC("tc")
int raise_limit(struct __sk_buff *skb)
{
	*(volatile __u32 *)&limit = skb->mark;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
