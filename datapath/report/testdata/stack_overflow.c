/* 640 bytes of buffers in one call chain; there are 512. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

static __attribute__((noinline)) int inner(struct __sk_buff *skb, int at)
{
	char buffer[320];

	bpf_skb_load_bytes(skb, 0, buffer, sizeof(buffer));
	return buffer[at & 255];
}

SEC("tc")
int outer(struct __sk_buff *skb)
{
	char buffer[320];

	bpf_skb_load_bytes(skb, 0, buffer, sizeof(buffer));
	return inner(skb, buffer[0]) + buffer[319];
}

char LICENSE[] SEC("license") = "GPL";
