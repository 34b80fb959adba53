/* The maps, one set per node (instance). Pinned and shared by the loader, by name.
 *
 * max_entries below are defaults: the loader may set others before the load (weir_ct, weir_ipcache*, weir_addresses,
 * weir_events; the inner policy maps when it makes them).
 */
#pragma once

#include "abi.h"
#include "abi_service.h"
#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct config);
	__uint(max_entries, 1);
} weir_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct state);
	__uint(max_entries, 1);
} weir_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, REVISIONS_MAX);
} weir_revisions SEC(".maps");

/* VLANs whose frames pass an outer device unjudged; see vlan.h. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct vlan_key);
	__type(value, __u32);
	__uint(max_entries, 16384);
} weir_vlans SEC(".maps");

/* interface index -> endpoint id */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_ifindex SEC(".maps");

/* The programs' own cache in front of weir_ifindex, by the low bits of the interface index. A hit counts only when
 * the endpoint's record names the same interface, so user space never has to clear it. */
#define IFINDEX_CACHE_MAX 16384
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, IFINDEX_CACHE_MAX);
} weir_ifindex_cache SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct endpoint);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_endpoints SEC(".maps");

/* cookie of a network namespace -> endpoint id: whose sockets they are */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_netns SEC(".maps");

/* cgroup id -> endpoint id */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct endpoint_counters);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address);
	__type(value, struct address_owner);
	__uint(max_entries, 16384);
} weir_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct ipcache_entry);
	__uint(max_entries, 262144);
} weir_ipcache_exact SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ipcache_prefix);
	__type(value, struct ipcache_entry);
	__uint(max_entries, 262144);
} weir_ipcache SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct policy_slot);
	__uint(max_entries, POLICY_SLOTS_MAX);
} weir_policy_slots SEC(".maps");

/* Template of the maps inside weir_policies; user space makes one per policy, as large as it likes. Sizes instead of
 * types, because clang describes a type only by name when it is reached through two pointers. */
struct policy_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct policy_key));
	__uint(value_size, sizeof(struct policy_entry));
	__uint(max_entries, 16384);
};

/* Never filled; gives BTF the types of the maps above. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, struct policy_entry);
	__uint(max_entries, 1);
} weir_policy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, sizeof(__u32));
	__uint(max_entries, POLICY_SLOTS_MAX);
	__array(values, struct policy_map);
} weir_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct policy_destination);
	__uint(max_entries, 65536);
} weir_policy_destinations SEC(".maps");

/* A plain hash, not an LRU: an LRU that is full throws out established flows. Full means that new flows are dropped
 * (155) until weir_gc has run; what is established stays. Preallocated, so that an insert never sleeps or fails for
 * memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ct_key);
	__type(value, struct ct_entry);
	__uint(max_entries, 131072);
} weir_ct SEC(".maps");

/* What no policy for the host can cut off. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct failsafe_key);
	__type(value, struct failsafe);
	__uint(max_entries, FAILSAFES_MAX);
} weir_failsafe SEC(".maps");

/* Connections that the proxy judges, by the low bits of their handle's number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct handle);
	__uint(max_entries, HANDLES_MAX);
} weir_handles SEC(".maps");

/* Handles held now, by share; and of all: element SHARES_MAX; and where the search for a free one goes on: SHARES_MAX + 1. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, SHARES_MAX + 2);
} weir_handle_holdings SEC(".maps");

/* Numbers of new handles, each a __u32, for who wants to know before the connection arrives. Full: counted in weir_handles_untold, and who
 * gets the connection asks. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NEW_HANDLES_BYTES);
} weir_new_handles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} weir_handles_untold SEC(".maps");

/* The proxy's sockets to the servers: (socket, server) as they send -> number of the handle; before the first packet
 * {socket cookie} -> number. Preallocated, as packets insert. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct ct_key);
	__type(value, __u32);
	__uint(max_entries, 2 * HANDLES_MAX);
} weir_upstreams SEC(".maps");

/* ---- working memory ----------------------------------------------------------------------------------------------
 *
 * What has no room on the stack is made in memory of the CPU. That is safe only while nothing else on the CPU uses it, and who
 * may come between depends on the hook:
 *
 *     hook                                       runs                                      may be interrupted by
 *     tc (tcx), XDP native and generic           softirqs off: NAPI, __dev_queue_xmit(),   nothing of ours: hard interrupts run no
 *                                                tun and test runs alike                   program of these, and none of these runs
 *                                                                                          inside another (no bpf_clone_redirect()
 *                                                                                          but into a backlog, or by
 *                                                                                          programs that pass its mark)
 *     cgroup_skb, cgroup/connect4 and so on,     in process context only pinned to the     softirqs, so tc and XDP; where the kernel
 *     syscall (weir_gc)                          CPU (migrate_disable()): softirqs and     preempts, other processes' programs too
 *                                                preemption on
 *
 * (PREEMPT_RT: "softirqs off" is a lock of the CPU there, which excludes alike.) Hence:
 *   - weir_ct_new, weir_nat_scratch, weir_arrival, weir_denials, weir_event_clock and weir_exceeded_rate belong to tc and XDP. Nothing else may
 *     touch them.
 *   - The others have their stack, or claim a record of weir_ct_claims for as long as they need it.
 *   - Counters of the CPU are added to atomically by the others (lib/metrics.h).
 * tests/datapath/scratch_test.ts holds every program to it. */

/* Where an entry of weir_ct is made, for 168 bytes have no room on the stack; so it is whole when others first see it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ct_entry);
	__uint(max_entries, 1);
} weir_ct_new SEC(".maps");

/* The same for programs of a cgroup. Each claims a record, because the claims of processes that preempt each other do
 * not end in the order in which they began; more than these at once on one CPU find none, and their new flow is dropped (155). */
#define CT_CLAIMS_MAX 8
struct ct_claim {
	struct ct_entry entry;
	__u32 taken;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct ct_claim);
	__uint(max_entries, CT_CLAIMS_MAX);
} weir_ct_claims SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct error_budget);
	__uint(max_entries, ENDPOINTS_MAX);
} weir_error_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct holding);
	__uint(max_entries, HOLDING_MAX);
} weir_holdings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct refused);
	__uint(max_entries, SHARES_MAX);
} weir_refused SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct limits);
	__uint(max_entries, 1);
} weir_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct frag_sender);
	__uint(max_entries, FRAG_SENDERS);
} weir_frag_senders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct metric);
	__uint(max_entries, METRICS_MAX);
} weir_metrics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, LOST_MAX);
} weir_lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct event_counts);
	__uint(max_entries, EVENT_HOLDERS_MAX);
} weir_event_counts SEC(".maps");

/* addresses that user space asks for -> 1 once weir_in_use has seen a flow */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
	__uint(max_entries, ASKED_MAX);
} weir_asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct troubles);
	__uint(max_entries, EVENT_HOLDERS_MAX);
} weir_troubles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct event_share);
	__uint(max_entries, EVENT_HOLDERS_MAX);
} weir_event_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} weir_events SEC(".maps");

/* ---- services, see abi_service.h --------------------------------------------------------------------------- */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct frontend_key);
	__type(value, struct frontend);
	__uint(max_entries, FRONTENDS_MAX);
} weir_frontends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, BACKENDS_MAX);
} weir_backends SEC(".maps");

/* Template of a selection. BPF_F_INNER_MAP, so that each may have the size it needs. */
struct selection_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 2);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(key_size, sizeof(__u32));
	__uint(max_entries, SELECTIONS_MAX);
	__array(values, struct selection_map);
} weir_selections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
	__uint(max_entries, 65536);
} weir_affinity SEC(".maps");

/* Who has got how many records of weir_affinity lately: affinity_admits(). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct affinity_rate);
	__uint(max_entries, AFFINITY_RATES);
} weir_affinity_rates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_range);
	__type(value, __u32);
	__uint(max_entries, 65536);
} weir_source_ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct service_counters);
	__uint(max_entries, SERVICES_MAX);
} weir_service_counters SEC(".maps");

/* A plain hash like weir_ct, and for the same reason. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct nat_key);
	__type(value, struct nat_entry);
	__uint(max_entries, 131072);
} weir_nat SEC(".maps");

/* Interface index -> addresses; only devices that differ from `struct config` are in it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct outer_addresses);
	__uint(max_entries, 64);
} weir_outer_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct masquerade_exception);
	__type(value, __u32);
	__uint(max_entries, 16384);
} weir_masquerade_exceptions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct socket_key);
	__type(value, struct socket_peer);
	__uint(max_entries, 65536);
} weir_sockets SEC(".maps");

/* The same of TCP connections, apart: who makes many forgets nothing but what getpeername() would have shown. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct socket_key);
	__type(value, struct socket_peer);
	__uint(max_entries, 65536);
} weir_sockets_tcp SEC(".maps");

/* Keys of weir_sockets in the order in which they came, per group of cgroups: socket_insert(). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct socket_key);
	__uint(max_entries, SOCKET_GROUPS * SOCKET_PLACES);
} weir_socket_places SEC(".maps");

/* How many have come, per group. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, SOCKET_GROUPS);
} weir_socket_turns SEC(".maps");
