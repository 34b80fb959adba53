/* Counters, per CPU and exact. tc programs run with softirqs off, so plain additions do; programs of a cgroup run in
 * process context, where a softirq may interrupt them between load and store: those add atomically. */
#pragma once

#include "flow.h"

INLINE void add(const struct flow *f, __u64 *counter, __u64 value)
{
	if (f->flags & FLOW_L3)
		__sync_fetch_and_add(counter, value);
	else
		*counter += value;
}

INLINE void count(const struct flow *f, __u32 reason, __u32 direction, __u64 bytes)
{
	__u32 key = reason << 2 | direction;
	struct metric *metric = bpf_map_lookup_elem(&weir_metrics, &key);

	if (!metric)
		return;
	add(f, &metric->packets, 1);
	add(f, &metric->bytes, bytes);
}

INLINE struct endpoint_counters *counters_get(__u32 endpoint)
{
	return bpf_map_lookup_elem(&weir_counters, &endpoint);
}

INLINE void count_sent(const struct flow *f, __u32 endpoint, __u64 bytes)
{
	struct endpoint_counters *counters = counters_get(endpoint);

	if (!counters)
		return;
	add(f, &counters->tx_packets, 1);
	add(f, &counters->tx_bytes, bytes);
}

INLINE void count_received(const struct flow *f, __u32 endpoint, __u64 bytes)
{
	struct endpoint_counters *counters = counters_get(endpoint);

	if (!counters)
		return;
	add(f, &counters->rx_packets, 1);
	add(f, &counters->rx_bytes, bytes);
}
