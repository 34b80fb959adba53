/* Written by hand: nothing is ever put into r0. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("tc")
__attribute__((naked)) int no_result(struct __sk_buff *skb)
{
	asm volatile("exit");
}

char LICENSE[] SEC("license") = "GPL";
