/* What every program includes: kernel types, helpers, and the few words of C that eBPF needs. */
#pragma once

#include <stddef.h>

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define INLINE static __always_inline
/* A global function: the kernel checks it once, for any arguments of its types, instead of once for every way there.
 * So its pointers may be null for all that it knows: NEVER_NULL says to it what every caller holds to. */
#define NOINLINE __attribute__((noinline))
#define NEVER_NULL(p)                                                                                                  \
	do {                                                                                                           \
		if (!(p))                                                                                              \
			return 0;                                                                                      \
	} while (0)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A load or store that the compiler neither splits, repeats nor moves across another of its kind. */
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Unaligned loads and stores of packet bytes: without the cast clang writes byte by byte. */
#define LOAD16(p) (*(const __u16 *)(p))
#define LOAD32(p) (*(const __u32 *)(p))
#define LOAD64(p) (*(const __u64 *)(p))

#define ETHERNET_LENGTH 14
#define ETHERTYPE_IPV4 bpf_htons(0x0800)
#define ETHERTYPE_ARP bpf_htons(0x0806)
#define ETHERTYPE_IPV6 bpf_htons(0x86dd)

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_SCTP 132

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define PASS 0 /* TC_ACT_OK: to the stack */
#define SHOT 2 /* TC_ACT_SHOT */
#define REDIRECT 7 /* TC_ACT_REDIRECT */

#define PACKET_TYPE_HOST 0

/* First byte of the packet, and the one behind its linear part. In assembler, because clang takes the context's 32-bit
 * fields for 32-bit numbers and copies them with `w4 = w2`, which makes a scalar of the pointer (clang 19, -mcpu=v3). */
INLINE void *packet_start(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data)));
	return p;
}

INLINE void *packet_end(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(offsetof(struct __sk_buff, data_end)));
	return p;
}
