/* Counters, per CPU and exact. tc programs run with softirqs off, so plain additions do; programs of a cgroup run in
 * process context, where a softirq may interrupt them between load and store: those add atomically. `flags` are the flow's,
 * of which only FLOW_L3 counts; who knows its hook says 0 or FLOW_L3, so that nothing is asked at run time. */
#pragma once

#include "flow.h"

INLINE void add(__u32 flags, __u64 *counter, __u64 value)
{
	if (flags & FLOW_L3)
		__sync_fetch_and_add(counter, value);
	else
		*counter += value;
}

INLINE void count(__u32 flags, __u32 reason, __u32 direction, __u64 bytes)
{
	__u32 key = reason << 2 | direction;
	struct metric *metric = bpf_map_lookup_elem(&weir_metrics, &key);

	if (!metric)
		return;
	add(flags, &metric->packets, 1);
	add(flags, &metric->bytes, bytes);
}

INLINE struct endpoint_counters *counters_get(__u32 endpoint)
{
	return bpf_map_lookup_elem(&weir_counters, &endpoint);
}

INLINE void count_sent(__u32 flags, __u32 endpoint, __u64 bytes)
{
	struct endpoint_counters *counters = counters_get(endpoint);

	if (!counters)
		return;
	add(flags, &counters->tx_packets, 1);
	add(flags, &counters->tx_bytes, bytes);
}

INLINE void count_received(__u32 flags, __u32 endpoint, __u64 bytes)
{
	struct endpoint_counters *counters = counters_get(endpoint);

	if (!counters)
		return;
	add(flags, &counters->rx_packets, 1);
	add(flags, &counters->rx_bytes, bytes);
}
