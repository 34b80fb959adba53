// accepted: a chain of extension headers walked in a loop that the compiler does not unroll, each header told apart.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
struct state { __u32 address[8]; __u16 length, ports[2]; __u8 protocol, fragments, routed, options; __u64 marks; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, struct state); } states SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 256); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
SEC("tc") int chain(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ipv6hdr *ip = data + ETH_HLEN;
  __u32 zero = 0;
  struct state *s = bpf_map_lookup_elem(&states, &zero);
  if (!s || (void *)(ip + 1) > end) return TC_ACT_SHOT;
  __builtin_memcpy(s->address, &ip->saddr, 32);
  int length = sizeof(*ip), header = ip->nexthdr, flags = 0;
  __u8 order = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 10; i++) {
    struct { __u8 next, length; __u16 rest; __u32 more; } option;
    __u32 key = header & 255;
    __u64 *count = bpf_map_lookup_elem(&seen, &key);
    if (count) __sync_fetch_and_add(count, 1);
    if (bpf_skb_load_bytes(skb, ETH_HLEN + length, &option, sizeof(option))) return TC_ACT_SHOT;
    switch (header) {
      case IPPROTO_FRAGMENT:
        length += 8;
        flags |= 1;
        if (option.rest & bpf_htons(0xfff8)) flags |= 2;
        if (option.rest & bpf_htons(1)) s->fragments++;
        break;
      case IPPROTO_HOPOPTS:
        if (i) return TC_ACT_SHOT;
        length += (option.length + 1) * 8;
        break;
      case IPPROTO_ROUTING:
        if (option.rest & 1) s->routed = 1;
        if (option.more == 7) flags |= 4;
        length += (option.length + 1) * 8;
        order ^= 3;
        break;
      case IPPROTO_DSTOPTS:
        s->options |= flags & 1 ? 2 : 1;
        length += (option.length + 1) * 8;
        order += 5;
        break;
      case IPPROTO_AH:
        if (option.more & 1) flags |= 8;
        length += (option.length + 2) * 4;
        break;
      case 135:
        order |= 64;
        length += (option.length + 1) * 8;
        break;
      default:
        return TC_ACT_SHOT;
    }
    switch (option.next) {
      case IPPROTO_TCP:
      case IPPROTO_UDP:
      case IPPROTO_ICMPV6:
        s->length = length;
        s->protocol = option.next;
        s->marks = ((__u64)flags << 8) | order;
        if (!(flags & 2) && bpf_skb_load_bytes(skb, ETH_HLEN + length, s->ports, 4)) return TC_ACT_SHOT;
        return flags & 4 ? TC_ACT_SHOT : TC_ACT_OK;
      case IPPROTO_NONE:
        return TC_ACT_SHOT;
    }
    header = option.next;
  }
  return TC_ACT_SHOT;
}
char _license[] SEC("license") = "GPL";
