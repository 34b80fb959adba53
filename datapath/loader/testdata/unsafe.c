// The structural gate lets it through; the kernel refuses it: the packet is read without a bounds check.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int reads_beyond(struct __sk_buff *skb)
{
	return *(char *)(long)skb->data;
}

char LICENSE[] SEC("license") = "GPL";
