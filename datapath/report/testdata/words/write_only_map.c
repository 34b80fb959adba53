/* WV0069: `secrets` */
#include "words.h"
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __uint(map_flags, BPF_F_WRONLY_PROG); __type(key, __u32); __type(value, __u64); } secrets SEC(".maps");
SEC("tc")
int read(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *secret = bpf_map_lookup_elem(&secrets, &key);
	return secret ? *secret : 0; /* here */
}
LICENSE_GPL;
