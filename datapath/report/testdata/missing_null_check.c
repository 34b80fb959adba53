/* A lookup may find nothing. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct session {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct session);
} sessions SEC(".maps");

SEC("tc")
int count_bytes(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct session *session;

	session = bpf_map_lookup_elem(&sessions, &key);
	session->bytes += skb->len;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
