// accepted: source NAT for IPv6 with a chain of extension headers, addresses compared word by word.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
struct address { __u32 word[4]; };
struct tuple { struct address source, destination; __u16 sport, dport; __u8 protocol, direction; __u16 pad; };
struct flow { struct address to; __u16 port; __u16 flags; __u32 packets; __u64 seen; };
struct route { __u32 prefix; struct address net; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 1024); __type(key, struct tuple); __type(value, struct flow); } flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(map_flags, BPF_F_NO_PREALLOC); __uint(max_entries, 64); __type(key, struct route); __type(value, __u32); } routes SEC(".maps");
const volatile struct address node = {{1, 2, 3, 4}}, outside = {{5, 6, 7, 8}};
const volatile __u32 masquerade = 1;
#define INLINE static inline __attribute__((always_inline))
INLINE int same(const struct address *a, const volatile struct address *b) {
  return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] && a->word[3] == b->word[3];
}
INLINE int local(const struct address *a) {
  __u32 first = bpf_ntohl(a->word[0]);
  if ((first & 0xffc00000) == 0xfe800000 || (first & 0xff000000) == 0xff000000) return 1;
  return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == 0 && (a->word[3] == 0 || a->word[3] == bpf_htonl(1));
}
INLINE int headers(struct __sk_buff *skb, int at, __u8 *next) {
#pragma unroll
  for (int i = 0; i < 6; i++) {
    struct { __u8 next, length; __u16 rest; __u32 id; } h;
    if (*next == IPPROTO_TCP || *next == IPPROTO_UDP || *next == IPPROTO_ICMPV6 || *next == 132) return at;
    if (*next == IPPROTO_NONE) return -1;
    if (bpf_skb_load_bytes(skb, at, &h, sizeof(h)) < 0) return -2;
    switch (*next) {
      case IPPROTO_FRAGMENT:
        if (h.rest & bpf_htons(0xfff8)) return -3;
        at += 8;
        break;
      case IPPROTO_AH:
        at += (h.length + 2) * 4;
        break;
      case IPPROTO_HOPOPTS:
      case IPPROTO_ROUTING:
      case IPPROTO_DSTOPTS:
        at += (h.length + 1) * 8;
        break;
      default:
        return -4;
    }
    *next = h.next;
  }
  return -5;
}
INLINE int rewrite(struct __sk_buff *skb, int at, __u8 protocol, struct address *old, struct address *fresh, __u16 from, __u16 to, int source) {
  int check = protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : protocol == IPPROTO_ICMPV6 ? 2 : 0;
  __s64 sum = bpf_csum_diff((void *)old, 16, (void *)fresh, 16, 0);
  if (bpf_skb_store_bytes(skb, ETH_HLEN + (source ? 8 : 24), fresh, 16, 0) < 0) return -1;
  if (check) {
    __u64 flags = 0x10 | (protocol == IPPROTO_UDP ? 0x20 : 0);
    if (bpf_l4_csum_replace(skb, at + check, 0, sum, flags) < 0) return -2;
    if (from != to && protocol != IPPROTO_ICMPV6) {
      if (bpf_l4_csum_replace(skb, at + check, from, to, 2 | (flags & 0x20)) < 0) return -3;
      if (bpf_skb_store_bytes(skb, at + (source ? 0 : 2), &to, 2, 0) < 0) return -4;
    }
  }
  return 0;
}
SEC("tc") int nat6(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ethhdr *eth = data;
  struct ipv6hdr *ip = data + sizeof(*eth);
  if ((void *)(ip + 1) > end) return TC_ACT_OK;
  if (eth->h_proto != bpf_htons(ETH_P_IPV6)) return TC_ACT_OK;
  struct tuple key = {}, back = {};
  __builtin_memcpy(&key.source, &ip->saddr, 16);
  __builtin_memcpy(&key.destination, &ip->daddr, 16);
  __u8 next = ip->nexthdr;
  int at = headers(skb, ETH_HLEN + sizeof(*ip), &next);
  if (at < 0) return at == -1 ? TC_ACT_OK : TC_ACT_SHOT;
  key.protocol = next;
  struct { __u16 source, destination; } ports;
  __u8 type = 0;
  switch (next) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case 132:
      if (bpf_skb_load_bytes(skb, at, &ports, 4) < 0) return TC_ACT_SHOT;
      key.sport = ports.source;
      key.dport = ports.destination;
      break;
    case IPPROTO_ICMPV6:
      if (bpf_skb_load_bytes(skb, at, &type, 1) < 0) return TC_ACT_SHOT;
      if (type == 128 || type == 129) {
        if (bpf_skb_load_bytes(skb, at + 4, &ports, 4) < 0) return TC_ACT_SHOT;
        if (type == 128) key.sport = ports.source;
        else key.dport = ports.source;
      } else if (type >= 130 && type <= 137) return TC_ACT_OK;
      break;
    default:
      return TC_ACT_SHOT;
  }
  if (local(&key.source) || local(&key.destination)) return TC_ACT_OK;
  int reply = 0;
  struct flow *flow = bpf_map_lookup_elem(&flows, &key);
  if (!flow) {
    back.source = key.destination;
    back.destination = key.source;
    back.sport = key.dport;
    back.dport = key.sport;
    back.protocol = key.protocol;
    flow = bpf_map_lookup_elem(&flows, &back);
    reply = flow != 0;
  }
  if (!flow) {
    if (same(&key.source, &node)) return TC_ACT_OK;
    struct route route = { .prefix = 128, .net = key.destination };
    __u32 *found = bpf_map_lookup_elem(&routes, &route);
    if (!found && !masquerade) return TC_ACT_OK;
    struct flow fresh = { .seen = bpf_ktime_get_ns(), .port = key.sport };
    fresh.to.word[0] = outside.word[0];
    fresh.to.word[1] = outside.word[1];
    fresh.to.word[2] = outside.word[2];
    fresh.to.word[3] = found && *found ? *found : outside.word[3];
    if (next != IPPROTO_ICMPV6) fresh.port = bpf_htons(32768 + (bpf_get_prandom_u32() & 0x7fff));
    if (bpf_map_update_elem(&flows, &key, &fresh, 0) < 0) return TC_ACT_SHOT;
    flow = bpf_map_lookup_elem(&flows, &key);
    if (!flow) return TC_ACT_SHOT;
  }
  flow->packets++;
  if (next == IPPROTO_TCP) {
    __u8 flags = 0;
    if (bpf_skb_load_bytes(skb, at + 13, &flags, 1) < 0) return TC_ACT_SHOT;
    if (flags & 5) flow->flags |= reply ? 2 : 1;
    if (flow->flags == 3) flow->seen = 0;
  }
  struct address to = flow->to;
  if (reply) {
    if (rewrite(skb, at, next, &key.destination, &to, key.dport, flow->port, 0)) return TC_ACT_SHOT;
  } else if (rewrite(skb, at, next, &key.source, &to, key.sport, flow->port, 1)) return TC_ACT_SHOT;
  data = (void *)(long)skb->data;
  end = (void *)(long)skb->data_end;
  ip = data + sizeof(*eth);
  if ((void *)(ip + 1) > end) return TC_ACT_SHOT;
  if (ip->hop_limit <= 1) return TC_ACT_SHOT;
  ip->hop_limit--;
  return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
